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

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # so that it runs uninstalled

from neo_keras.config import from_preset
from neo_keras.errors import InputError, one_line_errors
from neo_keras.files import write_json
from neo_keras.text.corpus import load_corpus, split_corpus
from neo_keras.text.tokenizer import Tokenizer
from neo_keras.training.windows import count_training_windows

OURS = "neo_keras"
WARMUP_STEPS = 50
SEED = 1


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--data", required=True, metavar="FILE", help="a text, such as tiny Shakespeare")
    add("--runs", type=int, default=5, help="rounds; each times every engine [%(default)s]")
    add("--steps", type=int, default=500, help="timed steps in a run [%(default)s]")
    add("--json", metavar="FILE", help="also write all measurements here")
    add("--engine", choices=ENGINES, help=argparse.SUPPRESS)  # one run, in this process
    return parser.parse_args()


def compare(args):
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise InputError(f"no {package} here: pip install -r benchmarks/requirements.txt")
    if min(args.runs, args.steps) < 1:
        raise InputError(f"runs and steps must be at least 1, got {args.runs} and {args.steps}")
    token_ids, model_config, _ = load_problem(args.data)
    count_training_windows(len(token_ids), model_config.max_seq_len)  # raises now, not later

    rounds = []
    for i in range(args.runs):
        # In turn, so that a slow minute of the machine hits every engine.
        rounds.append({engine: measure_in_subprocess(engine, args) for engine in ENGINES})
        print(f"round {i + 1}: {json.dumps(rounds[-1])}", flush=True)
    print_table(rounds)
    if args.json:
        write_json(args.json, {"steps": args.steps, "rounds": rounds})


def measure_in_subprocess(engine, args):
    """Measures where the thread pools of TensorFlow and PyTorch cannot disturb each other."""
    command = [sys.executable, __file__, "--engine", engine, "--data", args.data]
    process = subprocess.run([*command, "--steps", str(args.steps)], stdout=subprocess.PIPE)
    if process.returncode:
        raise ChildProcessError(f"the {engine} run failed with exit code {process.returncode}")
    return json.loads(process.stdout.splitlines()[-1])


def print_table(rounds):
    import rich
    from rich.table import Table

    table = Table("engine", "tokens/s, median", "min", "max", "ours / it", "by round")
    ours = [results[OURS]["tokens_per_second"] for results in rounds]
    for engine in ENGINES:
        speeds = [results[engine]["tokens_per_second"] for results in rounds]
        ratios = [a / b for a, b in zip(ours, speeds)]
        numbers = [f"{f(speeds):,.0f}" for f in (statistics.median, min, max)]
        by_round = " ".join(f"{ratio:.2f}" for ratio in ratios)
        table.add_row(engine, *numbers, f"{statistics.median(ratios):.2f}", by_round)
    rich.print(table)


def load_problem(path):
    """The training token ids, and the configurations of the preset that all engines follow."""
    text = load_corpus([path])
    tokenizer = Tokenizer.characters_of(text)
    token_ids = tokenizer.encode(split_corpus(text)[0])
    return token_ids, *from_preset("nanogpt-cpu", tokenizer.vocab_size)


def measure_keras(token_ids, model_config, config, steps):
    """Times what `train.py` runs."""
    from neo_keras.quiet import import_tensorflow

    import_tensorflow()
    import keras

    from neo_keras.training.dataset import training_dataset
    from neo_keras.training.trainer import make_compiled_model, select_device

    select_device("cpu")
    model = make_compiled_model(model_config, config)
    marks = []  # (steps done, seconds, mean loss); reading the loss waits for the steps
    stopwatch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: marks.append(
            (batch + 1, time.perf_counter(), float(logs["loss"]))
        )
    )
    seq_len, num_batches = model_config.max_seq_len, WARMUP_STEPS + steps
    dataset = training_dataset(token_ids, seq_len, config.batch_size, SEED, num_batches)
    model.fit(dataset, shuffle=False, verbose=0, callbacks=[stopwatch])
    first_step, begin, _ = next(mark for mark in marks if mark[0] >= WARMUP_STEPS)
    last_step, end, loss = marks[-1]
    return (end - begin) / (last_step - first_step), "AdamW", loss, model.count_params()


