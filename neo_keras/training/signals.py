"""Ctrl-C and other signals end a training, and lose nothing of it."""

import contextlib
import signal

import keras

NAMES = {"SIGINT", "SIGTERM", "SIGHUP"}  # Windows knows the first two only
NUMBERS = [number for number in signal.Signals if number.name in NAMES]


class StopOnSignal(keras.callbacks.Callback):
    """Ends training after the running step on Ctrl-C, SIGTERM or SIGHUP; a second one acts at once.

    What this process was started to ignore, as `nohup` and `&` in a script make it, stays ignored.
    """

    def __init__(self, console):
        super().__init__()
        self.console = console
        self.signal = None  # the `signal.Signals` that came
        self._unsaid = None

    @contextlib.contextmanager
    def listening(self):
        earlier = {number: signal.getsignal(number) for number in NUMBERS}
        self._numbers = [n for n, handler in earlier.items() if handler is not signal.SIG_IGN]
        for number in self._numbers:
            signal.signal(number, self._receive)
        try:
            yield
        finally:
            for number in self._numbers:
                signal.signal(number, earlier[number] or signal.SIG_DFL)

    def _receive(self, number, frame):
        self.signal = signal.Signals(number)
        is_hang_up = self.signal.name == "SIGHUP"
        for other in self._numbers:
            signal.signal(other, _at_once(other, is_hang_up))
        self._unsaid = f"{self.signal.name}: saving after this step (again: quit at once)"
        with contextlib.suppress(RuntimeError):  # it came amid a write, which no other may enter
            self._say()

    def _say(self):
        if self._unsaid:
            self.console.print(self._unsaid)
            self._unsaid = None

    def on_train_batch_end(self, batch, logs=None):
        self._say()
        if self.signal:
            self.model.stop_training = True


def _at_once(number, is_hang_up):
    if number == signal.SIGINT:
        return signal.default_int_handler
    # The shell and the kernel both tell of a terminal that was closed.
    repeated = is_hang_up and number == signal.SIGHUP
    return signal.SIG_IGN if repeated else signal.SIG_DFL
