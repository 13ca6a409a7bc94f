"""What every engine does: it keeps a sequence's cache, and gives the logits of its next token."""

import abc

import numpy as np

from neo_keras.errors import InputError
from neo_keras.generation.speculative import DraftState

MAX_CHUNK_SIZE = 64
IN_PLACE_SIGNATURES = ("decode_in_place", "prefill_in_place")  # see `export.in_place`
VERIFY_SIGNATURE = "verify_in_place"  # the third of them, where the model drafts
STATEFUL_SIGNATURES = ("reset", "prefill", "decode", "sample", "generate")  # `export.stateful`
ENCODER_DECODER_SIGNATURES = ("encode", "decode", "reset")  # `export.encoder_decoder`


def in_place_signatures(model_config):
    """The signatures of `export.in_place` that a file of this model has, in their order."""
    return (*IN_PLACE_SIGNATURES, VERIFY_SIGNATURE)[
        : 3 if model_config.num_speculative_tokens else 2
    ]


def chunk_size_for(max_seq_len):
    """How many tokens a prefill call takes: a power of two.

    LiteRT-LM takes a prime of 11 or more for a placeholder, and replaces it.
    """
    return min(MAX_CHUNK_SIZE, 1 << (max_seq_len.bit_length() - 1))


class Engine(abc.ABC):
    """A model with the cache of one sequence.

    Args:
        max_seq_len: slots in the cache.
        chunk_size: tokens in a call of `_prefill`.

    Attributes:
        position: how many tokens the cache holds.
        end_token_id: of the token that ends a text, or None: then a text has no end.
        context_shift_keep: how many of the last tokens stay when the cache is full; 0: the text
            ends.
        num_speculative_tokens: how many tokens it foresees; then it has a `vocab_size`, too.
    """

    end_token_id = None
    num_speculative_tokens = 0
    _cache = None  # a dict of arrays, each step's another one; of engines that have it so

    def __init__(self, max_seq_len, chunk_size):
        self.max_seq_len = max_seq_len
        self.chunk_size = chunk_size
        self.context_shift_keep = max(max_seq_len // 2, 1)
        self.position = 0
        self._foresight = DraftState()

    def begin(self, token_ids):
        """Begins anew after a text; its last token is the next one to decode.

        Args:
            token_ids: sequence of int, not empty; the last `max_seq_len` count.
        """
        self.reset()
        self.prefill(token_ids[-self.max_seq_len : -1])

    def reset(self):
        """Begins a new sequence. Old slots stay, and are never seen: see `causal_mask`."""
        self.position = 0
        self._foresight = DraftState()

    def prefill(self, token_ids):
        """Takes in tokens of which only the influence on later ones matters.

        Args:
            token_ids: sequence of int, at most `max_seq_len - position`.
        """
        token_ids = np.asarray(token_ids, "int32")
        self._foresight.forget()
        while len(token_ids):
            # A padded chunk must fit: a write past the last slot would move to earlier slots.
            if self.position + self.chunk_size > self.max_seq_len:
                self.decode(token_ids[0])
                token_ids = token_ids[1:]
                continue
            chunk, token_ids = np.split(token_ids, [self.chunk_size])
            padded = np.zeros((1, self.chunk_size), "int32")
            padded[0, : len(chunk)] = chunk
            self._prefill(padded, np.arange(self.chunk_size, dtype="int32") + self.position)
            self.position += len(chunk)

    def decode(self, token_id, noise=None):
        """Takes in one token.

        Args:
            token_id: int.
            noise: function of (num_steps, vocab_size) that returns what sampling adds to the logits
                of the next steps: `Sampler.noise`, from the step on that draws the next token. With
                it, an engine that drafts reads ahead.

        Returns:
            float32 array [vocab_size], the logits of the token after it.
        """
        if self.position >= self.max_seq_len:
            raise ValueError(f"the cache holds {self.max_seq_len} tokens and is full: reset it")
        if not self._foresight.follow(int(token_id)):
            self._take_in(token_id, noise)
        self.position += 1
        return self._foresight.logits

    def _take_in(self, token_id, noise):
        has_room = self.position + 1 + self.num_speculative_tokens <= self.max_seq_len
        if not (self.num_speculative_tokens and noise and has_room and self._foresight.pays):
            position = np.array([self.position], "int32")
            logits = self._decode(np.array([[token_id]], "int32"), position)
            self._foresight.keep([token_id], [logits])
            return
        token_ids = [int(token_id), *self._foresight.draft(self.num_speculative_tokens)]
        positions = np.arange(len(token_ids), dtype="int32") + self.position
        rows = noise(len(token_ids) + self.num_speculative_tokens, self.vocab_size)
        logits, drafts = self._verify(np.array([token_ids], "int32"), positions, rows)
        self._foresight.keep(token_ids, logits, drafts)

    @property
    def num_accepted(self):
        """How many tokens of the text it read before they were drawn."""
        return self._foresight.num_accepted

    @property
    def state(self):
        """All that it holds of a text; setting it goes back there, or over to another text.

        Raises:
            InputError: its cache is changed in place.
        """
        if self._cache is None:
            raise InputError(
                "beams need a run directory or a SavedModel: a .tflite changes its cache in place"
            )
        return self.position, self._cache

    @state.setter
    def state(self, state):
        self.position, self._cache = state
        self._foresight.forget()

    @abc.abstractmethod
    def _prefill(self, tokens, input_pos):
        """Writes int32 [1, chunk_size] tokens at int32 [chunk_size] positions into the cache."""

    @abc.abstractmethod
    def _decode(self, tokens, input_pos):
        """Writes one token, int32 [1, 1] at int32 [1]; returns float32 [vocab_size]."""

    def _verify(self, tokens, input_pos, noise):
        """Of engines that draft: writes n = 1 + `num_speculative_tokens` tokens, int32 [1, n].

        Returns:
            (logits, drafts): float32 [n, vocab_size] and int32 [n, num_speculative_tokens], as
            `GPT.verify`.
        """
        raise NotImplementedError


class EncoderDecoderEngine(Engine):
    """An engine with an encoder: a text is its source, and what comes after it is decoded.

    When the decoder's cache is full, what was written last becomes the source of what follows; but
    a model of pairs was never trained on longer targets.

    Args:
        model_config: `ModelConfig`.
    """

    def __init__(self, model_config):
        super().__init__(model_config.max_seq_len, chunk_size=1)
        self.end_token_id = model_config.end_token_id
        self.context_shift_keep = self.max_seq_len if self.end_token_id is None else 0

    def begin(self, token_ids):
        self.reset()
        source = np.asarray(token_ids[-self.max_seq_len :], "int32")
        padded = np.zeros((1, self.max_seq_len), "int32")
        padded[0, : len(source)] = source
        self._encode(padded, np.array([len(source)], "int32"))

    def _prefill(self, tokens, input_pos):
        self._decode(tokens, input_pos)

    @abc.abstractmethod
    def _encode(self, tokens, source_lens):
        """Reads a source: int32 [1, max_seq_len], of which the first int32 [1] count."""


class FunctionalEngine(Engine):
    """An engine whose cache goes into each call and comes out anew.

    Args:
        max_seq_len, chunk_size: as `Engine`.
        prefill_name: of the signature that takes `chunk_size` tokens.
        cache: dict of the empty cache.
    """

    def __init__(self, max_seq_len, chunk_size, prefill_name, cache):
        super().__init__(max_seq_len, chunk_size)
        self._prefill_name = prefill_name
        self._cache = cache

    def _prefill(self, tokens, input_pos):
        self._cache = self._call(self._prefill_name, tokens, input_pos, self._cache)

    def _decode(self, tokens, input_pos):
        outputs = self._call("decode", tokens, input_pos, self._cache)
        logits = outputs.pop("logits")
        self._cache = outputs
        return np.array(logits)[0, -1]

    @abc.abstractmethod
    def _call(self, signature, tokens, input_pos, cache):
        """Runs a signature; returns a dict of its outputs, the cache under the names it had."""
