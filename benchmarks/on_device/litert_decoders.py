"""The engines of on_device that run on LiteRT: ours, and LiteRT-LM."""

import contextlib
import io
import itertools
import pathlib
import shutil
import tempfile
import time

import gpt2_weights
from model_files import character_tokenizer

from neo_keras.native_logs import native_log_hidden


class Stepwise:
    """An engine that gives one token at a time: only what comes after the first is timed."""

    compiles = False

    def decode(self, prompt_ids, num_tokens):
        """Continues a prompt by `num_tokens` + 1 tokens.

        Returns:
            (list of int, float): all of them, and the seconds that those after the first took.
        """
        stream = self.tokens(prompt_ids)
        token_ids = [next(stream)]
        begin = time.perf_counter()
        token_ids += itertools.islice(stream, num_tokens)
        return token_ids, time.perf_counter() - begin


class NeoKeras(Stepwise):
    """A `.tflite` of ours in `generate_ids`, the loop that generate.py runs; token by token."""

    requires = {"ai_edge_litert": "ai-edge-litert"}
    speculative = False
    temperature = 0.0

    @staticmethod
    def write(files, model, weights, quantization):
        from neo_keras.export import formats, signatures, tflite

        path = files.path(f"model-{quantization}.tflite")
        if not path.exists():
            source = formats.Source(model)
            tflite.convert(source, path, quantization, signatures.tflite_signatures)

    def __init__(self, files, quantization, num_threads):
        from neo_keras.generation.load import tflite_engine

        path = files.path(f"model-{quantization}.tflite")
        self._engine = tflite_engine(path, files.config, num_threads)
        self._engine.num_speculative_tokens *= self.speculative
        self._seed = 0

    def tokens(self, prompt_ids):
        from neo_keras.generation.decoding import generate_ids
        from neo_keras.generation.sampler import Sampler

        self._seed += 1  # each time another text, where it is sampled
        return generate_ids(self._engine, prompt_ids, Sampler(self.temperature), self._seed)


class NeoKerasSpeculative(NeoKeras):
    """The same with speculative decoding: as `generate.py` has it."""

    speculative = True


class NeoKerasSampled(NeoKerasSpeculative):
    """Greedy text repeats itself, and so more proposals are accepted there than in sampled text."""

    temperature = 0.8


class LiteRTLM:
    """Our `.litertlm` in LiteRT-LM: the speed is what `litert-lm benchmark` prints."""

    requires = {"litert_lm": "litert-lm-api"}
    compiles = False
    name = "model"

    @classmethod
    def path(cls, files, quantization):
        return files.path(f"{cls.name}-{quantization}.litertlm")

    @classmethod
    def write(cls, files, model, weights, quantization):
        from neo_keras.export import formats, litertlm, signatures, tflite

        with tempfile.TemporaryDirectory() as directory:
            inner = pathlib.Path(directory) / "inner.tflite"
            source = formats.Source(model)
            tflite.convert(source, inner, quantization, signatures.litert_lm_signatures)
            path = cls.path(files, quantization)
            tokenizer = character_tokenizer(files.config.vocab_size)
            litertlm.bundle(inner, path, files.config, tokenizer)

    def __init__(self, files, quantization, num_threads):
        import litert_lm

        litert_lm.set_min_log_severity(litert_lm.LogSeverity.ERROR)
        self._path = str(self.path(files, quantization))
        self._backend = litert_lm.Backend.CPU(thread_count=num_threads)
        self._config = files.config
        self._tokenizer = character_tokenizer(files.config.vocab_size)

    def decode(self, prompt_ids, num_tokens):
        """As `Stepwise.decode`; the text is of another run: the benchmark has its own tokens."""
        import litert_lm

        with native_log_hidden():
            benchmark = litert_lm.Benchmark(
                self._path,
                backend=self._backend,
                prefill_tokens=len(prompt_ids),
                decode_tokens=num_tokens,
                max_num_tokens=self._config.max_seq_len,
            )
            info = benchmark.run()
            token_ids = self._continue(prompt_ids, num_tokens + 1)
        return token_ids, num_tokens / info.last_decode_tokens_per_second

    def _continue(self, prompt_ids, num_tokens):
        import litert_lm

        with (
            litert_lm.Engine(self._path, backend=self._backend) as engine,
            engine.create_session(
                apply_prompt_template=False, max_output_tokens=num_tokens
            ) as session,
        ):
            session.run_prefill([self._tokenizer.decode(prompt_ids)])
            return self._tokenizer.encode(session.run_decode().texts[0]).tolist()


class LiteRTTorch(LiteRTLM):
    """The `.litertlm` that Google's own exporter makes of the Hugging Face model, in LiteRT-LM."""

    requires = {"litert_torch": "litert-torch", "transformers": "transformers", **LiteRTLM.requires}
    name = "litert-torch"

    @classmethod
    def write(cls, files, model, weights, quantization):
        import transformers
        from litert_torch.generative.export_hf import export

        config = files.config
        model = gpt2_weights.to_hugging_face(weights, config)
        # What the exporter wants, and GPT-2's configuration does not have.
        model.config.num_key_value_heads = config.num_heads
        model.config.head_dim = config.head_dim
        model.generation_config.eos_token_id = config.vocab_size  # no token: the text has no end
        with tempfile.TemporaryDirectory() as name:
            directory = pathlib.Path(name)
            model.save_pretrained(directory)
            tokenizer_file = directory / "characters.json"
            character_tokenizer(config.vocab_size).save(tokenizer_file)
            tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tokenizer_file))
            tokenizer.save_pretrained(directory)
            with native_log_hidden(), contextlib.redirect_stdout(io.StringIO()):
                export.export(
                    name,
                    name,
                    cache_length=config.max_seq_len,
                    prefill_lengths=[64],
                    quantization_recipe=quantization,
                )
            shutil.move(directory / "model.litertlm", cls.path(files, quantization))
