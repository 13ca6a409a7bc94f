"""From the arguments of `train.py` to a run, its text and its devices.

Imports TensorFlow only where a device has to be looked for: mistakes are said at once.
"""

from neo_keras.errors import InputError
from neo_keras.native_logs import import_tensorflow
from neo_keras.run_directory.directory import RunDirectory
from neo_keras.training.cluster import ReadOnlyRun, read_cluster
from neo_keras.training.start import resume_run, start_run


def launch(run, data, preset, resume, overwrite, device, strategy, tokenizer, **changes):
    """Finds the devices, and starts or resumes a run on them.

    Args:
        run: path of its directory.
        data: sources of the text.
        preset: a key of `PRESETS`, or None.
        resume, overwrite: what to do with a run that stands there.
        device: "auto", or the one to use.
        strategy: "mirrored", "multi-worker" or None.
        tokenizer: as `make_tokenizer` takes it, or None.
        **changes: as `start_run` takes them; of `compile` and `mixed_precision`, "auto" is None.

    Returns:
        (RunDirectory, TokenizedCorpus, `tf.distribute.Strategy` or None).

    Raises:
        InputError: something asked for is not possible.
    """
    compiled, precision = changes.pop("compile"), changes.pop("mixed_precision")
    changes["jit_compile"] = {"auto": None, "xla": True, "off": False}[compiled]
    changes["mixed_precision"] = None if precision == "auto" else precision
    changes["directory"] = RunDirectory
    # A device that is not there is said before anything is written.
    if device != "auto":
        import_tensorflow()
        from neo_keras.training.devices import select_device

        select_device(device)
    if strategy:
        if compiled == "xla":
            raise InputError("--compile xla does not go with --strategy: leave one of them out")
        if strategy == "multi-worker" and not read_cluster().is_chief:
            changes["directory"] = ReadOnlyRun
        import_tensorflow()
        from neo_keras.training.distribution import make_strategy

        strategy = make_strategy(strategy)
    if resume:
        started = resume_run(run, data, preset=preset, tokenizer=tokenizer, **changes)
    else:
        preset, tokenizer = preset or "shakespeare-cpu", tokenizer or "char"
        started = start_run(run, data, preset, overwrite, tokenizer=tokenizer, **changes)
    return *started, strategy
