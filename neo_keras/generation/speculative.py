"""Speculative decoding: what an engine knows of tokens that it read before they were sampled."""

TRIAL_STEPS = 16
# Tokens that a step must have accepted. One that reads five takes about 1.6 times one of a single.
MIN_ACCEPTED = 0.7


class DraftState:
    """The tokens of an engine's last step, and how many drafts of a text were accepted.

    The first token of a step was sampled, the others were drafted. A draft is accepted if it is
    what is sampled after the token before it.
    """

    def __init__(self):
        self.num_accepted, self._num_steps = 0, 0
        self.forget()

    def forget(self):
        """Another text, or another place in it, comes next."""
        self.keep([], [])

    @property
    def logits(self):
        """float32 [vocab_size], after the last token that was sampled or accepted."""
        return self._logits[self._row]

    @property
    def pays(self):
        """Whether enough is accepted in this text for a longer step to be worth its time."""
        tried = self._num_steps >= TRIAL_STEPS
        return not tried or self.num_accepted >= MIN_ACCEPTED * self._num_steps

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
        """Keeps what a step made of tokens.

        Args:
            token_ids: list of int.
            logits: float32 [len(token_ids), vocab_size].
            drafts: int32 [len(token_ids), num_speculative_tokens], of a speculative step: row i is
                what may follow the token that is sampled after token i.
        """
        self._token_ids, self._logits, self._drafts, self._row = token_ids, logits, drafts, 0
        self._num_steps += drafts is not None
