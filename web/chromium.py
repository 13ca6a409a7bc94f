"""A headless Chromium, driven over a pair of pipes, for tests and benchmarks of the web page.

What it understands: https://chromedevtools.github.io/devtools-protocol.
"""

import base64
import fcntl
import itertools
import json
import os
import pathlib
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time

HANG_SECONDS = 600  # only what hangs takes so long, on a slow machine, too

FLAGS = (
    # The tests open nothing but our own files, and in a container there is no room for the sandbox.
    "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--no-first-run",
    "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-quic", "--no-default-browser-check",
)  # fmt: skip
# Chromium takes commands from 3 and answers on 4; in the parent these may be something else.
START = "import os, sys; os.dup2({}, 3); os.dup2({}, 4); os.execv(sys.argv[1], sys.argv[1:])"


def chromium_path():
    """Path of a Chromium, or None."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


class Browser:
    """A Chromium with an empty profile, until the end of the `with` block.

    Attributes:
        events: list of (method, parameters) of all pages and workers, oldest first.
    """

    def __enter__(self):
        self.events = []
        self._answers = {}
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._profile = tempfile.mkdtemp(prefix="chromium-")
        from_parent, commands = _pipe()
        answers, to_parent = _pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", START.format(from_parent, to_parent), chromium_path(), *FLAGS,
             f"--user-data-dir={self._profile}"],
            pass_fds=(from_parent, to_parent), stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(from_parent)
        os.close(to_parent)
        self._commands = os.fdopen(commands, "wb", buffering=0)
        threading.Thread(target=self._read, args=[os.fdopen(answers, "rb")], daemon=True).start()
        self._watch_new_targets(None)
        return self

    def __exit__(self, *_):
        self._send("Browser.close")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._commands.close()
        shutil.rmtree(self._profile, ignore_errors=True)

    def call(self, method, session=None, **parameters):
        """Sends a command; returns what it gives, a dict."""
        answer = self._answers[self._send(method, session, **parameters)].get(timeout=HANG_SECONDS)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def open(self, url, script=""):
        """Opens a page.

        Args:
            url: of the page.
            script: to run before those of the page.

        Returns:
            `Page`.
        """
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, target, session)
        for domain in ("Page", "Runtime", "Accessibility"):
            page.call(f"{domain}.enable")
        page.call("Page.addScriptToEvaluateOnNewDocument", source=script)
        page.call("Page.navigate", url=url)
        page.wait_for("location.href !== 'about:blank' && document.readyState === 'complete'")
        return page

    def _send(self, method, session=None, **parameters):
        number = next(self._ids)
        self._answers[number] = queue.Queue()
        message = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        with self._lock:
            self._commands.write(json.dumps(message).encode() + b"\0")
        return number

    def _read(self, answers):
        with answers:
            rest = b""
            while chunk := answers.read1(1 << 16):
                *messages, rest = (rest + chunk).split(b"\0")
                for message in map(json.loads, messages):
                    if "id" in message:
                        self._answers[message["id"]].put(message)
                    else:
                        self._note(message["method"], message["params"])

    def _note(self, method, parameters):
        self.events.append((method, parameters))
        if method == "Target.attachedToTarget" and parameters["waitingForDebugger"]:
            # A page or a worker that has just begun: listen before it does anything.
            session = parameters["sessionId"]
            for domain in ("Network", "Runtime", "Log"):
                self._send(f"{domain}.enable", session)
            self._watch_new_targets(session)
            self._send("Runtime.runIfWaitingForDebugger", session)

    def _watch_new_targets(self, session):
        self._send("Target.setAutoAttach", session, autoAttach=True, waitForDebuggerOnStart=True,
                   flatten=True)  # fmt: skip


class Page:
    """A page of a `Browser`."""

    def __init__(self, browser, target, session):
        self._browser, self._target, self._session = browser, target, session

    def call(self, method, **parameters):
        return self._browser.call(method, self._session, **parameters)

    def evaluate(self, expression):
        """Returns the value of a JavaScript expression; of what it promises, if it is a promise."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                           awaitPromise=True, userGesture=True)  # fmt: skip
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, expression):
        """Waits until a JavaScript expression is true; returns its value."""
        deadline = time.monotonic() + HANG_SECONDS
        while not (value := self.evaluate(expression)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{expression}; the page says: {self.text('body')}")
            time.sleep(0.01)
        return value

    def text(self, selector):
        return self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText")

    def click(self, selector):
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def fill(self, selector, value):
        self.evaluate(f"document.querySelector({json.dumps(selector)}).value = {json.dumps(value)}")

    def press(self, key, **parameters):
        """Presses a key, such as "Tab"."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, **parameters)

    def accessible_names(self):
        """What a screen reader calls each thing: list of (role, name)."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in nodes
            if not node["ignored"]
        ]

    def screenshot(self, path, width, height, dark=False):
        """Writes a PNG of the page as it is in a window of this size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 500)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        data = self.call("Page.captureScreenshot", format="png")["data"]
        pathlib.Path(path).write_bytes(base64.b64decode(data))

    def close(self):
        self._browser.call("Target.closeTarget", targetId=self._target)


def _pipe():
    # High numbers, so that setting 3 and 4 overwrites neither end.
    ends = []
    for end in os.pipe():
        ends.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10))
        os.close(end)
    return ends
