"""Training throughput on the CPU: neo_keras against PyTorch peers of the same shape."""

import argparse
import functools
import importlib.util
import json
import pathlib
import statistics
import subprocess
import sys
import time

import rich
from rich.table import Table

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # so that it runs uninstalled

from neo_keras.atomic_files import write_json
from neo_keras.errors import InputError, one_line_errors
from neo_keras.native_logs import import_tensorflow
from neo_keras.presets import from_preset
from neo_keras.text.corpus import load_corpus, split_corpus
from neo_keras.text.tokenizer import Tokenizer

SHAPE = ("preset", "batch_size", "seq_len", "vocab_size")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--data", required=True, metavar="FILE", help="a text, such as tiny Shakespeare")
    add("--runs", type=int, default=5, help="rounds; each times every engine [%(default)s]")
    add("--steps", type=int, default=500, help="timed steps in a run [%(default)s]")
    add("--warmup", type=int, default=50, help="steps before these [%(default)s]")
    add("--preset", choices=("nanogpt-cpu", "gpt2-124m"), default="nanogpt-cpu")
    add("--batch-size", type=int, help="[the preset's]")
    add("--seq-len", type=int, help="[the preset's]")
    add("--vocab-size", type=int, help="of the model [the characters of the text]")
    add("--engines", nargs="+", choices=ENGINES, default=["neo_keras", "torch.nn", "HF GPT-2"])
    add("--json", metavar="FILE", help="also write all measurements here")
    add("--engine", choices=ENGINES, help=argparse.SUPPRESS)  # one run, in this process
    return parser.parse_args()


def compare(args):
    if not all(map(importlib.util.find_spec, ("torch", "transformers"))):
        raise InputError("the peers are missing: pip install -r benchmarks/requirements.txt")
    if min(args.runs, args.steps) < 1:
        raise InputError(f"runs and steps must be at least 1, got {args.runs} and {args.steps}")
    rounds = []
    for i in range(args.runs):  # in turn, so that a slow minute of the machine hits all
        rounds.append({e: measure_in_subprocess(e, args) for e in args.engines})
        print(f"round {i + 1}: {json.dumps(rounds[-1])}", flush=True)
    print_table(rounds, args.engines)
    if args.json:
        write_json(args.json, {"steps": args.steps, "rounds": rounds})


def measure_in_subprocess(engine, args):
    """Measures where the thread pools of TensorFlow and PyTorch cannot disturb each other."""
    command = [sys.executable, __file__, "--engine", engine, "--data", args.data]
    for name in ("steps", "warmup", *SHAPE):
        if (value := getattr(args, name)) is not None:
            command += [f"--{name.replace('_', '-')}", str(value)]
    process = subprocess.run(command, stdout=subprocess.PIPE)
    if process.returncode:
        sys.exit(process.returncode)  # it said why
    return json.loads(process.stdout.splitlines()[-1])


def print_table(rounds, engines):
    table = Table("engine", "tokens/s, median", "min", "max", "ours / it", "by round")
    speeds = {e: [results[e]["tokens_per_second"] for results in rounds] for e in engines}
    for engine in engines:
        ratios = [ours / peer for ours, peer in zip(speeds["neo_keras"], speeds[engine])]
        numbers = [f"{f(speeds[engine]):,.0f}" for f in (statistics.median, min, max)]
        by_round = " ".join(f"{ratio:.2f}" for ratio in ratios)
        table.add_row(engine, *numbers, f"{statistics.median(ratios):.2f}", by_round)
    rich.print(table)


def measure_keras(token_ids, model_config, config, args):
    """Times what `train.py` runs."""
    import_tensorflow()
    import keras

    from neo_keras.training.compute import prepare_cpu, select_device, this_machine
    from neo_keras.training.dataset import training_dataset
    from neo_keras.training.resolve import resolve
    from neo_keras.training.tune import tune

    select_device("cpu")
    machine, asked, seq_len = this_machine(), config, model_config.max_seq_len
    config = resolve(model_config, asked, machine=machine)
    prepare_cpu(config.cpu_replicas)
    make_training = functools.partial(training_dataset, token_ids, seq_len)
    config, train_step, _ = tune(model_config, asked, config, machine, make_training)
    marks = []  # (steps done, mean loss, seconds): reading the loss waits for the steps

    def mark(batch, logs):
        marks.append((batch + 1, float(logs["loss"]), time.perf_counter()))

    stopwatch = keras.callbacks.LambdaCallback(on_train_batch_end=mark)
    dataset = make_training(config.batch_size, config.seed, args.warmup + args.steps)
    train_step.fit(dataset, shuffle=False, verbose=0, callbacks=[stopwatch])
    first_step, _, begin = next(row for row in marks if row[0] >= args.warmup)
    last_step, loss, end = marks[-1]
    return (end - begin) / (last_step - first_step), loss, "AdamW"


def measure_torch(make_model, token_ids, model_config, config, args):
    """Times nanoGPT's loop around one of the models of `peers`."""
    import peers

    trainer = peers.Trainer(getattr(peers, make_model), token_ids, model_config, config)
    trainer.train(args.warmup)
    begin = time.perf_counter()
    loss = trainer.train(args.steps)
    return (time.perf_counter() - begin) / args.steps, loss, f"AdamW {trainer.variant}"


def measure_trainer(bf16, token_ids, model_config, config, args):
    """Times Hugging Face's Trainer, which is how its users train."""
    import peers

    settings = model_config, config, bf16, args.warmup, args.steps
    return *peers.time_trainer(token_ids, *settings), "AdamW"


ENGINES = {
    "neo_keras": measure_keras,
    "torch.nn": functools.partial(measure_torch, "make_plain_model"),
    "HF GPT-2": functools.partial(measure_torch, "make_hugging_face_model"),
    "HF Trainer": functools.partial(measure_trainer, False),
    "HF Trainer, bfloat16": functools.partial(measure_trainer, True),
}


def measure(args):
    text = load_corpus([args.data])
    tokenizer = Tokenizer.characters_of(text)
    token_ids = tokenizer.encode(split_corpus(text)[0])
    vocab_size = args.vocab_size or tokenizer.vocab_size
    shape = {"batch_size": args.batch_size, "max_seq_len": args.seq_len}
    model_config, config = from_preset(args.preset, vocab_size, **shape)
    seconds, loss, optimizer = ENGINES[args.engine](token_ids, model_config, config, args)
    speed = config.batch_size * model_config.max_seq_len / seconds
    print(json.dumps({"tokens_per_second": speed, "optimizer": optimizer, "loss": loss}))


if __name__ == "__main__":
    arguments = parse_arguments()
    with one_line_errors():
        measure(arguments) if arguments.engine else compare(arguments)
