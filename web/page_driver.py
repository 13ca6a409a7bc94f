"""Serves the web page, fills in its form, and reads what it writes."""

import contextlib
import json
import subprocess
import sys

READY = "!document.querySelector('#write').disabled || !document.querySelector('#error').hidden"
DONE = "document.querySelector('#text').ariaBusy === 'false'"
CONSOLE = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")


@contextlib.contextmanager
def served(directory):
    """Serves a directory as the README says, on a free port; yields the URL."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    server = subprocess.Popen(
        command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        # Serving HTTP on 127.0.0.1 port 8000 (http://127.0.0.1:8000/) ...
        yield server.stdout.readline().split("(")[1].split(")")[0]
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def open_page(browser, url, script=""):
    """Opens the page and waits until it can write, or says why not."""
    page = browser.open(url, script)
    page.wait_for(READY)
    return page


def begin(page, prompt="", length=200, temperature=0.8, top_k="", seed=""):
    """Fills the form and presses the button."""
    fields = {"prompt": prompt, "length": length, "temperature": temperature, "top-k": top_k}
    for name, value in {**fields, "seed": seed}.items():
        page.fill(f"#{name}", value)
    page.click("#write")


def write(page, **settings):
    """What the page writes, once it is complete."""
    begin(page, **settings)
    page.wait_for(DONE)
    return page.evaluate("document.querySelector('#written').textContent")


def replace(path, content):
    """Replaces a file of `own_page`; the one it was linked to stays."""
    path.unlink()
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def changed_json(path, **changes):
    return json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes})


def console_errors(events):
    """What a developer would see in red."""
    return [
        (method, parameters)
        for method, parameters in events
        if method in CONSOLE
        and (parameters.get("entry") or parameters).get("level", parameters.get("type"))
        not in ("verbose", "info", "warning", "log", "debug")
    ]
