"""Several devices and several processes train as one device does, and stop and resume like one."""

import contextlib
import json
import pathlib
import re
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
from scripts import run_script
from short_runs import different_arrays, read_checkpoint
from tolerances import assert_same_training
from waits import HANG_SECONDS, wait_until

from neo_keras.errors import InputError
from neo_keras.training.compute import read_cluster

WORKER = pathlib.Path(__file__).with_name("worker.py")
SETTINGS = dict(
    num_layers=1, num_heads=2, hidden_dim=20, max_seq_len=17, max_ngram=2, ngram_rows=53,
    ngram_dim=6, batch_size=12, clip_norm=0.1, steps=50, eval_every=1000, sample_every=0,
    mixed_precision="float32", steps_per_execution=1, num_speculative_tokens=0,
)  # fmt: skip
WAITING = r"worker \d of \d, 127.0.0.1:\d+: waiting until all have started\n"


def free_addresses(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]


def start(place, arguments, *options, environment=None):
    return subprocess.Popen(
        [sys.executable, WORKER, json.dumps({"data": ["text.txt"], **SETTINGS, **arguments}),
         *map(str, options)],
        cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={"TF_CPP_MIN_LOG_LEVEL": "3", "PATH": "/usr/bin:/bin", **(environment or {})},
    )  # fmt: skip


def start_workers(place, arguments, options=((), ()), seeds=(1, 1, 1, 1)):
    """Starts one process for each of `options`, the further arguments of each."""
    addresses = free_addresses(len(options))
    processes = []
    for index, further in enumerate(options):
        task = {"type": "worker", "index": index}
        config = json.dumps({"cluster": {"worker": addresses}, "task": task})
        own = {"strategy": "multi-worker", "seed": seeds[index], **arguments}
        processes.append(start(place, own, *further, environment={"TF_CONFIG": config}))
    return processes


def finish(processes):
    """(exit code, stdout, stderr) of each; none runs on."""
    try:
        return [(process.wait(HANG_SECONDS), *process.communicate()) for process in processes]
    finally:
        for process in processes:
            process.kill()


def succeed(processes):
    results = finish(processes)
    assert [(code, errors) for code, _, errors in results] == [(0, "")] * len(processes)
    return [output for _, output, _ in results]


@pytest.fixture
def place(tmp_path, tiny_corpus_text):
    (tmp_path / "text.txt").write_text(tiny_corpus_text)
    return tmp_path


@pytest.mark.parametrize(
    "num_workers, settings, of_several",
    [
        (0, {"optimizer": "muon", "ema": 0.9}, {}),  # the devices of one process only
        pytest.param(2, {"optimizer": "muon", "ema": 0.9}, {}, marks=pytest.mark.exhaustive),
        pytest.param(
            4, {"optimizer": "sgd", "architecture": "encoder-decoder", "position": "learned",
                "tie_embeddings": True, "num_future_tokens": 2},
            {"batch_size": 4, "gradient_accumulation_steps": 3},
            marks=pytest.mark.exhaustive,
        ),
    ],
)  # fmt: skip
def test_as_one_device(place, num_workers, settings, of_several):
    """Losses of every step, weights and validation; gradients are clipped at every step."""
    succeed([start(place, {**settings, "run": "one", "strategy": None}, "--keep", "one.npz")])
    settings = {**settings, **of_several}
    mirrored = {**settings, "run": "mirrored", "strategy": "mirrored"}
    (output,) = succeed([start(place, mirrored, "--devices", 2, "--keep", "mirrored.npz")])
    assert "float32, TensorFlow's own kernels, on 2 devices" in output
    kept = [str(index) for index in range(num_workers)]
    options = [("--keep", f"{name}.npz") for name in kept]
    if num_workers:
        chief, *others = succeed(start_workers(place, {**settings, "run": "workers"}, options))
        assert f"on {num_workers} devices" in chief
        assert all(re.fullmatch(WAITING, other) for other in others)

    losses, *weights = np.load(place / "one.npz").values()
    assert len(losses) == 50 and losses[-1] < losses[0] - 0.3
    for name in ("mirrored", *kept):
        other_losses, *other_weights = np.load(place / f"{name}.npz").values()
        assert_same_training(other_losses, losses, other_weights, weights)
    copies = [list(np.load(place / f"{name}.npz").values()) for name in kept]
    for copy in copies[1:]:
        assert all(np.array_equal(*pair) for pair in zip(copies[0], copy))
    one, *others = (
        json.loads((place / name / "metrics.json").read_text())
        for name in ("one", "mirrored", "workers")[: 3 if num_workers else 2]
    )
    for metrics in others:
        assert metrics["step"] == 50
        assert metrics["val_loss"] == pytest.approx(one["val_loss"], abs=5e-5)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tiny_corpus_text):
    place = tmp_path_factory.mktemp("undisturbed")
    (place / "text.txt").write_text(tiny_corpus_text)
    succeed(start_workers(place, {**TO_BE_KILLED, "run": "run"}))
    return place / "run"


