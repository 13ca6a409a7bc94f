"""A tokenizer of each kind, made of a text that is hard to handle."""

from neo_keras.text import tokenizer_models

SAMPLE = (
    "Où est l'été ? 日本語。「the  the\tthe」 we'll, e\u0301a\u0301 😀😀\r\n\n\n  x_1 x_1 9½\0\n"
    * 3
)
MAKE = {
    "char": lambda: tokenizer_models.from_tokens(tokenizer_models.CHARACTER, sorted(set(SAMPLE))),
    "word": lambda: tokenizer_models.train_word_level([SAMPLE], 1000),
    "bpe": lambda: tokenizer_models.train_bpe([SAMPLE], 331),
    "byte": tokenizer_models.single_bytes,
}
