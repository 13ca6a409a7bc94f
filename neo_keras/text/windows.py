"""How many windows a text has."""

from neo_keras.errors import InputError


def count_training_windows(num_tokens, seq_len):
    """Training windows in an epoch; one window's length is spare, for the epoch's offset.

    Raises:
        InputError: the text is shorter than one window.
    """
    return _at_least_one((num_tokens - seq_len) // seq_len, num_tokens, 2 * seq_len, "training")


def count_validation_windows(num_tokens, seq_len, stride):
    """Full validation windows, one at every `stride`; each needs one token more, to predict.

    Raises:
        InputError: the text is shorter than one window.
    """
    num_windows = (num_tokens - 1 - seq_len) // stride + 1
    return _at_least_one(num_windows, num_tokens, seq_len + 1, "validation")


def _at_least_one(num_windows, num_tokens, needed, part):
    if num_windows < 1:
        raise InputError(
            f"the {part} part of the text must have at least {needed} tokens, got {num_tokens}: "
            "give more text with --data, or a smaller --seq-len"
        )
    return num_windows
