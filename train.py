"""Train a transformer, from scratch or from others' weights. Without arguments: on Shakespeare, in
a minute or two."""

from neo_keras.choices import ARCHITECTURES, LORA_TARGETS, OPTIMIZERS, PRECISIONS, SCHEDULES
from neo_keras.errors import ArgumentParser, one_line_errors, utf8_path
from neo_keras.presets import PRESETS
from neo_keras.text.tokenizer_models import KINDS


# fmt: off
def parse_arguments():
    presets = "; ".join(f"{name}: {preset.description}" for name, preset in PRESETS.items())
    sizes = " or ".join(f"{name} [{kind.vocab_size}]" for name, kind in KINDS.items()
                        if kind.vocab_size)
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--preset", choices=PRESETS, metavar="NAME", help=f"{presets} [shakespeare-cpu]")
    add("--data", nargs="+", metavar="SOURCE", default=(), help="files, folders or globs of UTF-8 "
        "text, or of records as .jsonl, .csv, .tsv and .parquet; also packed by gzip; - for stdin, "
        "or tiny-shakespeare (a download) [the plays of Shakespeare]; for an encoder-decoder also "
        ".tsv and .jsonl files of pairs, with a source and its target in each line; with --from "
        "also .jsonl files of prompts with completions, or of conversations: see docs/finetuning.md"
        )
    add("--column", metavar="NAME", help="the field of each record that is its text, of .jsonl, "
        ".csv, .tsv and .parquet files [text]")
    add("--tokenizer", metavar="KIND", help=f"{', '.join(KINDS)}, or the path of a tokenizer.json "
        "of one of these kinds, such as GPT-2's [char]")
    add("--vocab-size", type=int, metavar="N", help=f"tokens that {sizes} learns from the training "
        "text")
    add("--from", type=utf8_path, dest="pretrained", metavar="PATH", help="fine-tune: train on "
        "from weights of others, with their tokenizer: a folder of Hugging Face's transformers, of "
        "PEFT or of KerasHub, a .gguf file, or hf://OWNER/NAME [from scratch]")
    add("--lora", type=int, dest="lora_rank", metavar="RANK", help="with --from, train adapters of "
        "this rank alone, such as 16: less memory, and checkpoints of some MB [all weights]")
    add("--lora-alpha", type=float, metavar="X", help="what adapters add is multiplied by X / RANK "
        "[twice the rank]")
    add("--lora-targets", choices=LORA_TARGETS, help="the matrices that have adapters: of "
        "attention, or also of feed-forward [all]")
    add("--run", type=utf8_path, metavar="DIRECTORY", default="runs/shakespeare", help="where "
        "everything is kept [%(default)s]")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="continue where --run stopped")
    existing.add_argument("--overwrite", action="store_true", help="replace what --run holds")
    add("--architecture", choices=ARCHITECTURES, help="an encoder-decoder reads a passage, or the "
        "source of a pair, and writes what follows, or the target [the preset's]")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, metavar="N", help="batches to train on in all "
        "[the preset's; with --from as many as three epochs have]")
    length.add_argument("--epochs", type=float, metavar="X", help="passes over the text in all "
        "[with --from 3]")
    add("--max-seconds", type=float, metavar="X", help="stop after so many seconds of training")
    add("--batch-size", type=int, metavar="N", help="windows, or rows of examples, in a batch "
        "[the preset's; with --from 4]")
    add("--gradient-accumulation-steps", type=int, metavar="N", help="batches whose "
        "gradients make one step: as N "
        "times the batch size, in the memory of one batch [1]")
    add("--seq-len", type=int, metavar="N", dest="max_seq_len", help="tokens in a window "
        "[the preset's; with --from 1024 at most]")
    add("--num-layers", type=int, metavar="N", help="transformer blocks")
    add("--num-heads", type=int, metavar="N", help="attention heads; divides the hidden dim")
    add("--hidden-dim", type=int, metavar="N", help="width of the residual stream")
    add("--num-speculative-tokens", type=int, metavar="N", help="tokens that a drafter "
        "proposes for each step of generation; 0: none [4; 0 for nanogpt-cpu, gpt2-124m and an "
        "encoder-decoder]")
    add("--dropout", type=float, metavar="X", help="share of activations dropped in training")
    add("--optimizer", choices=OPTIMIZERS, help="[the preset's; with --from adamw]")
    add("--learning-rate", type=float, metavar="X", help="at its highest [what suits the preset; "
        "with --from 0.00005, with --lora 0.0005; with another --optimizer, what suits that]")
    add("--warmup-steps", type=int, metavar="N", help="the first steps, in which the rate "
        "rises [at most a tenth of all]")
    add("--schedule", choices=SCHEDULES, help="how the rate falls after that; wsd: in the last "
        "fifth [the preset's; with --from cosine]")
    add("--ema", type=float, metavar="X", help="average the weights over some 1 / (1 - X) steps, "
        "such as 0.99 [no average]")
    add("--seed", type=int, metavar="N", help="of the weights, the order of the text, and dropout")
    add("--device", choices=("auto", "cpu", "gpu", "xpu"), default="auto", help="[%(default)s]")
    add("--compile", choices=("auto", "xla", "off"), default="auto", help="by XLA, or off: use "
        "TensorFlow's own kernels; auto: what is faster [%(default)s]")
    add("--strategy", choices=("mirrored", "multi-worker"), help="use all devices of this machine, "
        "or of several machines: see docs/distributed.md [one device]")
    add("--mixed-precision", choices=("auto", *PRECISIONS), default="auto", help="compute in this, "
        "keep weights in float32; auto: what is faster [%(default)s]")
    add("--remat", action="store_const", const=True, help="compute each block again for its "
        "gradients: slower, but less memory, for long contexts")
    add("--eval-every", type=int, metavar="N", help="steps between two validations; each saves "
        "[the preset's; with --from a sixth of all steps]")
    add("--patience", type=int, metavar="N", help="stop after so many validations without a lower "
        "loss; 0: never [0; with --from 3]")
    add("--document-mask", choices=("auto", "on", "off"), default="auto", help="with --from, "
        "whether attention stays within an example, of which several share a row; auto: on for "
        "examples [%(default)s]")
    add("--sliding-window-eval", action="store_const", const=True, help="at the end, also the "
        "loss with at least half a context before every token")
    add("--sample-every", type=int, metavar="N", help="steps between two samples; 0: none "
        "[the preset's; with --from 100]")
    return vars(parser.parse_args())
# fmt: on


if __name__ == "__main__":
    arguments = parse_arguments()
    with one_line_errors():
        from neo_keras.training.launch import run_training

        run_training(**arguments)
