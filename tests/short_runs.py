"""Runs of a few steps, trained in this process without XLA, and what their checkpoints hold."""

import io
import signal
import zipfile

import h5py
import keras
import numpy as np

from neo_keras.training.start import resume_run, start_run

SHAPE = dict(num_layers=1, num_heads=2, hidden_dim=20, max_seq_len=17, ngram_rows=53)  # head_dim 10


def train_here(path, corpus_file, callbacks=(), resume=False, stopped_by=None, **changes):
    """Trains from the start or, with `resume`, on. Returns (RunDirectory, metrics)."""
    from neo_keras.training.trainer import train

    if resume:
        run, corpus = resume_run(path, **changes)
    else:
        settings = dict(batch_size=3, jit_compile=False, cpu_replicas=1, steps_per_execution=5,
                        sample_every=0)  # fmt: skip
        run, corpus = start_run(path, [str(corpus_file)], **{**SHAPE, **settings, **changes})
    metrics, got = train(run, corpus, resume, callbacks=callbacks)
    assert got == stopped_by
    return run, metrics


def assert_resumes(directory, corpus_file, **settings):
    """Stopped at its second validation and resumed, a run of 15 steps ends with the same bits."""
    settings = dict(steps=15, eval_every=5, **settings)
    undisturbed, _ = train_here(directory / "undisturbed", corpus_file, **settings)
    run, metrics = train_here(directory / "run", corpus_file, max_seconds=1e-9, **settings)
    assert metrics["step"] == 10
    train_here(run.path, corpus_file, resume=True)
    assert different_arrays(run.last, undisturbed.last) == []


class KeepLosses(keras.callbacks.Callback):
    """Keras' mean loss so far after every step that is taken by itself, and the last weights."""

    def __init__(self):
        super().__init__()
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(logs["loss"])

    def on_train_end(self, logs=None):
        self.weights = self.model.get_weights()


def losses_and_weights(path, corpus_file, **settings):
    """Of a run of 20 steps."""
    keep = KeepLosses()
    defaults = dict(steps=20, eval_every=50, steps_per_execution=1, mixed_precision="float32")
    train_here(path, corpus_file, [keep], **{**defaults, **settings})
    return keep.losses, keep.weights


def stop_at(step):
    """A callback that sends this process what Ctrl-C sends, amid a step taken by itself."""

    def interrupt(batch, logs):
        if callback.model.optimizer.iterations == step - 1:
            signal.raise_signal(signal.SIGINT)

    callback = keras.callbacks.LambdaCallback(on_train_batch_begin=interrupt)
    return callback


def read_checkpoint(path):
    """Name -> array of every weight and every variable of the optimizer."""
    arrays = {}

    def add(name, node):
        if isinstance(node, h5py.Dataset):
            arrays[name] = node[()]

    with zipfile.ZipFile(path) as archive:
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
            file.visititems(add)
    return arrays


def different_arrays(path, other_path):
    """Names of what is not the same in two checkpoints, to the last bit."""
    ours, theirs = read_checkpoint(path), read_checkpoint(other_path)
    assert ours.keys() == theirs.keys()
    return [name for name in ours if not np.array_equal(ours[name], theirs[name])]
