"""The engines of on_device: each writes its file once, and then decodes from it, greedily."""

import time

import gpt2_weights
import numpy as np
from litert_decoders import (
    LiteRTLM,
    LiteRTTorch,
    NeoKeras,
    NeoKerasSampled,
    NeoKerasSpeculative,
    Stepwise,
)

from neo_keras.native_logs import native_log_hidden


class KerasHub:
    """`GPT2CausalLM.generate`, compiled as it comes."""

    requires = {"keras_hub": "keras-nlp"}
    compiles = True  # anew for each length

    @staticmethod
    def write(files, model, weights, quantization):
        pass  # weights.npz

    def __init__(self, files, quantization, num_threads):
        from neo_keras.native_logs import import_tensorflow

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
        """Transformers calls it; nothing is left to do."""


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
    "speculative": (NeoKerasSpeculative, {"float32": "float32", "8 bits": "int8"}),
    "speculative-sampled": (NeoKerasSampled, {"8 bits": "int8"}),
    "litert-lm": (LiteRTLM, {"float32": "float32", "8 bits": "int8"}),
    "litert-torch": (LiteRTTorch, {"float32": "none", "8 bits": "dynamic_wi8_afp32"}),
    "keras-hub": (KerasHub, {"float32": "float32"}),
    "transformers": (Transformers, {"float32": "float32"}),
    "llama.cpp": (LlamaCpp, {"float32": "float32", "8 bits": "Q8_0"}),
}
