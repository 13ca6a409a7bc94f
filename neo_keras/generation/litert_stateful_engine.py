"""Decodes with a `.tflite` file that holds its cache, in LiteRT's Interpreter; no TensorFlow."""

import pathlib

from ai_edge_litert.interpreter import Interpreter

from neo_keras.generation.engine import (
    ENCODER_DECODER_SIGNATURES,
    EncoderDecoderEngine,
    Engine,
    chunk_size_for,
)
from neo_keras.generation.flatbuffer import (
    check_decoder,
    check_names,
    check_sizes,
    loading,
    read_signatures,
)
from neo_keras.native_logs import native_log_hidden


class LiteRTStatefulEngine(Engine):
    """Decodes with the signatures of `export.stateful`.

    It takes more time and memory than `LiteRTEngine`, but it runs on every CPU.

    Args:
        path: of the `.tflite` file.
        model_config: `ModelConfig`.
        num_threads: for the arithmetic.

    Raises:
        InputError: LiteRT cannot load the file, or its signatures are not ours.
    """

    def __init__(self, path, model_config, num_threads=2):
        max_seq_len = model_config.max_seq_len
        super().__init__(max_seq_len, chunk_size_for(max_seq_len))
        with loading(path):
            check_decoder(_signatures_of(path), path, model_config)
            self._runners = signature_runners(path, num_threads)

    def reset(self):
        super().reset()
        self._runners["reset"]()

    def _prefill(self, tokens, input_pos):
        self._runners["prefill"](tokens=tokens, input_pos=input_pos)

    def _decode(self, tokens, input_pos):
        return self._runners["decode"](tokens=tokens, input_pos=input_pos)["logits"][0, -1]


class LiteRTEncoderDecoderEngine(EncoderDecoderEngine):
    """Decodes with the signatures of `export.encoder_decoder`.

    Args, Raises:
        as `LiteRTStatefulEngine`.
    """

    def __init__(self, path, model_config, num_threads=2):
        super().__init__(model_config)
        with loading(path):
            _check_encoder_decoder(_signatures_of(path), path, model_config)
            self._runners = signature_runners(path, num_threads)

    def reset(self):
        super().reset()
        self._runners["reset"]()

    def _encode(self, tokens, source_lens):
        self._runners["encode"](tokens=tokens, source_lens=source_lens)

    def _decode(self, tokens, input_pos):
        return self._runners["decode"](tokens=tokens, input_pos=input_pos)["logits"][0, -1]


def signature_runners(path, num_threads=2):
    """Loads a file.

    Returns:
        dict: the name of each signature to a function of its inputs, by name.
    """
    with native_log_hidden():
        interpreter = Interpreter(str(path), num_threads=num_threads)
        interpreter.allocate_tensors()
    names = interpreter.get_signature_list()
    return {name: interpreter.get_signature_runner(name) for name in names}


def _signatures_of(path):
    return read_signatures(pathlib.Path(path).read_bytes())


def _check_encoder_decoder(signatures, path, model_config):
    check_names(signatures, ENCODER_DECODER_SIGNATURES, path)
    sizes = {
        "max_seq_len": signatures["encode"]["inputs"]["tokens"][1],
        "vocab_size": signatures["decode"]["outputs"]["logits"][2],
    }
    check_sizes(sizes, path, model_config)
