"""The `.litertlm` bundle for LiteRT-LM and the apps built on it."""

import json
import pathlib
import tempfile

import litert_lm
from litert_lm_builder import LitertLmFileBuilder, TfLiteModelType
from litert_lm_builder.runtime.proto import llm_metadata_pb2

from neo_keras.export import parity, tflite
from neo_keras.export.litertlm_chat import check_conversation, prompt_template, stop_ids
from neo_keras.export.quantization import QUANTIZATIONS
from neo_keras.export.signatures import litert_lm_signatures
from neo_keras.generation.decoding import generate_text
from neo_keras.generation.engine import Engine, chunk_size_for
from neo_keras.generation.interpreter_runner import interpreter_runner
from neo_keras.generation.keras_runner import keras_engine
from neo_keras.generation.sampler import GREEDY

NUM_PROMPTS = 3


def write(source, path, quantization):
    """Writes a bundle, measures what is in it, and runs it; see `formats.Format`."""
    model, tokenizer = source.model, source.tokenizer
    with tempfile.TemporaryDirectory() as directory:
        inner = pathlib.Path(directory) / "model.tflite"
        tflite.convert(source, inner, quantization, litert_lm_signatures)
        bundle(inner, path, model.config, tokenizer)
        measurement = parity.measure(inner_engine(inner, model.config), source.reference)
    check_text(path, source.once("greedy texts", lambda: greedy_texts(source)), quantization)
    if tokenizer.config.chat_template is not None:
        is_exact = QUANTIZATIONS[quantization].bits == 32
        with LiteRTLM(path) as runtime:
            check_conversation(runtime, keras_engine(model), tokenizer, is_exact)
    return measurement


def inner_engine(path, config):
    """The engine for the `.tflite` of a bundle, outside of LiteRT-LM, to see its logits."""
    runner = interpreter_runner(path)
    runner.functions["prefill"] = runner.functions[f"prefill_{chunk_size_for(config.max_seq_len)}"]
    return Engine(runner, config)


def bundle(inner_tflite, path, config, tokenizer):
    """Puts a `.tflite` with `litert_lm_signatures`, and other parts written beside it, together."""
    metadata = llm_metadata_pb2.LlmMetadata()
    metadata.llm_model_type.generic_model.SetInParent()
    metadata.max_num_tokens = config.max_seq_len
    metadata.jinja_prompt_template = prompt_template(tokenizer.config)
    if tokenizer.config.add_bos_token:
        metadata.start_token.token_ids.ids.append(tokenizer.bos_token_id)
    # LiteRT-LM wants a stop token; where there is none, an id that the model never gives.
    for stop in stop_ids(tokenizer) or [config.vocab_size]:
        metadata.stop_tokens.add().token_ids.ids.append(stop)
    directory = inner_tflite.parent
    (directory / "metadata.pb").write_bytes(metadata.SerializeToString())
    (directory / "tokenizer.json").write_text(_continuing(tokenizer.to_json()), "utf-8")
    builder = LitertLmFileBuilder()
    builder.add_llm_metadata(str(directory / "metadata.pb"))
    builder.add_hf_tokenizer(str(directory / "tokenizer.json"))
    builder.add_tflite_model(str(inner_tflite), TfLiteModelType.PREFILL_DECODE)
    with open(path, "wb") as file:
        builder.build(file)


def _continuing(tokenizer_json):
    """A `tokenizer.json` whose decoder keeps the space before the first word: a text goes on."""
    fields = json.loads(tokenizer_json)
    decoder = fields["decoder"] or {}
    parts = decoder.get("decoders", [decoder])
    for part in parts:
        if "prepend_scheme" in part:
            part["prepend_scheme"] = "never"
    if "decoders" in decoder:
        decoder["decoders"] = [part for part in parts if part["type"] != "Strip"]
    return json.dumps(fields, ensure_ascii=False)


def greedy_texts(source):
    """What the Keras model writes: list of (prompt, number of tokens, text after it)."""
    engine, tokenizer, reference = keras_engine(source.model), source.tokenizer, source.reference
    texts = []
    for prompt_ids in reference.prompts[:NUM_PROMPTS]:
        prompt = tokenizer.decode(prompt_ids[reference.known[prompt_ids]])
        # It may have more tokens than it had: a character that was cut becomes another one.
        num_tokens = engine.max_seq_len - len(tokenizer.encode(prompt))
        num_tokens -= tokenizer.config.add_bos_token
        if prompt and num_tokens > 0:
            settings = {"end_ids": stop_ids(tokenizer)}
            text = "".join(generate_text(engine, tokenizer, prompt, num_tokens, GREEDY, **settings))
            texts.append((prompt, num_tokens, text))
    return texts


def check_text(path, texts, quantization):
    """Raises `VerificationError` unless LiteRT-LM writes the `greedy_texts`.

    Quantized, the two may decide a near-tie differently: then LiteRT-LM need only write text.
    """
    with LiteRTLM(path) as runtime:
        for prompt, num_tokens, expected in texts:
            try:
                text = runtime.continue_greedily(prompt, num_tokens)
            except RuntimeError as error:
                raise parity.VerificationError(
                    f"the LiteRT-LM bundle is wrong: LiteRT-LM fails on {prompt!r} ({error}); "
                    "nothing was written"
                ) from None
            # Of bytes that are no character, the two may make a different number of "\ufffd".
            is_same = text.partition("\ufffd")[0] == expected.partition("\ufffd")[0]
            if not is_same and (QUANTIZATIONS[quantization].bits == 32 or not text):
                raise parity.VerificationError(
                    f"the LiteRT-LM bundle is wrong: it continues {prompt!r} with {text!r}, the "
                    f"Keras model with {expected!r}; nothing was written"
                )


class LiteRTLM(litert_lm.Engine):
    """A bundle, loaded in its own runtime."""

    def __init__(self, path):
        litert_lm.set_min_log_severity(litert_lm.LogSeverity.ERROR)
        super().__init__(str(path), cache_dir=":nocache")  # else it leaves files beside the bundle

    def continue_greedily(self, prompt, max_tokens):
        """The greedy continuation of a prompt, as text."""
        options = {"apply_prompt_template": False, "max_output_tokens": max_tokens}
        with self.create_session(**options) as session:
            session.run_prefill([prompt])
            return session.run_decode().texts[0]

    def answer_greedily(self, message, max_tokens):
        """The greedy answer to the first message of a conversation, as text."""
        greedy = litert_lm.SamplerConfig(top_k=1, temperature=0.0)
        options = {"sampler_config": greedy, "max_output_tokens": max_tokens}
        with self.create_conversation(**options) as conversation:
            return str(conversation.send_message(message))
