"""The `.litertlm` bundle for LiteRT-LM and the apps built on it."""

import pathlib
import tempfile

import litert_lm
from litert_lm_builder import LitertLmFileBuilder, TfLiteModelType
from litert_lm_builder.runtime.proto import llm_metadata_pb2

from neo_keras.export import parity, signatures, tflite
from neo_keras.generation.decoding import generate_text
from neo_keras.generation.engine import chunk_size_for, make_engine
from neo_keras.generation.interpreter_runner import InterpreterRunner
from neo_keras.generation.sampler import GREEDY

NUM_PROMPTS = 3

# A base model continues the text that it is given: no roles, nothing added.
PROMPT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message.content is string -%}{{ message.content }}"
    "{%- else -%}{%- for part in message.content -%}{{ part.text }}{%- endfor -%}{%- endif -%}"
    "{%- endfor -%}"
)


def write_inner_tflite(model, path, tokenizer, quantization, converted=None):
    """Writes the `.tflite` for a bundle: its cache comes in and goes out.

    Args:
        model: `GPT`.
        path: of the file.
        tokenizer: `Tokenizer`.
        quantization: one of `quantization.QUANTIZATIONS`.
        converted: as for `tflite.convert`.
    """
    write_saved_model = signatures.write_functional_for_litert_lm
    unk_token_id = tokenizer.unk_token_id
    tflite.convert(write_saved_model, model, path, unk_token_id, quantization, converted)


def bundle(inner_tflite, path, model_config, tokenizer):
    """Puts model, tokenizer and metadata into one file.

    Args:
        inner_tflite: path of what `write_inner_tflite` wrote.
        path: of the bundle.
        model_config: `ModelConfig`.
        tokenizer: `Tokenizer`.
    """
    with tempfile.TemporaryDirectory() as directory:
        metadata, vocabulary = (pathlib.Path(directory) / name for name in ("pb", "tokenizer.json"))
        metadata.write_bytes(_metadata(model_config).SerializeToString())
        tokenizer.save(vocabulary)
        builder = LitertLmFileBuilder()
        builder.add_llm_metadata(str(metadata))
        builder.add_hf_tokenizer(str(vocabulary))
        builder.add_tflite_model(str(inner_tflite), TfLiteModelType.PREFILL_DECODE)
        with open(path, "wb") as file:
            builder.build(file)


def _metadata(config):
    metadata = llm_metadata_pb2.LlmMetadata()
    metadata.llm_model_type.generic_model.SetInParent()
    metadata.max_num_tokens = config.max_seq_len
    metadata.jinja_prompt_template = PROMPT_TEMPLATE
    # LiteRT-LM wants a stop token, and our texts have none: an id that the model never gives.
    metadata.stop_tokens.add().token_ids.ids.append(config.vocab_size)
    return metadata


def check_text(path, engine, tokenizer, reference, quantization):
    """Raises `VerificationError` unless LiteRT-LM writes the text that the engine writes.

    Quantized, the two may decide a near-tie differently: then LiteRT-LM need only write text.

    Args:
        path: of the bundle.
        engine: `Engine` with the same model.
        tokenizer: `Tokenizer`.
        reference: `parity.Reference`, whose windows give the prompts.
        quantization: of the bundle.
    """
    runtime = LiteRTLM(path)
    for prompt, num_tokens in _prompts(tokenizer, reference):
        expected = "".join(generate_text(engine, tokenizer, prompt, num_tokens, GREEDY))
        try:
            text = runtime.continue_greedily(prompt, num_tokens)
        except RuntimeError as error:
            raise parity.VerificationError(
                f"the LiteRT-LM bundle is wrong: LiteRT-LM fails on {prompt!r} ({error}); nothing "
                "was written"
            ) from None
        if text != expected and (quantization == "float32" or not text):
            raise parity.VerificationError(
                f"the LiteRT-LM bundle is wrong: it continues {prompt!r} with {text!r}, the Keras "
                f"model with {expected!r}; nothing was written"
            )
    runtime.close()


def _prompts(tokenizer, reference):
    """Yields the beginnings of windows, and how many tokens the context has room for after each."""
    for window in reference.token_ids[:NUM_PROMPTS]:
        prefix = window[: reference.prefix_len]
        prompt = tokenizer.decode(prefix[reference.known[prefix]])
        # It may have more tokens than it had: a character that was cut becomes another one.
        num_tokens = reference.logits.shape[1] - len(tokenizer.encode(prompt))
        if prompt and num_tokens > 0:
            yield prompt, num_tokens


class LiteRTLM:
    """A bundle, loaded in its own runtime.

    Args:
        path: of the `.litertlm` file.
    """

    def __init__(self, path):
        litert_lm.set_min_log_severity(litert_lm.LogSeverity.ERROR)
        self._cache = tempfile.TemporaryDirectory()  # else it leaves files beside the bundle
        self._engine = litert_lm.Engine(str(path), cache_dir=self._cache.name)

    def continue_greedily(self, prompt, max_tokens):
        """The likeliest continuation of a prompt, as text."""
        session = self._engine.create_session(
            apply_prompt_template=False, max_output_tokens=max_tokens
        )
        try:
            session.run_prefill([prompt])
            return session.run_decode().texts[0]
        finally:
            session.close()

    def close(self):
        self._engine.close()
        self._cache.cleanup()


def inner_engine(path, config):
    """Decodes with the `.tflite` of a bundle outside of LiteRT-LM, to see its logits.

    Args:
        path: of the `.tflite` file.
        config: `ModelConfig`.
    """
    prefill = f"prefill_{chunk_size_for(config.max_seq_len)}"

    def signature_of(name, inputs):
        return prefill if name == "prefill" else name

    return make_engine(InterpreterRunner(path, signature_of=signature_of), config)
