"""A conversation with a model that has a chat template."""

import itertools
import warnings

from neo_keras.errors import InputError
from neo_keras.generation.decoding import generate_ids, stream_text, warn_of_unknown
from neo_keras.text.chat import ASSISTANT, encode_prompt, end_of_turn_ids, render


class Conversation:
    """What was said so far, of which the cache of an `Engine` holds most.

    Attributes:
        messages: list of dict, as `text.chat.render` takes them.

    Args:
        system: text of a system message, or None.

    Raises:
        InputError: the model has no chat template, or no role "system", or is one of pairs.
    """

    def __init__(self, engine, tokenizer, system=None):
        self._engine, self._tokenizer = engine, tokenizer
        if engine.end_token_id is not None:
            raise InputError("a model of pairs has no conversations: leave out --chat")
        self.messages = [] if system is None else [_message("system", system)]
        self._num_lasting = len(self.messages)  # a system message is never forgotten
        self._has_forgotten = False
        prompt = render(tokenizer.config, [*self.messages, _message("user", "Hello")], True)
        if not tokenizer.encode(prompt).size:
            raise InputError(
                "the chat template of the model writes nothing, so there is nothing to answer: "
                "correct the chat_template of its tokenizer_config.json"
            )
        self._end_ids = end_of_turn_ids(tokenizer)

    def answer(self, text, max_tokens, sampler, seed=0, stop_strings=()):
        """Yields the chunks of the answer to a message, which with it belongs to the conversation.

        It ends where the model ends its turn, and where the context is full. Where the next answer
        may not fit the context, the oldest turns are forgotten, with one warning.

        Raises:
            InputError: the message alone is too long; it is forgotten then.
        """
        warn_of_unknown(self._tokenizer, text)
        self._settle()
        messages, prompt_ids = self._with_room([*self.messages, _message("user", text)], max_tokens)
        answer = _message(ASSISTANT, "")
        self.messages = [*messages, answer]
        suppressed = self._tokenizer.suppressed_ids(self._engine.vocab_size)
        token_ids = generate_ids(self._engine, prompt_ids, sampler, seed, suppressed, reuse=True)
        # The last token is sampled, and never read.
        room = self._engine.max_seq_len + 1 - len(prompt_ids)
        token_ids = itertools.islice(token_ids, min(max_tokens, room))
        for chunk in stream_text(self._tokenizer, token_ids, self._end_ids, stop_strings):
            answer["content"] += chunk
            yield chunk

    def _with_room(self, messages, max_tokens):
        """Messages without the oldest turns that leave no room for an answer, and their ids."""
        max_seq_len, first = self._engine.max_seq_len, self._num_lasting
        needed = min(max_tokens, max_seq_len // 2) - 1
        while len(ids := encode_prompt(self._tokenizer, messages)) + needed > max_seq_len:
            if len(messages) == first + 1:
                break
            messages = [*messages[:first], *messages[first + 2 :]]
            self._warn_of_forgetting()
        if len(ids) > max_seq_len:
            raise InputError(
                f"the message has {len(ids)} tokens with all that the template adds, and the "
                f"context {max_seq_len}: write a shorter one"
            )
        return messages, ids

    def _warn_of_forgetting(self):
        if not self._has_forgotten:
            warnings.warn(
                f"the conversation is longer than the context of {self._engine.max_seq_len} "
                "tokens: its oldest turns are forgotten",
                stacklevel=4,
            )
        self._has_forgotten = True

    def _settle(self):
        """Takes from the last answer the spaces around it that the template writes anyway.

        A turn without an answer is forgotten: some templates refuse it.
        """
        if len(self.messages) == self._num_lasting:
            return
        config, (*before, answer) = self._tokenizer.config, self.messages
        said = answer["content"]
        if not said.strip():
            del self.messages[-2:]
            return
        whole = render(config, before, add_generation_prompt=True) + said
        for content in (said, said.removeprefix(" "), said.strip()):
            answer["content"] = content
            if render(config, self.messages).startswith(whole):
                return


def _message(role, content):
    return {"role": role, "content": content}
