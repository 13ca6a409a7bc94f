"""What an engine knows of tokens that it read before they were drawn."""

TRIAL_STEPS = 16
# Tokens that a step must foresee. A step that reads five takes about 1.6 times one that reads one.
MIN_FORESEEN = 0.7


class DraftState:
    """The tokens of an engine's last step, and how often those of a text were foreseen.

    The first token of a step was drawn. The others were drafted: they stand as long as each is what
    is drawn after the one before.

    Attributes:
        logits: float32 [vocab_size], after the last token that stands.
        num_accepted: how many of the text's tokens were read before they were drawn.
    """

    def __init__(self):
        self.num_accepted, self._num_steps = 0, 0
        self.forget()

    def forget(self):
        """Another text, or another place in it, comes next."""
        self._token_ids, self._logits, self._drafts, self._row = [], [], None, 0

    @property
    def logits(self):
        return self._logits[self._row]

    @property
    def pays(self):
        """Whether enough is foreseen in this text for a longer step to be worth its time."""
        tried = self._num_steps >= TRIAL_STEPS
        return not tried or self.num_accepted >= MIN_FORESEEN * self._num_steps

    def follow(self, token_id):
        """Moves on to a token if it is the next one that was read; returns whether it is."""
        following = self._token_ids[self._row + 1 : self._row + 2]
        if following != [token_id]:
            return False
        self._row += 1
        self.num_accepted += 1
        return True

    def draft(self, num_speculative_tokens):
        """What may follow the next token: list of int. The first time, anything."""
        return (
            [0] * num_speculative_tokens
            if self._drafts is None
            else self._drafts[self._row].tolist()
        )

    def keep(self, token_ids, logits, drafts=None):
        """Keeps what a step made of tokens.

        Args:
            token_ids: list of int.
            logits: float32 [number of tokens, vocab_size].
            drafts: int32 [number of tokens, num_speculative_tokens], of a step that drafts: row i
                is what may follow the token that is drawn after token i.
        """
        self._token_ids, self._logits, self._drafts, self._row = token_ids, logits, drafts, 0
        self._num_steps += drafts is not None
