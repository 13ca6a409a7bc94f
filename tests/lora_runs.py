"""Fine-tunes adapters in this process."""


def tune_here(path, base, text_file, callbacks=(), resume=False, **changes):
    """Trains as `train.py --from` does, in this process. Returns (RunDirectory, signal)."""
    settings = dict(
        data=[str(text_file)], preset=None, overwrite=False, device="auto", strategy=None,
        tokenizer=None, compile="off", mixed_precision="float32", vocab_size=None,
        document_mask="auto",
    )  # fmt: skip
    if resume:
        settings |= {"data": [], "pretrained": None, "mixed_precision": "auto", "compile": "auto"}
    else:
        settings |= dict(
            pretrained=str(base), lora_rank=3, max_seq_len=None, steps=11, eval_every=4,
            sample_every=0, batch_size=3, dropout=0.1, patience=0, learning_rate=1e-2,
            steps_per_execution=1,
        )  # fmt: skip
    from neo_keras.training.launch import launch
    from neo_keras.training.trainer import train

    run, corpus, strategy, pretrained = launch(run=path, resume=resume, **{**settings, **changes})
    _, stopped_by = train(run, corpus, resume, callbacks, strategy, pretrained)
    return run, stopped_by
