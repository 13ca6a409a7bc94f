"""From what a person asks for to a run that is ready to train. Imports no TensorFlow."""

import contextlib
import dataclasses
import math
import pathlib

from neo_keras.errors import InputError
from neo_keras.presets import (
    FINE_TUNING_EPOCHS,
    FINE_TUNING_VALIDATIONS,
    for_pretrained,
    from_preset,
)
from neo_keras.run_directory.directory import RunDirectory
from neo_keras.text.corpus import count_training_windows, open_corpus
from neo_keras.text.formats import DOCUMENT_END
from neo_keras.text.sources import saved_sources, sources_to_save
from neo_keras.text.tokenizer import Tokenizer, check_request
from neo_keras.text.tokenizer_models import KINDS

# Of a run that is resumed, all else must stay as it was.
CHANGEABLE = ("steps", "max_seconds", "eval_every", "patience", "sample_every",
              "sliding_window_eval")  # fmt: skip


def start_run(
    path, sources=(), preset="shakespeare-cpu", overwrite=False, epochs=None, tokenizer="char",
    vocab_size=None, column=None, pretrained=None, directory=RunDirectory, **changes,
):  # fmt: skip
    """Makes the run directory of a new training. Nothing is written unless all is right.

    Args:
        sources, column: as `open_corpus` takes them.
        epochs: passes over the training text, instead of `steps`.
        tokenizer, vocab_size: as `make_tokenizer` takes them.
        pretrained: `weights.open.Pretrained` to train on, with its own tokenizer, instead of a
            preset's model from random weights.
        directory: `RunDirectory`, or `ReadOnlyRun` for a worker that is not the chief.
        **changes: fields of `ModelConfig` or `TrainingConfig`; None means "as the preset".

    Returns:
        (RunDirectory, TokenizedCorpus), or `InputError`.
    """
    run = directory(path)
    run.check_free(overwrite)
    # A mistake here need not wait for the text.
    asked = {"preset": preset, "vocab_size": vocab_size, "column": column}
    if pretrained:
        _check_outside(run, pretrained)
        asked = {"pretrained": pretrained.path, "column": column}
        fused = pretrained.architecture.has_fused_qkv
        model_config, training_config = for_pretrained(
            pretrained.config, lora_fused_qkv=fused, **changes
        )
        document_end = pretrained.tokenizer.document_end
    else:
        model_config, training_config = from_preset(preset, vocab_size=1, **changes)
        check_request(tokenizer, vocab_size)
        is_new = tokenizer in KINDS
        document_end = DOCUMENT_END if is_new else Tokenizer.load(tokenizer).document_end
    _check_sliding_window_eval(model_config, training_config)
    corpus = open_corpus(
        sources,
        column,
        model_config.architecture,
        document_end,
        pretrained and pretrained.tokenizer,
    )
    _check_examples(corpus, training_config)
    if pretrained:
        tokenizer = pretrained.tokenizer
    else:
        tokenizer = corpus.make_tokenizer(tokenizer, vocab_size)
        end_token_id = tokenizer.end_token_id if corpus.has_pairs else None
        model_config = dataclasses.replace(
            model_config, vocab_size=tokenizer.vocab_size, end_token_id=end_token_id
        )
    tokenized = corpus.tokenize(tokenizer, model_config)
    if corpus.has_examples and model_config.num_speculative_tokens:  # a drafter reads whole windows
        count_training_windows(len(tokenized.training.token_ids), model_config.max_seq_len)
    if pretrained and epochs is None and changes.get("steps") is None:
        epochs = FINE_TUNING_EPOCHS
    if epochs is not None:
        steps = _count_steps(epochs, tokenized, training_config)
        training_config = dataclasses.replace(training_config, steps=steps)
    if pretrained and changes.get("eval_every") is None:
        eval_every = -(-training_config.steps // FINE_TUNING_VALIDATIONS)
        training_config = dataclasses.replace(training_config, eval_every=eval_every)
    if (training_config.warmup_steps or 0) >= training_config.steps:
        raise InputError(
            f"the warm-up must be shorter than the training, got {training_config.warmup_steps} "
            f"of {training_config.steps} steps: fewer --warmup-steps, or more --steps"
        )
    data = {"sources": sources_to_save(sources), "sha256": corpus.sha256}
    base = None
    if training_config.lora:
        base = {"path": pretrained.path, "sha256": pretrained.sha256()}
    parts = model_config, training_config, data, tokenizer, corpus.excerpt
    run.create(*parts, overwrite, base=base, **asked)
    return run, tokenized


def resume_run(
    path, sources=(), epochs=None, tokenizer=None, vocab_size=None, directory=RunDirectory,
    **changes,
):  # fmt: skip
    """Opens the run directory of a training that is to continue.

    Args, where they are not those of `start_run`:
        sources: where the run's text is now, if it moved.
        tokenizer, vocab_size, **changes: as they were, or None; those in `CHANGEABLE` may change.

    Returns:
        (RunDirectory, TokenizedCorpus); or `InputError`, also where the text is not the same.
    """
    run = directory.open(path, to_train=True)
    run.check_resumable()
    changes = {name: value for name, value in changes.items() if value is not None}
    kept = {**run.asked, **vars(run.model_config), **vars(run.training_config)}
    for name in sorted(changes.keys() - set(CHANGEABLE)):
        if changes.pop(name) != kept.get(name):
            raise _must_stay(name)
    run_tokenizer = run.load_tokenizer()
    if tokenizer is not None and not _is_tokenizer(tokenizer, run_tokenizer):
        raise _must_stay(f"tokenizer ({run_tokenizer.kind})")
    # A small text gives fewer tokens than were asked for, and pairs have one more.
    if vocab_size not in (None, run_tokenizer.vocab_size, run.asked.get("vocab_size")):
        raise _must_stay(f"vocab_size ({run_tokenizer.vocab_size})")
    sources = sources or saved_sources(run.data["sources"])
    column, architecture = run.asked.get("column"), run.model_config.architecture
    own_tokenizer = run_tokenizer if run.asked.get("pretrained") else None
    settings = sources, column, architecture, run_tokenizer.document_end
    corpus = open_corpus(*settings, own_tokenizer)
    if corpus.has_examples and corpus.sha256 != run.data["sha256"]:
        with contextlib.suppress(InputError):  # a run of old made one text of documents
            corpus = open_corpus(*settings)
    if corpus.sha256 != run.data["sha256"]:
        raise InputError(
            f"the text is not the one that {path} was trained on: give that one with --data, or "
            "begin anew with --overwrite"
        )
    tokenized = corpus.tokenize(run_tokenizer, run.model_config)
    run.data = {**run.data, "sources": sources_to_save(sources)}
    changes.setdefault("max_seconds", None)  # a limit that stopped the run has done its work
    if epochs is not None:
        changes["steps"] = _count_steps(epochs, tokenized, run.training_config)
    run.training_config = dataclasses.replace(run.training_config, **changes)
    _check_sliding_window_eval(run.model_config, run.training_config)
    _check_examples(corpus, run.training_config)
    return run, tokenized


def _check_outside(run, pretrained):
    """Raises `InputError` where a new run would remove the weights that it begins from."""
    exports = run.export.resolve()
    for path in pretrained.weight_paths:
        if pathlib.Path(path).resolve().is_relative_to(exports):
            raise InputError(
                f"{pretrained.path} is an export of the run {run.path}, which would be replaced: "
                "choose another --run"
            )


def _check_sliding_window_eval(model_config, training_config):
    if training_config.sliding_window_eval and model_config.architecture == "encoder-decoder":
        raise InputError(
            "--sliding-window-eval is for a decoder-only model: an encoder-decoder is validated "
            "with a whole source before each target, leave it out"
        )


def _check_examples(corpus, training_config):
    if corpus.has_examples and training_config.sliding_window_eval:
        raise InputError("--sliding-window-eval is for one plain text, got examples: leave it out")
    if training_config.document_mask and not corpus.has_examples:
        raise InputError(
            "--document-mask on is for examples, which are records or several files with --from, "
            "got one text: leave it out"
        )


def _must_stay(name):
    return InputError(
        f"a resumed run keeps its {name}: leave it out, or begin anew with --overwrite"
    )


def _is_tokenizer(name, tokenizer):
    if name in KINDS:
        return name == tokenizer.kind
    given = Tokenizer.load(name)
    if tokenizer.end_token_id is not None:  # which was added for pairs
        given = given.with_end_token()
    return given.to_json() == tokenizer.to_json()


def _count_steps(epochs, corpus, training_config):
    if not 0 < epochs < math.inf:
        raise InputError(f"epochs must be above 0 and finite, got {epochs}")
    return math.ceil(epochs * corpus.num_training_rows / training_config.global_batch_size)
