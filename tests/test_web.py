"""The web page writes what Python writes, in a real browser, for everyone, and offline."""

import itertools
import re
import warnings

import pytest
from chromium import Browser
from page_driver import begin, console_errors, open_page, replace, served, write
from tiny_models import corpus_text, make_run, unicode_text

from neo_keras.export import exporter, web
from neo_keras.generation.decoding import generate_text
from neo_keras.generation.load import load_engine
from neo_keras.generation.sampler import Sampler
from neo_keras.text.tokenizer import make_tokenizer

pytest_plugins = ["export_fixtures", "web_fixtures"]


@pytest.fixture(scope="module")
def python_text(tiny_run):
    """Makes the text that Python writes with the page's model."""
    engine, tokenizer = load_engine(tiny_run.path)

    def make(prompt="", length=200, temperature=0.8, top_k=None, seed=0):
        sampler = Sampler(temperature, top_k)
        return "".join(generate_text(engine, tokenizer, prompt, length, sampler, seed))

    return make


@pytest.mark.parametrize(
    "settings",
    [
        # The context is 97: 200 tokens begin anew twice.
        {"seed": 0},
        {"seed": 1, "prompt": "abc "},
        {"seed": 2, "prompt": corpus_text()[:70], "top_k": 3},
        {"seed": 3, "prompt": corpus_text()[:97], "temperature": 1.7},
        {"seed": 4, "prompt": corpus_text()[:150], "temperature": 0.3, "top_k": 1},
        {"seed": 2**32 - 1, "prompt": "hij\nea ", "temperature": 1, "top_k": 100},
        {"seed": 5, "prompt": "a", "temperature": 0},
    ],
)
def test_same_seed_same_text_as_python(page, python_text, settings):
    expected = python_text(**settings)
    assert len(expected) == 200
    assert write(page, **settings) == expected
    assert write(page, **settings) == expected  # nothing of the first text is left


def test_a_new_seed_is_shown_and_writes_the_same_again(page, python_text):
    text = write(page)
    status = page.text("#status")
    seed = int(re.fullmatch(r"200 tokens, [\d,]+ tokens/s, seed (\d+)\.", status)[1])
    assert write(page, seed=seed) == text == python_text(seed=seed)
    assert write(page) != text


def test_stop(page, python_text):
    begin(page, prompt="gg\n", length=1_000_000, seed=6)
    page.wait_for("document.querySelector('#written').textContent.length > 150")
    assert "tokens/s" in page.text("#numbers")
    assert page.evaluate("document.querySelector('#write').disabled")
    page.click("#stop")
    page.wait_for("/seed 6/.test(document.querySelector('#status').textContent)")
    text = page.evaluate("document.querySelector('#written').textContent")
    assert page.text("#status").startswith(f"{len(text)} tokens, ")
    assert text == python_text(prompt="gg\n", length=len(text), seed=6)
    # It is really at rest, and begins anew.
    assert write(page, seed=7, length=20) == python_text(seed=7, length=20)


# At most what was written while the message was on its way; the worker looks before each token.
LATE_CHUNKS = """new Promise((resolve) => {
    const worker = new Worker("worker.js");
    let chunks = 0;
    worker.onmessage = ({data}) => {
        if (data.type === "ready") {
            worker.postMessage({type: "write", prompt: "", length: 1e6, sampling: {}});
        } else if (data.type === "chunk") {
            chunks += 1;
            if (chunks === 5) worker.postMessage({type: "stop"});
        } else if (data.type === "done") {
            worker.terminate();
            resolve(chunks);
        }
    };
})"""


def test_the_worker_stops_at_once(page):
    assert 5 <= page.evaluate(LATE_CHUNKS) < 10_000  # of some 60,000


def test_asking_ends_the_warm_up(browser, own_page, python_text):
    worker = own_page / "worker.js"
    text = worker.read_text(encoding="utf-8")
    assert "WARM_UP = 200" in text
    replace(worker, text.replace("WARM_UP = 200", "WARM_UP = Infinity"))
    with served(own_page) as url:
        page = open_page(browser, url)
        assert write(page, prompt="abc ", seed=3) == python_text(prompt="abc ", seed=3)
        page.close()


def test_copy(page):
    text = write(page, prompt="abc ", seed=8, length=30)
    # A headless browser has no clipboard of the system's.
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    page.click("#copy")
    page.wait_for("document.querySelector('#status').textContent === 'Copied.'")
    assert page.evaluate("copied") == "abc " + text


def test_unknown_characters(page, python_text):
    prompt = "abc é日😀 é"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        expected = python_text(prompt=prompt, seed=9)
    assert len(caught) == 1
    assert write(page, prompt=prompt, seed=9) == expected
    assert page.text("#note") == 'The model has never seen "é", "日", "😀".'
    write(page, prompt="abc", length=5)
    assert not page.evaluate("document.querySelector('#note').checkVisibility()")


@pytest.mark.exhaustive
def test_a_page_whose_tokens_are_bytes(runtime, browser, tmp_path):
    """Characters appear whole; the text may end within one."""
    text, tokenizer = unicode_text(), make_tokenizer("byte", [])
    run = make_run(tmp_path / "run", 40, text, tokenizer, num_layers=1)
    exporter.export_run(run, ["web"], ["float32"])
    engine, _ = load_engine(run.path)
    ends = set()
    with served(run.export / "web") as url:
        page = open_page(browser, url)
        for length in range(60, 66):
            pieces = generate_text(engine, tokenizer, "日😀", length, Sampler(0.7), seed=2)
            expected = "".join(pieces)
            assert write(page, prompt="日😀", length=length, temperature=0.7, seed=2) == expected
            assert page.text("#status").startswith(f"{length} tokens, ")
            ends.add(expected[-1] == "\ufffd")
        page.close()
    assert ends == {False, True}


