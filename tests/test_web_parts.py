"""A page's model that is cut into parts is the model in one part, in a real browser."""

import hashlib
import json
import pathlib
import re
import shutil

import pytest
from chromium import Browser
from page_driver import changed_json, open_page, replace, served, write

from neo_keras.export import exporter, web

pytest_plugins = ["export_fixtures", "web_fixtures"]

NAMES = ["model.tflite.0", "model.tflite.1", "model.tflite.2"]
# Keeps what the progress bar shows: a list of [value, max].
WATCH = """document.addEventListener("DOMContentLoaded", () => {
    const bar = document.querySelector("#loading");
    window.seen = [];
    new MutationObserver(() => seen.push([bar.value, bar.max, bar.checkVisibility()]))
        .observe(bar, {attributeFilter: ["value"]});
})"""
STORE = """caches.keys()
    .then((names) => caches.open(names.find((name) => name.includes("parts of"))))"""
STORED = f"""{STORE}.then((store) => store.keys())
    .then((requests) => requests.map((request) => request.url))"""


def third(path):
    """The size of parts that makes three of a file."""
    return -(-path.stat().st_size // 3)


def parts_asked_for(browser):
    """Names of the parts that the server was asked for, as often as it was."""
    urls = [
        parameters["request"]["url"]
        for method, parameters in browser.events
        if method == "Network.requestWillBeSent"
    ]
    return [url.rpartition("/")[2] for url in urls if "/model.tflite" in url]


@pytest.fixture(scope="module")
def cut_page(runtime, page_tflite, tmp_path_factory):
    """Directory of the page of `exported_page`, with its model in three parts."""
    page = tmp_path_factory.mktemp("cut") / "web"
    page.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(web, "PART_BYTES", third(page_tflite))
        web.write_page_around(pathlib.Path(shutil.copy(page_tflite, page)))
    return page


@pytest.fixture
def own_page(cut_page, tmp_path):
    """Directory of a copy of `cut_page`, which a test may change with `replace`."""
    return shutil.copytree(cut_page, tmp_path / "page")


def test_the_parts_are_the_file(cut_page, exported_page, page_tflite):
    assert sorted(path.name for path in cut_page.glob("model.tflite*")) == NAMES
    contents = [(cut_page / name).read_bytes() for name in NAMES]
    assert b"".join(contents) == page_tflite.read_bytes()
    assert json.loads((cut_page / "config.json").read_text(encoding="utf-8"))["parts"] == [
        {"name": name, "size_bytes": len(x), "sha256": hashlib.sha256(x).hexdigest()}
        for name, x in zip(NAMES, contents)
    ]
    whole = json.loads((exported_page / "config.json").read_text(encoding="utf-8"))["parts"]
    assert [part["name"] for part in whole] == ["model.tflite"]


def test_a_file_of_the_size_of_a_part_is_one(tmp_path, monkeypatch):
    monkeypatch.setattr(web, "PART_BYTES", 10)
    for size, names in ((10, ["m"]), (11, ["m.0", "m.1"]), (20, ["m.0", "m.1"])):
        (tmp_path / "m").write_bytes(b"x" * size)
        parts = web.cut(tmp_path / "m")
        assert [part["name"] for part in parts] == names
        assert sum(part["size_bytes"] for part in parts) == size
        assert sorted(path.name for path in tmp_path.iterdir()) == names
        for name in names:
            (tmp_path / name).unlink()


@pytest.mark.exhaustive
def test_an_export_in_parts(runtime, small_run, tmp_path, monkeypatch):
    monkeypatch.setattr(web, "PART_BYTES", 30_000)
    rows = exporter.export_run(small_run, ["web"], ["int8"], tmp_path)
    page = tmp_path / "web"
    assert (page / "model.tflite.1").exists() and not (page / "model.tflite").exists()
    assert max(path.stat().st_size for path in page.glob("model.tflite*")) == 30_000
    assert rows[1]["size_bytes"] == sum(
        path.stat().st_size for path in page.rglob("*") if path.is_file()
    )
    card = (tmp_path / "README.md").read_text()
    assert f"| `web` | {rows[1]['size_bytes'] / 1e6:.2f} MB |" in card


def test_same_text_and_all_of_the_progress(chromium, browser, page, cut_page):
    total = sum((cut_page / name).stat().st_size for name in NAMES)
    with served(cut_page) as url:
        cut = open_page(browser, url, WATCH)
        for settings in ({"temperature": 0}, {"seed": 1}):
            assert write(cut, prompt="abc ", **settings) == write(page, prompt="abc ", **settings)
        seen = cut.evaluate("seen")
        assert not cut.evaluate("document.querySelector('#loading').checkVisibility()")
        cut.close()
    values = [value for value, _, _ in seen]
    assert values == sorted(values) and values[-1] == total
    assert len(values) >= 3
    assert {(maximum, visible) for _, maximum, visible in seen} == {(total, True)}


def test_each_part_is_fetched_once(chromium, cut_page):
    with Browser() as browser:
        with served(cut_page) as url:
            page = open_page(browser, url)
            expected = write(page, temperature=0)
            page.evaluate("navigator.serviceWorker.ready.then(() => true)")
            page.close()
            open_page(browser, url).close()
            assert parts_asked_for(browser) == NAMES
        page = open_page(browser, url, WATCH)  # offline
        assert write(page, temperature=0) == expected
        value, maximum, _ = page.evaluate("seen")[-1]
        assert value == maximum
        assert parts_asked_for(browser) == NAMES


def test_what_is_stored_and_damaged_is_fetched_again(chromium, cut_page):
    with Browser() as browser, served(cut_page) as url:
        page = open_page(browser, url)
        stored = page.evaluate(STORED)
        names = [re.fullmatch(r"(.*)\?sha256=[0-9a-f]{64}", u)[1] for u in stored]
        assert names == [url + name for name in NAMES]
        for i, content in enumerate(["", "x" * (cut_page / NAMES[1]).stat().st_size]):
            response = f"new Response({json.dumps(content)})"
            page.evaluate(
                f"{STORE}.then((store) => store.put({json.dumps(stored[i])}, {response}))"
            )
        # The service worker stands between the page and the server by now.
        page.evaluate("navigator.serviceWorker.ready.then(() => true)")
        page.close()
        page = open_page(browser, url)
        assert page.text("#status") == "Ready."
        assert parts_asked_for(browser) == [*NAMES, *NAMES[:2]]


@pytest.mark.exhaustive
def test_the_parts_of_an_earlier_export_go(chromium, own_page, page_tflite, monkeypatch):
    monkeypatch.setattr(web, "PART_BYTES", page_tflite.stat().st_size - 1000)
    with Browser() as browser, served(own_page) as url:
        open_page(browser, url).close()
        for name in NAMES:
            (own_page / name).unlink()
        parts = web.cut(pathlib.Path(shutil.copy(page_tflite, own_page)))
        replace(own_page / "config.json", changed_json(own_page / "config.json", parts=parts))
        page = open_page(browser, url)
        assert len(parts) == 2
        expected = [f"{url}{part['name']}?sha256={part['sha256']}" for part in parts]
        assert page.evaluate(STORED) == expected


def truncated(page):
    replace(page / NAMES[1], (page / NAMES[1]).read_bytes()[:-1])


def missing(page):
    (page / NAMES[2]).unlink()


def one_bit(page):
    content = bytearray((page / NAMES[0]).read_bytes())
    content[-1] ^= 1
    replace(page / NAMES[0], bytes(content))


def swapped(page):
    config = json.loads((page / "config.json").read_text(encoding="utf-8"))
    config["parts"][0]["name"], config["parts"][1]["name"] = NAMES[1], NAMES[0]
    replace(page / "config.json", json.dumps(config))


def broken_off(page):
    """The server stops in the midst of a part."""
    code = """
        const realFetch = fetch;
        self.fetch = async (name, options) => {
            if (name !== "model.tflite.1") return realFetch(name, options);
            let count = 0;
            return new Response(new ReadableStream({ pull(controller) {
                count++ ? controller.error(new TypeError("network error"))
                        : controller.enqueue(new Uint8Array(1000));
            } }));
        };
    """
    replace(page / "files.js", (page / "files.js").read_text(encoding="utf-8") + code)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncated, r"model.tflite.1 has \d+ bytes, expected \d+: export again with .*"),
        (missing, r"model.tflite.2 is missing \(the server says 404\): export again with .*"),
        (one_bit, "model.tflite.0 is damaged, or is not the part that config.json tells of: .*"),
        (swapped, "model.tflite.1 is damaged, or is not the part that config.json tells of: .*"),
        (broken_off, r"model.tflite.1 broke off after 1000 of \d+ bytes: load the page again."),
    ],
)
def test_a_wrong_part_is_one_line(browser, own_page, damage, message):
    damage(own_page)
    with served(own_page) as url:
        page = open_page(browser, url)
        line = page.text("#error")
        assert "\n" not in line and re.fullmatch("Error: " + message, line)
        assert not page.evaluate("document.querySelector('#loading').checkVisibility()")
        bad = {truncated: 1, missing: 2, one_bit: 0, swapped: 0, broken_off: 1}[damage]
        assert len(page.evaluate(STORED)) == bad  # nothing wrong is kept
        page.close()
