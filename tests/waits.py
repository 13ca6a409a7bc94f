"""How tests wait: for an event, whenever it comes."""

import time

HANG_SECONDS = 600  # only what hangs takes so long, on a slow machine and beside other work, too


def wait_until(condition):
    """Waits until a function gives something true; returns that."""
    deadline = time.monotonic() + HANG_SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, "it hangs"
        time.sleep(0.01)
    return value