def test_nothing_from_elsewhere_and_nothing_in_the_console(chromium, exported_page):
    with Browser() as browser, served(exported_page) as url:
        page = open_page(browser, url)
        page.evaluate("navigator.serviceWorker.ready.then(() => true)")
        write(page, prompt="abc", length=20)
        urls = [
            parameters["request"]["url"]
            for method, parameters in browser.events
            if method == "Network.requestWillBeSent"
        ]
        assert f"{url}litert/litert_wasm_internal.wasm" in urls  # workers are watched too
        assert urls.count(f"{url}tokenizer.json") > 1  # the service worker too
        assert urls.count(f"{url}model.tflite") == 1
        assert [u for u in urls if not u.startswith((url, "data:"))] == []
        assert console_errors(browser.events) == []


def test_offline_after_the_first_visit(chromium, exported_page, python_text):
    with Browser() as browser:
        with served(exported_page) as url:
            page = open_page(browser, url)
            page.evaluate("navigator.serviceWorker.ready.then(() => true)")
            page.close()
        page = open_page(browser, url)
        assert write(page, prompt="abc ", seed=3) == python_text(prompt="abc ", seed=3)
        kept = page.evaluate(
            "caches.keys().then(async (names) => Promise.all(names.map(async (name) => "
            "(await (await caches.open(name)).keys()).map((request) => request.url))))"
        )
    parts, files = sorted(kept, key=len)
    assert [u.partition("?sha256=")[0] for u in parts] == [f"{url}model.tflite"]
    assert not [u for u in files if "compat" in u]  # the build for other browsers
    assert not [u for u in files if "model.tflite" in u]


# The caches of the service worker.
VERSIONS = "caches.keys().then((names) => names.filter((name) => !name.includes('parts of')))"


def test_a_new_export_shows_at_once(chromium, own_page):
    with Browser() as browser, served(own_page) as url:
        page = open_page(browser, url)
        page.evaluate("navigator.serviceWorker.ready.then(() => true)")
        [old] = page.evaluate(VERSIONS)
        page.close()
        for name, before, after in [
            ("index.html", "<h1>", "<h1>Again "),
            ("sw.js", 'VERSION = "', 'VERSION = "again'),
        ]:
            text = (own_page / name).read_text(encoding="utf-8")
            replace(own_page / name, text.replace(before, after))
        page = open_page(browser, url)
        assert page.text("h1").startswith("Again ")
        page.wait_for(f"{VERSIONS}.then((names) => names.every((n) => n.includes('again')))")
        assert page.evaluate(VERSIONS) == [old.replace(" ", " again").replace(
            "neo_keras again", "neo_keras ")]  # fmt: skip


def test_accessible_names(page):
    names = page.accessible_names()
    assert ("heading", "neo_keras writes") in names
    controls = [(role, name) for role, name in names if role in
                ("textbox", "spinbutton", "button", "log", "form", "main")]  # fmt: skip
    assert controls == [
        ("main", ""),
        ("form", "What to write"),
        ("textbox", "Prompt"),
        ("spinbutton", "Temperature"),
        ("spinbutton", "Top-k"),
        ("spinbutton", "Length"),
        ("spinbutton", "Seed"),
        ("button", "Write"),
        ("button", "Stop"),
        ("button", "Copy"),
        ("log", "Text"),
    ]
    assert page.evaluate("document.querySelector('#text').ariaLive") == "polite"


def test_keyboard(page, python_text):
    focus = "document.activeElement.id"
    seen = []
    for _ in range(7):
        page.press("Tab", windowsVirtualKeyCode=9)
        seen.append(page.evaluate(focus))
        width = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
        assert width == "3px"  # one sees where one is
    assert seen == ["prompt", "temperature", "top-k", "length", "seed", "write", "text"]
    page.fill("#seed", 5)
    page.fill("#length", 1_000_000)
    page.evaluate("document.querySelector('#write').focus()")
    enter = {"windowsVirtualKeyCode": 13, "text": "\r"}
    page.press("Enter", **enter)
    assert page.evaluate(focus) == "stop"
    page.press("Enter", **enter)
    page.wait_for(f"{focus} === 'write'")
    text = page.evaluate("document.querySelector('#written').textContent")
    assert text == python_text(length=len(text), seed=5)


@pytest.mark.parametrize("width", [320, 390, 768])
def test_fits_a_phone(page, tmp_path, width):
    write(page, prompt="abcdefghij" * 30, seed=4)
    page.screenshot(tmp_path / "phone.png", width, 844)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    heights = page.evaluate("[...document.querySelectorAll('button')].map((b) => b.offsetHeight)")
    assert min(heights) >= 44  # a thumb's


def luminance(color):
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(share * p for share, p in zip((0.2126, 0.7152, 0.0722), linear))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(scheme):
    style = (web.PAGE / "style.css").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", style, re.S)
    colors = dict(re.findall(r"--([\w-]+): (#\w{6});", light if scheme == "light" else dark))
    pairs = [*itertools.product(("ink", "faint", "accent", "error"), ("page", "paper"))]
    for text, ground in [*pairs, ("on-accent", "accent")]:
        low, high = sorted(luminance(colors[name]) + 0.05 for name in (text, ground))
        assert high / low >= 4.5, (text, ground)
    for ground in ("page", "paper"):  # the edge of a field
        low, high = sorted(luminance(colors[name]) + 0.05 for name in ("field", ground))
        assert high / low >= 3, ground
