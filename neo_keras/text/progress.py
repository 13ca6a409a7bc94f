"""How far a long reading of a text is, for whoever watches."""

import contextlib
from collections.abc import Callable, Iterator

MIN_TOTAL = 2**25  # what is shorter takes seconds


@contextlib.contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows a bar and the time left on a terminal, if there is much to do; nothing elsewhere.

    Args:
        what: Is done.
        total: How much there is to do, in any unit.

    Yields:
        A function to call with how much more was done.
    """
    if total < MIN_TOTAL:
        yield lambda amount: None
        return
    import rich.progress  # where text is only written, there need not be this library

    console = rich.get_console()
    columns = rich.progress.Progress.get_default_columns()
    with rich.progress.Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(what, total=total)
        yield lambda amount: bar.advance(task, amount)
