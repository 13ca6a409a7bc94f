"""The peers of the benchmarks: nanoGPT's model and loop in PyTorch, with its fused attention."""

import dataclasses
import functools
import math
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from neo_keras.choices import OPTIMIZERS

TRIAL_STEPS = 50


class Trainer:
    """nanoGPT's training loop, with whichever of PyTorch's AdamW variants is faster here.

    Args:
        make_model: `make_plain_model` or `make_hugging_face_model`.
        token_ids: int array, the training text.
        model_config, config: `ModelConfig` and `TrainingConfig`.
    """

    def __init__(self, make_model, token_ids, model_config, config):
        torch.manual_seed(config.seed)
        facts = OPTIMIZERS["adamw"]  # as `resolve`, which would import Keras, fills these in
        config = dataclasses.replace(
            config,
            weight_decay=facts.weight_decay,
            warmup_steps=min(facts.max_warmup_steps, config.steps // 10),
        )
        self.token_ids = torch.from_numpy(token_ids.astype("int64"))
        self.seq_len = model_config.max_seq_len
        self.config = config
        self.rng = np.random.default_rng(config.seed)
        trials = {v: self._time(make_model(model_config), v) for v in ("fused", "foreach")}
        self.variant = min(trials, key=trials.get)
        self._begin(make_model(model_config), self.variant)

    def _begin(self, model, variant):
        self.model, self.step = model.train(), 0
        betas, decay = (0.9, self.config.beta_2), self.config.weight_decay
        self.optimizer = torch.optim.AdamW(
            model.parameters(), betas=betas, weight_decay=decay, **{variant: True}
        )

    def _time(self, model, variant):
        self._begin(model, variant)
        self.train(TRIAL_STEPS)
        begin = time.perf_counter()
        self.train(TRIAL_STEPS)
        return time.perf_counter() - begin

    def train(self, num_steps):
        """Makes so many steps; returns the loss of the last."""
        num_starts, window = len(self.token_ids) - self.seq_len, torch.arange(self.seq_len + 1)
        for _ in range(num_steps):
            starts = torch.from_numpy(self.rng.integers(num_starts, size=self.config.batch_size))
            rows = self.token_ids[starts[:, None] + window]  # [batch_size, seq_len + 1]
            self.optimizer.param_groups[0]["lr"] = self._learning_rate()
            loss = F.cross_entropy(self.model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.step += 1
        return loss.item()

    def _learning_rate(self):
        config, warmup = self.config, self.config.warmup_steps
        if self.step < warmup:
            return config.learning_rate * (self.step + 1) / (warmup + 1)
        progress = min((self.step - warmup) / max(config.steps - warmup, 1), 1)
        share = 0.5 * (1 + math.cos(math.pi * progress))
        low = config.final_learning_rate
        return low + share * (config.learning_rate - low)

    @torch.no_grad()
    def evaluate(self, token_ids):
        """The mean loss over all full windows of a text."""
        seq_len = self.seq_len
        num_windows = (len(token_ids) - 1) // seq_len
        token_ids = torch.from_numpy(token_ids.astype("int64"))
        inputs = token_ids[: num_windows * seq_len].view(-1, seq_len)
        targets = token_ids[1 : num_windows * seq_len + 1].view(-1, seq_len)
        losses = [
            F.cross_entropy(self.model.eval()(x).flatten(0, 1), y.flatten(), reduction="sum").item()
            for x, y in zip(inputs.split(64), targets.split(64))
        ]
        self.model.train()
        return sum(losses) / targets.numel()


def make_plain_model(config):
    """nanoGPT's model, in plain `torch.nn`."""
    dim, heads = config.hidden_dim, (config.num_heads, config.head_dim)
    linear = functools.partial(nn.Linear, bias=False)
    norm = functools.partial(nn.LayerNorm, dim, bias=False)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = nn.Sequential(norm(), linear(dim, 3 * dim))
            self.project = linear(dim, dim)
            self.mlp = nn.Sequential(norm(), linear(dim, 4 * dim), nn.GELU(), linear(4 * dim, dim))

        def forward(self, x):
            q, k, v = (y.unflatten(-1, heads).transpose(1, 2) for y in self.qkv(x).chunk(3, dim=-1))
            attended = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.project(attended.transpose(1, 2).flatten(2))
            return x + self.mlp(x)

    class PlainGPT(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = nn.Embedding(config.vocab_size, dim)
            self.positions = nn.Embedding(config.max_seq_len, dim)
            self.blocks = nn.Sequential(*(Block() for _ in range(config.num_layers)), norm())

        def forward(self, token_ids):
            x = self.tokens(token_ids) + self.positions.weight[: token_ids.shape[1]]
            return nn.functional.linear(self.blocks(x), self.tokens.weight)

    model = PlainGPT()
    for name, weight in model.named_parameters():
        if weight.ndim == 2:
            ends_in_stream = name.endswith(("project.weight", "mlp.3.weight"))
            scale = (2 * config.num_layers) ** -0.5 if ends_in_stream else 1
            nn.init.normal_(weight, std=0.02 * scale)
    return model


def make_hugging_face_model(config, logits_only=True):
    import transformers

    settings = {"vocab_size": config.vocab_size, "n_positions": config.max_seq_len,
                "n_embd": config.hidden_dim, "n_layer": config.num_layers,
                "n_head": config.num_heads, "attn_implementation": "sdpa", "use_cache": False,
                "resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0,
                "bos_token_id": None, "eos_token_id": None}  # fmt: skip
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**settings))
    if logits_only:
        model.register_forward_hook(lambda module, inputs, output: output.logits)
    return model


def time_trainer(token_ids, model_config, config, bf16, warmup, steps):
    """(seconds of a step, the last loss) of Hugging Face's Trainer, with its own AdamW."""
    import tempfile

    import transformers

    seq_len, marks = model_config.max_seq_len, []

    class Windows(torch.utils.data.Dataset):
        def __len__(self):
            return len(token_ids) // seq_len

        def __getitem__(self, i):
            window = torch.from_numpy(token_ids[i * seq_len : (i + 1) * seq_len].astype("int64"))
            return {"input_ids": window, "labels": window}

    class Marks(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            marks.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as directory:
        settings = transformers.TrainingArguments(
            directory, per_device_train_batch_size=config.batch_size, max_steps=warmup + steps,
            bf16=bf16, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True,
            logging_strategy="steps", logging_steps=warmup + steps,
        )  # fmt: skip
        trainer = transformers.Trainer(
            make_hugging_face_model(model_config, logits_only=False), settings,
            train_dataset=Windows(), callbacks=[Marks()],
        )  # fmt: skip
        loss = trainer.train().training_loss
    return (marks[-1] - marks[warmup - 1]) / steps, loss
