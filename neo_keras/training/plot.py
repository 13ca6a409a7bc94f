"""The loss curves of a run, as a picture."""

from neo_keras.atomic_files import atomic_write


def plot_history(history, path):
    """Draws training and validation loss against steps.

    Args:
        history: rows of `RunDirectory.read_history`.
        path: of the PNG file.
    """
    from matplotlib.figure import Figure  # without pyplot: no window system, no global state

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for column, label in (("train_loss", "training"), ("val_loss", "validation")):
        rows = [row for row in history if row[column] is not None]
        axes.plot([row["step"] for row in rows], [row[column] for row in rows], "o-", label=label)
    axes.set(xlabel="step", ylabel="loss (nats per token)")
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_write(path) as partial:
        figure.savefig(partial, dpi=150)
