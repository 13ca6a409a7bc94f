"""Engines: one sequence in a KV cache, and the logits of its next token."""

import abc

import numpy as np

from neo_keras.errors import InputError
from neo_keras.generation.speculative import DraftState

MAX_CHUNK_SIZE = 64
RESULTS = {"logits": np.float32, "drafts": np.int32}  # what functions return beside the cache


def chunk_size_for(max_seq_len):
    """How many tokens a prefill call takes: a power of two.

    LiteRT-LM takes a prime of 11 or more for a placeholder, and replaces it.
    """
    return min(MAX_CHUNK_SIZE, 1 << (max_seq_len.bit_length() - 1))


class Runner(abc.ABC):
    """Runs a model's functions by name, and keeps the KV cache of one sequence between calls.

    Attributes:
        names: the functions that it has: "decode"; "prefill" or, of an encoder-decoder, "encode";
            "verify" for speculative decoding.
        cache: dict of arrays, which no step changes; None where steps change the cache in place.
    """

    names = ()
    cache = None

    def reset(self):  # noqa: B027
        """Begins a new sequence. Old slots may stay: they are never seen, see `causal_mask`."""

    @abc.abstractmethod
    def run(self, name, **inputs):
        """Runs one function.

        Args:
            name: one of `names`.
            inputs: `tokens`, int32 [1, seq_len]; `input_pos`, int32 [seq_len], their positions; of
                "encode" instead `source_lens`, int32 [1]; of "verify" also `noise`, as
                `GPT.verify`.

        Returns:
            dict of NumPy arrays. "decode": `logits`, float32 [1, vocab_size]; "verify": `logits`,
            float32 [seq_len, vocab_size], and `drafts`, int32 [seq_len, num_speculative_tokens].
        """

    def _keep_cache(self, outputs, to_numpy=np.asarray):
        """What `run` returns of a function's outputs; the others are the cache, if it has one."""
        results = {name: to_numpy(outputs.pop(name))[0] for name in RESULTS if name in outputs}
        if self.cache is not None:
            self.cache = {**self.cache, **outputs}
        return results


class Engine:
    """Decodes one sequence with a decoder-only model.

    Args:
        runner: `Runner`.
        config: `ModelConfig` of its model.

    Attributes:
        position: how many tokens the cache holds.
        max_seq_len: how many it can hold.
        end_token_id: of the token that ends a text, or None: then a text has no end.
        context_shift_keep: how many of the last tokens stay when the cache is full; 0: the text
            ends.
        num_speculative_tokens: how many tokens a step drafts; 0 where the runner cannot verify.
    """

    end_token_id = None

    def __init__(self, runner, config):
        self._runner = runner
        self.max_seq_len, self.vocab_size = config.max_seq_len, config.vocab_size
        self.chunk_size = chunk_size_for(self.max_seq_len)
        self.context_shift_keep = max(self.max_seq_len // 2, 1)
        can_verify = "verify" in runner.names
        self.num_speculative_tokens = config.num_speculative_tokens if can_verify else 0
        self.position, self._drafts = 0, DraftState()

    def begin(self, token_ids):
        """Begins anew after a text; its last token is the next one to decode.

        Args:
            token_ids: sequence of int, not empty; the last `max_seq_len` count.
        """
        self.reset()
        self.prefill(token_ids[-self.max_seq_len : -1])

    def reset(self):
        """Begins a new sequence."""
        self.position, self._drafts = 0, DraftState()
        self._runner.reset()

    def prefill(self, token_ids):
        """Takes in tokens whose logits do not matter.

        Args:
            token_ids: sequence of int, at most `max_seq_len - position`.
        """
        token_ids = np.asarray(token_ids, "int32")
        self._drafts.forget()
        while len(token_ids):
            # A padded chunk must fit: a write past the last slot would move to earlier slots.
            if self.position + self.chunk_size > self.max_seq_len:
                self.decode(token_ids[0])
                token_ids = token_ids[1:]
                continue
            chunk, token_ids = np.split(token_ids, [self.chunk_size])
            tokens = np.zeros((1, self.chunk_size), "int32")
            tokens[0, : len(chunk)] = chunk
            self._runner.run("prefill", tokens=tokens, input_pos=self._positions(self.chunk_size))
            self.position += len(chunk)

    def decode(self, token_id, noise=None):
        """Takes in one token.

        Args:
            token_id: int.
            noise: function of (num_steps, vocab_size) that returns what sampling adds to the logits
                of the next steps: `Sampler.noise`, from the step on that samples the next token.
                With it, decoding is speculative where the runner can verify.

        Returns:
            float32 array [vocab_size], the logits of the token after it.
        """
        if self.position >= self.max_seq_len:
            raise ValueError(f"the cache holds {self.max_seq_len} tokens and is full: reset it")
        token_id = int(token_id)
        if not self._drafts.follow(token_id):
            self._step(token_id, noise)
        self.position += 1
        return self._drafts.logits

    def _step(self, token_id, noise):
        has_room = self.position + 1 + self.num_speculative_tokens <= self.max_seq_len
        if not (self.num_speculative_tokens and noise and has_room and self._drafts.pays):
            tokens = np.array([[token_id]], "int32")
            position = np.array([self.position], "int32")
            outputs = self._runner.run("decode", tokens=tokens, input_pos=position)
            self._drafts.keep([token_id], outputs["logits"])
            return
        token_ids = [token_id, *self._drafts.draft(self.num_speculative_tokens)]
        outputs = self._runner.run(
            "verify",
            tokens=np.array([token_ids], "int32"),
            input_pos=self._positions(len(token_ids)),
            noise=noise(len(token_ids) + self.num_speculative_tokens, self.vocab_size),
        )
        self._drafts.keep(token_ids, **outputs)

    def _positions(self, seq_len):
        return np.arange(self.position, self.position + seq_len, dtype="int32")

    @property
    def num_accepted(self):
        """How many drafted tokens of the text were accepted."""
        return self._drafts.num_accepted

    def check_beam_search(self):
        """Raises `InputError` where there is no going back, as beam search does."""
        if self._runner.cache is None:
            raise InputError(
                "beam search needs a run directory or a SavedModel: a .tflite changes its cache in "
                "place"
            )

    @property
    def state(self):
        """All that it holds of a text; setting it goes back there, or over to another text."""
        self.check_beam_search()
        return self.position, self._runner.cache

    @state.setter
    def state(self, state):
        self.position, self._runner.cache = state
        self._drafts.forget()


class EncoderDecoderEngine(Engine):
    """Decodes with an encoder-decoder: a text is its source, and its target is decoded.

    When the decoder's cache is full, what was written last becomes the source of what follows; but
    a model of pairs was never trained on longer targets.
    """

    def __init__(self, runner, config):
        super().__init__(runner, config)
        self.end_token_id = config.end_token_id
        self.context_shift_keep = self.max_seq_len if self.end_token_id is None else 0

    def begin(self, token_ids):
        self.reset()
        source = np.asarray(token_ids[-self.max_seq_len :], "int32")
        tokens = np.zeros((1, self.max_seq_len), "int32")
        tokens[0, : len(source)] = source
        self._runner.run("encode", tokens=tokens, source_lens=np.array([len(source)], "int32"))

    def prefill(self, token_ids):
        for token_id in token_ids:
            self.decode(token_id)


ENGINES = {"decoder-only": Engine, "encoder-decoder": EncoderDecoderEngine}  # by architecture


def make_engine(runner, config):
    """The `Engine` for a `Runner` and the `ModelConfig` of its model."""
    return ENGINES[config.architecture](runner, config)
