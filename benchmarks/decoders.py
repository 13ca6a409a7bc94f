"""The engines of on_device.py: each writes its file once, and then decodes from it, greedily."""

import contextlib
import io
import itertools
import pathlib
import shutil
import tempfile
import time

import gpt2_weights
import numpy as np
from model_files import character_tokenizer

from neo_keras.quiet import native_log_hidden


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
    drafts = False
    temperature = 0.0

    @staticmethod
    def write(files, model, weights, quantization):
        from neo_keras.export import tflite

        path = files.path(f"model-{quantization}.tflite")
        if not path.exists():
            tflite.convert(tflite.write_signatures, model, path, None, quantization)

    def __init__(self, files, quantization, num_threads):
        from neo_keras.generation.litert_engine import LiteRTEngine

        path = files.path(f"model-{quantization}.tflite")
        self._engine = LiteRTEngine(path, files.config, num_threads)
        self._engine.num_drafts *= self.drafts
        self._seed = 0

    def tokens(self, prompt_ids):
        from neo_keras.generation.decoding import generate_ids
        from neo_keras.generation.sampler import Sampler

        self._seed += 1  # each time another text, where it is sampled
        return generate_ids(self._engine, prompt_ids, Sampler(self.temperature), self._seed)


class NeoKerasDrafting(NeoKeras):
    """The same with its drafter: as it comes."""

    drafts = True


class NeoKerasSampling(NeoKerasDrafting):
    """Sampled text is harder to foresee than greedy text, which repeats itself."""

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
        from neo_keras.export import litertlm, signatures, tflite

        with tempfile.TemporaryDirectory() as directory:
            inner = pathlib.Path(directory) / "inner.tflite"
            write_saved_model = signatures.write_functional_for_litert_lm
            tflite.convert(write_saved_model, model, inner, None, quantization)
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


class KerasHub:
    """`GPT2CausalLM.generate`, compiled as it comes."""

    requires = {"keras_hub": "keras-nlp"}
    compiles = True  # anew for each length

    @staticmethod
    def write(files, model, weights, quantization):
        pass  # weights.npz

    def __init__(self, files, quantization, num_threads):
        from neo_keras.quiet import import_tensorflow

        import_tensorflow()
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(num_threads)
        tf.config.threading.set_inter_op_parallelism_threads(num_threads)
        self._model = gpt2_weights.to_keras_hub(files.weights(), files.config)
        self._model.compile(sampler="greedy")

    def decode(self, prompt_ids, num_tokens):
        """As `Stepwise.decode`: the time of the first token is taken off by a second call."""
        token_ids = np.zeros((1, len(prompt_ids) + num_tokens + 1), "int32")
        token_ids[0, : len(prompt_ids)] = prompt_ids
        all_ids, seconds = self._generate(token_ids, len(prompt_ids))
        _, first_seconds = self._generate(all_ids, all_ids.shape[1] - 1)
        return all_ids[0, len(prompt_ids) :].tolist(), seconds - first_seconds

    def _generate(self, token_ids, num_given):
        inputs = {
            "token_ids": token_ids,
            "padding_mask": np.arange(token_ids.shape[1])[None] < num_given,
        }
        begin = time.perf_counter()
        outputs = self._model.generate(inputs, stop_token_ids=None)
        return np.asarray(outputs["token_ids"]), time.perf_counter() - begin


class Transformers:
    """Hugging Face's `generate` with its cache."""

    requires = {"transformers": "transformers", "torch": "torch"}
    compiles = False

    @staticmethod
    def write(files, model, weights, quantization):
        pass  # weights.npz

    def __init__(self, files, quantization, num_threads):
        import torch

        torch.set_num_threads(num_threads)
        torch.set_num_interop_threads(num_threads)
        self._model = gpt2_weights.to_hugging_face(files.weights(), files.config)

    def decode(self, prompt_ids, num_tokens):
        """As `Stepwise.decode`."""
        import torch

        stopwatch = _Stopwatch()
        prompt = torch.tensor([prompt_ids])
        token_ids = self._model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=num_tokens + 1,
            do_sample=False,
            use_cache=True,
            streamer=stopwatch,
        )
        _, first, *_, last = stopwatch.marks  # the prompt is put too
        return token_ids[0, len(prompt_ids) :].tolist(), last - first


class _Stopwatch:
    """A streamer that notes when each token came."""

    def __init__(self):
        self.marks = []

    def put(self, value):
        self.marks.append(time.perf_counter())

    def end(self):
        pass


class LlamaCpp(Stepwise):
    """llama.cpp through the C functions that llama-cpp-python declares; a GGUF of ours."""

    requires = {"llama_cpp": "llama-cpp-python", "gguf": "gguf"}

    @staticmethod
    def write(files, model, weights, quantization):
        path = files.path(f"model-{quantization}.gguf")
        gpt2_weights.write_gguf(weights, files.config, path, quantization)

    def __init__(self, files, quantization, num_threads):
        import llama_cpp

        self._lib = llama_cpp
        with native_log_hidden():
            llama_cpp.llama_backend_init()
            path = str(files.path(f"model-{quantization}.gguf")).encode()
            self._model = llama_cpp.llama_model_load_from_file(
                path, llama_cpp.llama_model_default_params()
            )
            params = llama_cpp.llama_context_default_params()
            params.n_ctx = files.config.max_seq_len
            params.n_threads = params.n_threads_batch = num_threads
            if quantization == "float32":  # its cache is float16 by default
                params.type_k = params.type_v = llama_cpp.GGML_TYPE_F32
            self._context = llama_cpp.llama_init_from_model(self._model, params)
        self._vocab_size = files.config.vocab_size

    def tokens(self, prompt_ids):
        lib = self._lib
        lib.llama_memory_clear(lib.llama_get_memory(self._context), True)
        new_ids = prompt_ids
        while True:
            array = (lib.llama_token * len(new_ids))(*new_ids)
            if lib.llama_decode(self._context, lib.llama_batch_get_one(array, len(new_ids))):
                raise RuntimeError("llama_decode failed")
            logits = lib.llama_get_logits_ith(self._context, -1)
            token_id = int(np.ctypeslib.as_array(logits, (self._vocab_size,)).argmax())
            yield token_id
            new_ids = [token_id]


FAMILIES = {  # name: (class, {precision: of the file})
    "neo_keras": (NeoKeras, {"float32": "float32", "8 bits": "int8"}),
    "drafting": (NeoKerasDrafting, {"float32": "float32", "8 bits": "int8"}),
    "drafting-sampled": (NeoKerasSampling, {"8 bits": "int8"}),
    "litert-lm": (LiteRTLM, {"float32": "float32", "8 bits": "int8"}),
    "litert-torch": (LiteRTTorch, {"float32": "none", "8 bits": "dynamic_wi8_afp32"}),
    "keras-hub": (KerasHub, {"float32": "float32"}),
    "transformers": (Transformers, {"float32": "float32"}),
    "llama.cpp": (LlamaCpp, {"float32": "float32", "8 bits": "Q8_0"}),
}
