"""How far a long reading of a text is, for whoever watches."""

import contextlib
from collections.abc import Callable, Iterator

MIN_TOTAL = 2**25  # what is shorter takes seconds


@contextlib.contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows a bar and the time left on a terminal, if there is much to do.

    Yields a function to call with how much more of `total` was done.
    """
    if total < MIN_TOTAL:
        yield lambda amount: None
        return
    import rich.progress  # where text is only generated, there need not be this library

    console = rich.get_console()
    columns, hidden = rich.progress.Progress.get_default_columns(), not console.is_terminal
    with rich.progress.Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(what, total=total)
        yield lambda amount: bar.advance(task, amount)
