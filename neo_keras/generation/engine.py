"""The engine: one sequence in a KV cache, and the logits of its next token."""

import numpy as np

from neo_keras.errors import InputError

MAX_CHUNK_SIZE = 64
RESULTS = {"logits": np.float32, "drafts": np.int32}  # what functions return beside the cache
# After so many steps, drafting goes on where a step had so many drafts accepted. A step of five
# tokens takes about 1.6 times one of a single.
TRIAL_STEPS, MIN_ACCEPTED = 16, 0.7


def chunk_size_for(max_seq_len):
    """How many tokens a prefill call takes."""
    # A power of two: LiteRT-LM takes a prime of 11 or more for a placeholder, and replaces it.
    return min(MAX_CHUNK_SIZE, 1 << (max_seq_len.bit_length() - 1))


class Runner:
    """Runs a model's functions by name, and keeps the KV cache of one sequence between calls.

    Args:
        functions: dict: "decode"; "prefill" or, of an encoder-decoder, "encode"; "verify" for
            speculative decoding; maybe "reset". Each is a function of (inputs, cache), as
            `keras_runner.model_functions` makes them.
        cache: dict of arrays; None where the functions change the cache in place.
    """

    def __init__(self, functions, cache=None):
        self.functions, self.cache = functions, cache

    def reset(self):
        """Begins a new sequence. Old slots may stay: they are never seen, see `causal_mask`."""
        if "reset" in self.functions:
            self.functions["reset"]({}, self.cache)

    def run(self, name, **inputs):
        """Runs the function of a name.

        Args:
            inputs: `tokens`, int32 [1, seq_len], and their positions, `input_pos`, int32 [seq_len];
                of "encode" instead `source_lens`, int32 [1]; of "verify" also `noise`.

        Returns:
            dict of NumPy arrays: `logits`, float32 [seq_len, vocab_size], of "decode" and "verify";
            `drafts`, int32 [seq_len, num_speculative_tokens], of "verify".
        """
        outputs = dict(self.functions[name](inputs, self.cache))
        results = {name: np.asarray(outputs.pop(name))[0] for name in RESULTS if name in outputs}
        if self.cache is not None:
            self.cache = {**self.cache, **outputs}
        return results


class DraftState:
    """Speculative decoding: the tokens that an engine read in one step before they were sampled.

    The first one was sampled, the others were drafted. A draft is accepted if it is what is sampled
    after the token before it.
    """

    def __init__(self):
        self.num_accepted, self._num_steps = 0, 0
        self.keep([], [])

    @property
    def logits(self):
        """float32 [vocab_size], after the last token that was sampled or accepted."""
        return self._logits[self._row]

    @property
    def pays(self):
        """Whether enough is accepted in this text."""
        return self._num_steps < TRIAL_STEPS or self.num_accepted >= MIN_ACCEPTED * self._num_steps

    def follow(self, token_id):
        """Accepts a draft if the token is the next one that was read; returns whether it is."""
        is_accepted = self._token_ids[self._row + 1 : self._row + 2] == [token_id]
        self._row += is_accepted
        self.num_accepted += is_accepted
        return is_accepted

    def draft(self, num_speculative_tokens):
        """What may follow the next token: list of int. The first time, anything."""
        if self._drafts is None:
            return [0] * num_speculative_tokens
        return self._drafts[self._row].tolist()

    def keep(self, token_ids, logits, drafts=None):
        """Keeps what a step read, a list of int, and the outputs of `Runner.run`."""
        self._token_ids, self._logits, self._drafts, self._row = token_ids, logits, drafts, 0
        self._num_steps += drafts is not None


