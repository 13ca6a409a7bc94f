"""What the card of an export says of the training, however that ended."""

import pytest
from chat_templates import chat_tokenizer

from neo_keras.config import ModelConfig, TrainingConfig
from neo_keras.export.model_card import describe_run, write_model_card
from neo_keras.model.gpt import GPT
from neo_keras.run_directory.directory import RunDirectory
from neo_keras.text.tokenizer import Tokenizer


@pytest.mark.parametrize(
    "metrics, steps, loss",
    [
        (
            {"step": 900, "best_step": 700, "best_val_loss": 1.5, "best_val_bits_per_char": 2.164},
            "700",
            "1.5000 nats per token, 2.164 bits per character,",
        ),
        # stopped before the first validation
        ({"step": 1300, "best_step": None, "best_val_loss": None}, "1,300", "not recorded,"),
        (None, "1,700", "not recorded,"),
    ],
)
def test_steps_and_loss_are_of_the_weights_that_were_exported(tmp_path, metrics, steps, loss):
    tokenizer, run = Tokenizer.characters_of("abc"), RunDirectory(tmp_path / "run")
    configs = ModelConfig(tokenizer.vocab_size), TrainingConfig(steps=1700)
    run.create(*configs, {"sources": [], "sha256": ""}, tokenizer, "abc\ncab\n")
    if metrics:
        run.write_metrics(metrics)
    model = GPT(ModelConfig(tokenizer.vocab_size, num_layers=1, hidden_dim=8))
    write_model_card(tmp_path / "card.md", model, tokenizer, [], describe_run(run), "")
    card = (tmp_path / "card.md").read_text()
    assert f"Trained for {steps} steps, batch size 16" in card
    assert f"Validation loss: {loss} on" in card


def test_what_it_is_for(tmp_path):
    chat, plain = chat_tokenizer("chatml"), Tokenizer.characters_of("abc")
    for tokenizer, purpose in ((chat, "answers in conversations"), (plain, "continues a text")):
        model = GPT(ModelConfig(tokenizer.vocab_size, num_layers=1, hidden_dim=8))
        write_model_card(tmp_path / "card.md", model, tokenizer, [], [], "")
        card = (tmp_path / "card.md").read_text()
        assert f"It {purpose}" in card and "signatures" not in card
