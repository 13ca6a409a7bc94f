"""Batches of texts, each in one compiled function, with KerasHub's samplers."""

import functools
import itertools

import keras
import numpy as np
from keras import ops

from neo_keras.errors import InputError

SAMPLERS = ("greedy", "random", "top_k", "top_p", "beam", "contrastive")
MAX_COMPILED = 8  # functions that a model keeps


class BatchGenerator:
    """`GPT.generate` of a model. It keeps what it compiles, for each sampler and each shape."""

    def __init__(self, model):
        self._model = model
        self.compiled = functools.lru_cache(MAX_COMPILED)(self._compile)

    def __call__(self, prompts, max_length, sampler, stop_token_ids):
        config, has_encoder = self._model.config, self._model.has_encoder
        max_length = config.max_seq_len if max_length is None else max_length
        if not 1 <= max_length <= config.max_seq_len:
            raise InputError(f"max_length must be 1 to {config.max_seq_len}, got {max_length}")
        if stop_token_ids is None:
            stop_token_ids = () if config.end_token_id is None else (config.end_token_id,)
        stop_token_ids = tuple(map(int, stop_token_ids))
        longest = config.max_seq_len if has_encoder else max_length
        prompts = _checked(prompts, longest, config.vocab_size)
        # KerasHub looks for the end in what is still to be written, too.
        padding = min(set(range(len(stop_token_ids) + 1)) - set(stop_token_ids))
        pad = functools.partial(keras.utils.pad_sequences, padding="post", value=padding)
        source, lens = None, np.array([len(prompt) for prompt in prompts], "int32")
        # Lengths that are compiled for are powers of two, so that they are few.
        if has_encoder:
            source = pad(prompts, _rounded_up(lens.max(), config.max_seq_len)), lens
            prompts, lens = [prompt[-1:] for prompt in prompts], np.ones_like(lens)
        texts = pad(prompts, max_length)
        prefix = texts[:, : _rounded_up(lens.min(), max_length)]
        texts = self.compiled(sampler, stop_token_ids)(texts, lens, prefix, source)
        texts = ops.convert_to_numpy(texts).tolist()
        given = [[]] * len(texts) if has_encoder else prompts
        return [
            [*begin, *itertools.takewhile(lambda i: i not in stop_token_ids, text[start:])]
            for begin, text, start in zip(given, texts, lens)
        ]

    def _compile(self, sampler, stop_token_ids):
        model, sampler = self._model, _get_sampler(sampler)
        function = functools.partial(_generate_batch, model, sampler, stop_token_ids)
        return _jitted(function, [*model.weights, *sampler.variables], sampler.variables)


def _get_sampler(sampler):
    """A sampler of KerasHub, by its name or as it is."""
    try:
        from keras_hub import samplers
    except ImportError as error:
        raise InputError(f"generate needs KerasHub ({error}): pip install keras-nlp") from None
    if isinstance(sampler, str) and sampler in SAMPLERS:
        return samplers.get(sampler)
    is_speculative = isinstance(sampler, samplers.SpeculativeSampler)
    if is_speculative or not isinstance(sampler, samplers.Sampler):
        raise InputError(
            f"sampler must be one of {', '.join(SAMPLERS)}, or an object of these classes of "
            f"keras_hub.samplers, got {sampler!r}"
        )
    if getattr(sampler, "return_all_beams", False):
        raise InputError("generate returns one text a prompt: make it return_all_beams=False")
    return sampler


def _generate_batch(model, sampler, stop_token_ids, texts, text_lens, prefix, source):
    """Completes texts, int32 [batch_size, max_length], of which the first `text_lens` are given.

    It takes in `prefix`, the first columns of texts, at once, and goes on token by token. Source is
    what `encode` takes, of an encoder-decoder.
    """
    batch_size, max_length = texts.shape
    slots = ops.arange(max_length, dtype="int32")
    given = slots < ops.expand_dims(text_lens, 1)  # [batch_size, max_length]
    cache = model.empty_cache(batch_size, max_length)
    if source is not None:
        cache.update(model.encode(*source))
    # What stands in texts before its time has no effect: its slots are written anew in time.
    x, cache = model.hidden_step(prefix, slots[: prefix.shape[1]], cache, slots)
    hidden_states = ops.pad(x, ((0, 0), (0, max_length - prefix.shape[1]), (0, 0)))

    def next_logits(texts, cache, index):
        """As samplers call it, with the beams of a text in rows one after another."""
        num_rows = texts.shape[0]
        last = ops.slice(texts, (0, index - 1), (num_rows, 1))
        x, cache = model.hidden_step(last, ops.reshape(index - 1, (1,)), cache, slots)
        is_given = ops.repeat(given, num_rows // batch_size, axis=0)
        # The contrastive sampler looks one token past the end.
        index = ops.minimum(index, max_length - 1)
        logits = _certain(model.logits(x)[:, 0], is_given[:, index], texts[:, index])
        if stop_token_ids:
            stops = np.array(stop_token_ids, "int32")
            is_stop = ops.any(ops.expand_dims(texts, -1) == stops, axis=-1)
            stopped = ops.any(is_stop & ~is_given, axis=1)
            logits = _certain(logits, stopped, ops.full((num_rows,), stop_token_ids[0], "int32"))
        return logits, x[:, 0], cache

    return sampler(
        next=next_logits,
        prompt=texts,
        cache=cache,
        index=ops.min(text_lens),
        mask=given,
        stop_token_ids=stop_token_ids or None,
        hidden_states=hidden_states,
        model=model,
    )


def _certain(logits, rows, token_ids):
    """Gives a token probability 1 in some rows."""
    # Samplers put the given tokens of a longer prompt over what they drew, and go on writing after
    # a text's end: a search with beams would count the probability of what it drew.
    is_token = ops.arange(logits.shape[1], dtype="int32") == ops.expand_dims(token_ids, 1)
    only_token = ops.where(is_token, 0.0, float("-inf"))
    return ops.where(ops.expand_dims(rows, 1), only_token, logits)


def _jitted(function, variables, states):
    """Compiles a function that reads variables and changes some of them, where the backend can."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        compiled = tf.function(function, jit_compile=True)
        # Called as it is, it would warn of each new sampler and shape.
        return lambda *inputs: compiled.get_concrete_function(*inputs)(*inputs)
    if keras.backend.backend() != "jax":
        return function
    import jax

    @jax.jit
    def pure(values, *inputs):
        with keras.StatelessScope(state_mapping=zip(variables, values)) as scope:
            outputs = function(*inputs)
        return outputs, [scope.get_current_value(variable) for variable in states]

    def run(*inputs):
        outputs, values = pure([variable.value for variable in variables], *inputs)
        for variable, value in zip(states, values):
            variable.assign(value)
        return outputs

    return run


def _checked(prompts, longest, vocab_size):
    """The prompts as lists of int; longest: in tokens."""
    try:
        prompts = [np.asarray(prompt) for prompt in prompts]
    except TypeError:
        prompts = []
    if not prompts or any(p.ndim != 1 or p.dtype.kind not in "iu" for p in prompts):
        raise InputError("prompts must be a list of texts, each a list of at least one token id")
    for i, prompt in enumerate(prompts):
        if len(prompt) > longest:
            raise InputError(f"prompt {i} has {len(prompt)} tokens: {longest} are the most")
        if not ((0 <= prompt) & (prompt < vocab_size)).all():
            raise InputError(f"token ids of prompt {i} must be 0 to {vocab_size - 1}")
    return [prompt.tolist() for prompt in prompts]


def _rounded_up(length, limit):
    return min(1 << (int(length) - 1).bit_length(), limit)