def measure_torch(make_model, token_ids, model_config, config, steps):
    """Times nanoGPT's loop, with whichever of PyTorch's AdamW variants is faster here."""
    import torch
    from torch.nn import functional as F

    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    model = make_model(model_config).train()
    token_ids, window = token_ids.astype("int64"), np.arange(model_config.max_seq_len + 1)

    def train(optimizer, num_steps):
        begin = time.perf_counter()
        for _ in range(num_steps):
            starts = rng.integers(len(token_ids) - len(window) + 1, size=(config.batch_size, 1))
            rows = torch.from_numpy(token_ids[starts + window])  # [batch_size, seq_len + 1]
            loss = F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
        return (time.perf_counter() - begin) / num_steps, loss.item()

    betas, trials = (0.9, config.beta_2), []
    settings = {"lr": config.learning_rate, "betas": betas, "weight_decay": config.weight_decay}
    for variant in ("fused", "foreach"):
        optimizer = torch.optim.AdamW(model.parameters(), **settings, **{variant: True})
        train(optimizer, WARMUP_STEPS)
        trials.append((train(optimizer, WARMUP_STEPS)[0], variant, optimizer))
    _, variant, optimizer = min(trials)
    seconds_per_step, loss = train(optimizer, steps)
    num_params = sum(parameter.numel() for parameter in model.parameters())
    return seconds_per_step, f"AdamW {variant}", loss, num_params


def make_plain_model(config):
    """nanoGPT's model, in plain `torch.nn`."""
    from torch import nn
    from torch.nn import functional as F

    width, heads = config.hidden_dim, (config.num_heads, config.head_dim)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm_1, self.norm_2 = (nn.LayerNorm(width, bias=False) for _ in range(2))
            self.qkv = nn.Linear(width, 3 * width, bias=False)
            self.project = nn.Linear(width, width, bias=False)
            self.expand = nn.Linear(width, 4 * width, bias=False)
            self.contract = nn.Linear(4 * width, width, bias=False)

        def forward(self, x):
            qkv = self.qkv(self.norm_1(x)).split(width, dim=-1)
            q, k, v = (part.unflatten(-1, heads).transpose(1, 2) for part in qkv)
            attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.project(attended.transpose(1, 2).flatten(2))
            return x + self.contract(F.gelu(self.expand(self.norm_2(x))))

    class PlainGPT(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = nn.Embedding(config.vocab_size, width)
            self.positions = nn.Embedding(config.max_seq_len, width)
            blocks = [Block() for _ in range(config.num_layers)]
            self.blocks = nn.Sequential(*blocks, nn.LayerNorm(width, bias=False))
            for weight in filter(lambda weight: weight.dim() > 1, self.parameters()):
                nn.init.normal_(weight, std=0.02)

        def forward(self, token_ids):
            x = self.tokens(token_ids) + self.positions.weight[: token_ids.shape[1]]
            return F.linear(self.blocks(x), self.tokens.weight)

    return PlainGPT()


def make_hugging_face_model(config):
    import transformers

    class Logits(transformers.GPT2LMHeadModel):
        def forward(self, token_ids):
            return super().forward(token_ids, use_cache=False).logits

    sizes = {"n_layer": config.num_layers, "n_head": config.num_heads, "n_embd": config.hidden_dim,
             "n_positions": config.max_seq_len, "vocab_size": config.vocab_size}  # fmt: skip
    no_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    special = {"bos_token_id": None, "eos_token_id": None}  # the default ids are out of range
    return Logits(
        transformers.GPT2Config(**sizes, **no_dropout, **special, attn_implementation="sdpa")
    )


ENGINES = {
    OURS: measure_keras,
    "torch.nn": functools.partial(measure_torch, make_plain_model),
    "HF GPT-2": functools.partial(measure_torch, make_hugging_face_model),
}


def measure(args):
    token_ids, model_config, config = load_problem(args.data)
    run = ENGINES[args.engine]
    seconds_per_step, *description = run(token_ids, model_config, config, args.steps)
    speed = config.batch_size * model_config.max_seq_len / seconds_per_step
    names = ("tokens_per_second", "optimizer", "loss", "num_params")
    print(json.dumps(dict(zip(names, (speed, *description)))))


if __name__ == "__main__":
    arguments = parse_arguments()
    with one_line_errors():
        measure(arguments) if arguments.engine else compare(arguments)
