"""Decodes with an encoder-decoder's `.tflite` file on LiteRT. Imports no TensorFlow."""

import pathlib

from ai_edge_litert.interpreter import Interpreter

from neo_keras.generation.engine import ENCODER_DECODER_SIGNATURES, EncoderDecoderEngine
from neo_keras.generation.flatbuffer import (
    check_names,
    check_sizes,
    loading,
    read_signatures,
)
from neo_keras.quiet import native_log_hidden


class LiteRTEncoderDecoderEngine(EncoderDecoderEngine):
    """Decodes with the signatures of `export.encoder_decoder`; the caches are inside the file.

    Args:
        path: of the `.tflite` file.
        model_config: `ModelConfig`.
        num_threads: for the arithmetic.

    Raises:
        InputError: LiteRT cannot load the file, or its signatures are not ours.
    """

    def __init__(self, path, model_config, num_threads=2):
        super().__init__(model_config)
        with loading(path):
            _check(read_signatures(pathlib.Path(path).read_bytes()), path, model_config)
            with native_log_hidden():
                self._interpreter = Interpreter(str(path), num_threads=num_threads)
                self._interpreter.allocate_tensors()
        self._run_encode, self._run_decode, self._run_reset = (
            self._interpreter.get_signature_runner(name) for name in ENCODER_DECODER_SIGNATURES
        )

    def reset(self):
        super().reset()
        self._run_reset()

    def _encode(self, tokens, source_lens):
        self._run_encode(tokens=tokens, source_lens=source_lens)

    def _decode(self, tokens, input_pos):
        return self._run_decode(tokens=tokens, input_pos=input_pos)["logits"][0, -1]


def _check(signatures, path, model_config):
    check_names(signatures, ENCODER_DECODER_SIGNATURES, path)
    sizes = {
        "max_seq_len": signatures["encode"]["inputs"]["tokens"][1],
        "vocab_size": signatures["decode"]["outputs"]["logits"][2],
    }
    check_sizes(sizes, path, model_config)
