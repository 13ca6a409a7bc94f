"""What `train.py` does: finds the devices, starts or resumes a run, trains it, says how it went.

Imports TensorFlow only where a device has to be looked for: mistakes are said at once.
"""

import contextlib
import functools
import io
import sys
import warnings

from neo_keras.environment import prepare_for_keras
from neo_keras.errors import InputError
from neo_keras.native_logs import import_tensorflow
from neo_keras.run_directory.base import open_base
from neo_keras.run_directory.directory import ReadOnlyRun
from neo_keras.training.start import resume_run, start_run
from neo_keras.weights.open import describe_pretrained, full_path, open_pretrained


def run_training(**arguments):
    """Trains as the arguments of `launch` say; exits with 128 + the signal that ended it, or 0."""
    import rich

    outlive_terminal()
    prepare_for_keras()
    run, corpus, strategy, pretrained = launch(**arguments)
    import_tensorflow()

    from neo_keras.training import trainer
    from neo_keras.training.comparison import compare
    from neo_keras.training.compute import lost_workers_end_all
    from neo_keras.training.progress import describe_end, describe_stop
    from neo_keras.training.train_drafter import train_drafter

    rich.get_console().quiet = not run.keeps_files  # the chief speaks for all
    with lost_workers_end_all():
        metrics, stopped_by = trainer.train(
            run, corpus, arguments["resume"], _samples(run, corpus), strategy, pretrained
        )
    if run.keeps_files:
        lines = (describe_stop if stopped_by else describe_end)(run, metrics)
        wants_drafter = run.model_config.num_speculative_tokens and not stopped_by
        if wants_drafter and not run.read_best().get("drafter_trained"):
            stopped_by = train_drafter(run, corpus)
        if run.asked.get("pretrained") and not stopped_by:
            compare(run, corpus)
        print(*lines, sep="\n")
    sys.exit(stopped_by and 128 + stopped_by)


def launch(
    run, data, preset, resume, overwrite, device, strategy, tokenizer, pretrained=None,
    document_mask="auto", **changes,
):  # fmt: skip
    """Finds the devices, and starts or resumes a run on them, given the arguments of `train.py`.

    Returns:
        (RunDirectory, TokenizedCorpus, `tf.distribute.Strategy` or None, `Pretrained` or None), or
        `InputError`.
    """
    changes["jit_compile"] = {"auto": None, "xla": True, "off": False}[changes.pop("compile")]
    changes["document_mask"] = {"auto": None, "on": True, "off": False}[document_mask]
    if changes["mixed_precision"] == "auto":
        changes["mixed_precision"] = None
    if strategy and changes["jit_compile"]:
        raise InputError("--compile xla does not go with --strategy: leave one of them out")
    if strategy or device != "auto":  # what is not there is said before anything is written
        import_tensorflow()
        from neo_keras.training.compute import make_strategy, read_cluster, select_device
    if device != "auto":
        select_device(device)
    if strategy:
        if strategy == "multi-worker" and read_cluster()[1] > 0:
            changes["directory"] = ReadOnlyRun
        strategy = make_strategy(strategy)
    if resume:
        if pretrained:
            changes["pretrained"] = full_path(pretrained)
        run, corpus = resume_run(run, data, preset=preset, tokenizer=tokenizer, **changes)
        return run, corpus, strategy, _base_to_resume(run)
    if pretrained:
        _check_alone(preset=preset, tokenizer=tokenizer, vocab_size=changes["vocab_size"])
        pretrained = open_pretrained(full_path(pretrained), changes["max_seq_len"])
        print(*describe_pretrained(pretrained), sep="\n")
    preset, tokenizer = preset or "shakespeare-cpu", tokenizer or "char"
    started = start_run(
        run, data, preset, overwrite, tokenizer=tokenizer, pretrained=pretrained, **changes
    )
    return *started, strategy, pretrained


def _base_to_resume(run):
    """The `Pretrained` that a run is to read again; None where its checkpoint has all of it."""
    if run.base:
        return open_base(run)
    path = run.asked.get("pretrained")
    if path and not run.last.exists():
        return open_pretrained(path, run.model_config.max_seq_len)
    return None


def _check_alone(**options):
    for name, value in options.items():
        if value is not None:
            option = f"--{name.replace('_', '-')}"
            raise InputError(
                f"{option} does not go with --from, whose model has its own: leave it out"
            )


def _samples(run, corpus):
    """Callbacks that show samples, and keep them in the run directory."""
    every, prompt = run.training_config.sample_every, next(iter(corpus.sample_prompts), "")
    question = next(iter(corpus.sample_questions), prompt)
    if not (every and run.keeps_files):
        return []
    from neo_keras.generation.callback import SampleText

    show = functools.partial(_show_sample, run.path / "samples.txt", question)
    return [SampleText(run.load_tokenizer(), every, show, prompt=prompt)]


def _show_sample(path, prompt, step, text):
    import rich

    text = f"{prompt} -> {text}" if prompt else text
    rich.get_console().print(f"\nsample at step {step}:\n{text}\n", markup=False)
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"=== step {step}\n{text}\n\n")
    except OSError as error:  # such as a full disk: where the checkpoint fails too, that says so
        warnings.warn(f"cannot write {path} ({error.strerror})", stacklevel=2)


def outlive_terminal():
    """Lets what is written to a terminal go nowhere, instead of failing, once that was closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and stream.isatty() and stream is getattr(sys, f"__{name}__"):
            raw = _Terminal(stream.fileno(), "w", closefd=False)
            text = (io.BufferedWriter(raw), stream.encoding, stream.errors)
            setattr(sys, name, io.TextIOWrapper(*text, line_buffering=True))


class _Terminal(io.FileIO):
    def write(self, data):
        with contextlib.suppress(OSError):
            return super().write(data)
        return len(data)
