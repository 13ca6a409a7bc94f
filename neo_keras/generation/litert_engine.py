"""Decodes with a `.tflite` file on LiteRT. Imports no TensorFlow: all that a small device needs."""

from ai_edge_litert.interpreter import Interpreter

from neo_keras.errors import InputError
from neo_keras.generation.engine import STATEFUL_SIGNATURES, Engine
from neo_keras.quiet import native_log_hidden


class LiteRTEngine(Engine):
    """Decodes with a file whose cache lives inside the interpreter, as variables.

    Args:
        path: of the `.tflite` file.
        model_config: `ModelConfig`.
        num_threads: for the arithmetic.

    Raises:
        InputError: LiteRT cannot load the file, or its signatures are not ours.
    """

    def __init__(self, path, model_config, num_threads=2):
        try:
            with native_log_hidden():
                self._interpreter = Interpreter(str(path), num_threads=num_threads)
                self._interpreter.allocate_tensors()
            names = tuple(sorted(self._interpreter.get_signature_list()))
        except (ValueError, RuntimeError) as error:
            raise InputError(f"LiteRT cannot load {path} ({error}): export it again") from None
        if names != STATEFUL_SIGNATURES:
            raise InputError(
                f"{path} must have the signatures {', '.join(STATEFUL_SIGNATURES)}, got "
                f"{', '.join(names) or 'none'}: export it with export.py"
            )
        self._run_prefill, self._run_decode, self._run_reset = (
            self._interpreter.get_signature_runner(name) for name in ("prefill", "decode", "reset")
        )
        shapes = {
            "max_seq_len": self._interpreter.get_signature_runner("generate").get_input_details()[
                "tokens"
            ]["shape"][1],
            "vocab_size": self._run_decode.get_output_details()["logits"]["shape"][2],
        }
        for name, size in shapes.items():
            if size != getattr(model_config, name):
                raise InputError(
                    f"{path} contradicts itself: its config.json says {name} "
                    f"{getattr(model_config, name)}, its signatures say {size}: export it again"
                )
        chunk_size = int(self._run_prefill.get_input_details()["tokens"]["shape"][1])
        super().__init__(model_config.max_seq_len, chunk_size)

    def reset(self):
        super().reset()
        self._run_reset()

    def _prefill(self, tokens, input_pos):
        self._run_prefill(tokens=tokens, input_pos=input_pos)

    def _decode(self, tokens, input_pos):
        return self._run_decode(tokens=tokens, input_pos=input_pos)["logits"][0, -1]