class Engine:
    """Decodes one sequence with a `Runner` of a `ModelConfig`'s model.

    Attributes:
        max_seq_len: how many tokens the cache can hold; `position`: how many it does.
        end_token_id: ends the target of a model of pairs; else None.
        context_shift_keep: how many of the last tokens stay when the cache is full; 0: none.
        num_speculative_tokens: how many tokens a step drafts; 0 where the runner cannot verify.
    """

    def __init__(self, runner, config):
        self._runner = runner
        self._has_encoder = config.architecture == "encoder-decoder"
        self.max_seq_len, self.vocab_size = config.max_seq_len, config.vocab_size
        self.chunk_size = chunk_size_for(self.max_seq_len)
        self.end_token_id = config.end_token_id
        # A source takes all that was written last. Longer targets no model of pairs was trained on.
        keep = self.max_seq_len if self._has_encoder else max(self.max_seq_len // 2, 1)
        self.context_shift_keep = keep if self.end_token_id is None else 0
        can_verify = "verify" in runner.functions
        self.num_speculative_tokens = config.num_speculative_tokens if can_verify else 0
        self._held, self._drafts = [], DraftState()

    @property
    def position(self):
        return len(self._held)

    def begin(self, token_ids, reuse=False):
        """Begins anew after some token ids, or with them as the source of an encoder-decoder.

        The last `max_seq_len` of them count, and the very last is the next to decode.

        Args:
            reuse: what the cache holds of their beginning is not computed again.
        """
        if reuse and not self._has_encoder:
            self._keep_beginning_of(token_ids[-self.max_seq_len :][:-1])
            return self.prefill(token_ids[-self.max_seq_len :][self.position : -1])
        self.reset()
        token_ids = np.asarray(token_ids[-self.max_seq_len :], "int32")
        if self._has_encoder:
            tokens, lens = _padded(token_ids, self.max_seq_len), np.array([len(token_ids)], "int32")
            self._runner.run("encode", tokens=tokens, source_lens=lens)
        else:
            self.prefill(token_ids[:-1])

    def _keep_beginning_of(self, token_ids):
        """Goes back to where what the cache holds and these ids part."""
        pairs = enumerate(zip(self._held, token_ids))
        end = min(self.position, len(token_ids))
        del self._held[next((i for i, (held, given) in pairs if held != given), end) :]
        self._drafts = DraftState()

    def reset(self):
        """Begins a new sequence."""
        self._held, self._drafts = [], DraftState()
        self._runner.reset()

    def prefill(self, token_ids):
        """Takes in up to `max_seq_len - position` tokens without their logits; decoder-only."""
        token_ids = np.asarray(token_ids, "int32")
        self._drafts.keep([], [])  # of another place
        while len(token_ids):
            # A padded chunk must fit: a write past the last slot would move to earlier slots.
            if self.position + self.chunk_size > self.max_seq_len:
                self.decode(token_ids[0])
                token_ids = token_ids[1:]
                continue
            chunk, token_ids = np.split(token_ids, [self.chunk_size])
            self._run("prefill", _padded(chunk, self.chunk_size))
            self._held += chunk.tolist()

    def decode(self, token_id, noise=None):
        """Takes in one token; returns the logits of the token after it, float32 [vocab_size].

        With `noise`, a function of (num_steps, vocab_size), decoding is speculative where the
        runner can: it is `Sampler.noise` from the step on that samples the token after it.
        """
        if self.position >= self.max_seq_len:
            raise ValueError(f"the cache holds {self.max_seq_len} tokens and is full: reset it")
        token_id = int(token_id)
        if not self._drafts.follow(token_id):
            self._step(token_id, noise)
        self._held.append(token_id)
        return self._drafts.logits

    def _step(self, token_id, noise):
        has_room = self.position + 1 + self.num_speculative_tokens <= self.max_seq_len
        if self.num_speculative_tokens and noise and has_room and self._drafts.pays:
            token_ids = [token_id, *self._drafts.draft(self.num_speculative_tokens)]
            noise = noise(len(token_ids) + self.num_speculative_tokens, self.vocab_size)
            outputs = self._run("verify", np.array([token_ids], "int32"), noise=noise)
        else:
            token_ids = [token_id]
            outputs = self._run("decode", np.array([token_ids], "int32"))
        self._drafts.keep(token_ids, **outputs)

    def _run(self, name, tokens, **inputs):
        positions = np.arange(self.position, self.position + tokens.shape[1], dtype="int32")
        return self._runner.run(name, tokens=tokens, input_pos=positions, **inputs)

    @property
    def num_accepted(self):
        return self._drafts.num_accepted

    def check_beam_search(self):
        """Raises `InputError` where there is no going back, as beam search does."""
        if self._runner.cache is None:
            raise InputError("beam search needs a run directory or a SavedModel, got a .tflite")

    @property
    def state(self):
        """All that it holds of a text; setting it goes back there, or over to another text."""
        self.check_beam_search()
        return [*self._held], self._runner.cache

    @state.setter
    def state(self, state):
        held, self._runner.cache = state
        self._held = [*held]
        self._drafts.keep([], [])


def _padded(token_ids, seq_len):
    return np.pad(token_ids, (0, seq_len - len(token_ids)))[None]  # [1, seq_len]