TO_BE_KILLED = {"num_speculative_tokens": 4, "eval_every": 7, "optimizer": "muon", "dropout": 0.1}


@pytest.mark.exhaustive
@pytest.mark.parametrize("victim, step", [(0, 23), (1, 16)])
def test_a_killed_worker_ends_all_and_a_restart_goes_on(place, undisturbed, victim, step):
    settings = {**TO_BE_KILLED, "run": "run"}
    options = [(), ()]
    options[victim] = ("--kill-at", step)
    processes = start_workers(place, settings, options)
    code, _, errors = finish(processes)[1 - victim]
    assert code == 1 and errors.count("\n") == 1
    assert errors.startswith("error: another worker ended")
    rows = (place / "run" / "history.csv").read_text().splitlines()
    assert [int(row.split(",")[0]) for row in rows[1:]] == list(range(7, step, 7))

    arguments = {**dict.fromkeys(SETTINGS), "run": "run", "resume": True}
    succeed(start_workers(place, arguments))
    for name in ("last.keras", "best.keras"):
        assert different_arrays(place / "run" / name, undisturbed / name) == []


@pytest.mark.exhaustive
def test_ctrl_c_on_one_worker_stops_all_after_the_same_step(place):
    processes = start_workers(place, {"run": "run", "steps": 100_000, "eval_every": 20})
    last = place / "run" / "last.keras"
    wait_until(lambda: last.exists() or processes[0].poll() is not None)
    processes[1].send_signal(signal.SIGINT)
    (code, chief, _), (other_code, other, _) = finish(processes)
    assert (code, other_code) == (128 + 2, 128 + 2) and re.fullmatch(WAITING, other)
    step = json.loads((place / "run" / "metrics.json").read_text())["step"]
    assert f"saved step {step}; go on" in chief
    assert int(read_checkpoint(place / "run" / "last.keras")["optimizer/vars/0"]) == step


@pytest.mark.exhaustive
def test_workers_that_differ(place):
    for code, output, errors in finish(start_workers(place, {"run": "run"}, seeds=(1, 2))):
        assert code == 2 and re.fullmatch(WAITING, output)
        assert errors.count("\n") == 1 and "the workers differ in their arguments" in errors


@pytest.mark.parametrize(
    "strategy, tf_config, message",
    [
        ("mirrored", None, "needs two devices at least, TensorFlow sees /device:CPU:0 only"),
        ("multi-worker", None, "needs the environment variable TF_CONFIG"),
        ("multi-worker", '{"cluster"', "JSONDecodeError"),
    ],
)
def test_a_mistake_is_one_line(place, monkeypatch, strategy, tf_config, message):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if tf_config:
        monkeypatch.setenv("TF_CONFIG", tf_config)
    arguments = ("--data", "text.txt", "--run", "run", "--strategy", strategy)
    code, output, errors = run_script("train.py", *arguments, cwd=place)
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert errors.startswith("error: ") and message in errors
    assert not (place / "run").exists()


def config_of(cluster, job="worker", index=0):
    return json.dumps({"cluster": cluster, "task": {"type": job, "index": index}})


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "got none"),
        ("[]", "TypeError"),
        ('{"cluster": {"worker": ["a:1"]}}', "KeyError: 'task'"),
        (config_of({}), r"got the jobs \[\]"),
        (config_of({"worker": ["a:1"], "ps": ["b:1"]}), r"got the jobs \['ps', 'worker'\]"),
        (config_of({"worker": ["a:1"], "chief": ["b:1", "c:1"]}), "one chief"),
        (config_of({"worker": ["a:1", "b:1"]}, index=2), "got the task worker 2"),
        (config_of({"worker": ["a:1", "b:1"]}, index=-1), "got the task worker -1"),
        (config_of({"worker": ["a:1", "b:1"]}, job="chief"), "got the task chief 0"),
        (config_of({"worker": ["a:1", "b:1"]}, index="one"), "ValueError"),
        (config_of({"worker": ["a:1", "b"]}), "got the address 'b'"),
        (config_of({"worker": ["a:1", "a:1"]}), "an address twice"),
        (config_of({"worker": 7}), "TypeError"),
    ],
)
def test_what_is_no_cluster(monkeypatch, text, message):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match=f"needs the environment variable TF_CONFIG.*{message}"):
        read_cluster()


def test_the_chief(monkeypatch):
    workers = {"worker": ["a:1", "b:2"]}
    for cluster, job, index, is_chief in [
        (workers, "worker", 0, True),
        (workers, "worker", 1, False),
        ({**workers, "chief": ["c:3"]}, "chief", 0, True),
        ({**workers, "chief": ["c:3"]}, "worker", 0, False),
    ]:
        monkeypatch.setenv("TF_CONFIG", config_of(cluster, job, index))
        assert (read_cluster()[1] == 0) is is_chief
