"""A web page around a `.tflite`: static files, for any host, that need nothing from elsewhere."""

import hashlib
import json
import pathlib
import shutil
import warnings
import zipfile

from neo_keras.atomic_files import write_json
from neo_keras.errors import InputError
from neo_keras.export import parity
from neo_keras.export.kv_cache import bucket_ends
from neo_keras.export.page_chat import chat_strings
from neo_keras.export.page_tokenizer import check_tokenizer
from neo_keras.export.signatures import SAMPLE, page_signatures
from neo_keras.export.tflite import write_tflite
from neo_keras.generation.engine import Engine
from neo_keras.generation.interpreter_runner import interpreter_runner
from neo_keras.text.tokenizer import Tokenizer

PAGE = pathlib.Path(__file__).parent / "page"
PACKAGES = pathlib.Path("web", "node_modules", "@litertjs")
# By the name that each file of LiteRT.js has in the page. "compat" is for browsers without relaxed
# SIMD; a visitor loads one of the two builds.
RUNTIME = {
    "index.js": "core/dist/index.js",
    "wasm-utils.js": "wasm-utils/dist/index.js",
    "litert_wasm_internal.js": "core/wasm/litert_wasm_internal.js",
    "litert_wasm_internal.wasm": "core/wasm/litert_wasm_internal.wasm",
    "litert_wasm_compat_internal.js": "core/wasm/litert_wasm_compat_internal.js",
    "litert_wasm_compat_internal.wasm": "core/wasm/litert_wasm_compat_internal.wasm",
}
PART_BYTES = 50 * 2**20  # of the model: GitHub Pages refuses a file of 100 MB
BARE_IMPORT = b'"@litertjs/wasm-utils"'  # a worker has no import map that could resolve it


def write(source, path, quantization):
    """Writes a directory and measures its model; see `formats.Format`.

    Raises `InputError` where the page lacks what the tokenizer needs.
    """
    check_tokenizer(source.tokenizer)
    path.mkdir()
    model_path = path / "model.tflite"
    write_tflite(source, model_path, quantization, page_signatures)
    measurement = parity.measure(page_engine(model_path, source.model.config), source.reference)
    write_page_around(model_path)
    return measurement


def page_engine(path, config):
    """The engine of a page's `.tflite`, outside of the page, to see its logits."""
    runner, ends = interpreter_runner(path), bucket_ends(config.max_seq_len)

    def decode(inputs, cache):
        end = next(end for end in ends if inputs["input_pos"][0] < end)
        return runner.functions[SAMPLE.format(end)](inputs, cache)

    runner.functions["decode"] = decode
    return Engine(runner, config)


def check_installed():
    """The directory of LiteRT.js; raises `InputError` where it is not installed."""
    for root in (pathlib.Path(), pathlib.Path(__file__).parents[2]):
        if all((root / PACKAGES / file).is_file() for file in RUNTIME.values()):
            return root / PACKAGES
    raise InputError(
        f"a web page needs LiteRT.js in {PACKAGES}, and it is not there: run npm ci --prefix web"
    )


def write_page_around(model_path):
    """Completes the directory of a `model.tflite` to a page, and cuts the model into parts."""
    directory, packages = model_path.parent, check_installed()
    for source in sorted(PAGE.iterdir()):
        shutil.copyfile(source, directory / source.name)
    with zipfile.ZipFile(model_path) as archive:
        archive.extractall(directory)  # config.json and the files of the tokenizer
    (directory / "litert").mkdir()
    for name, source in RUNTIME.items():
        content = (packages / source).read_bytes()
        if source.endswith("index.js"):
            content = content.replace(BARE_IMPORT, b'"./wasm-utils.js"')
            content, _, _ = content.partition(b"//# sourceMappingURL=")  # it is not copied
        (directory / "litert" / name).write_bytes(content)
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    more = {"parts": cut(model_path), "chat": _chat_of(directory / "tokenizer.json")}
    write_json(directory / "config.json", {**config, **more})
    _complete_service_worker(directory)


def _chat_of(path):
    """What the page needs for conversations; None without a template that it can have."""
    tokenizer = Tokenizer.load(path)
    if tokenizer.config.chat_template is None:
        return None
    try:
        return chat_strings(tokenizer)
    except InputError as error:
        warnings.warn(f"the web page has no chat mode: {error}", stacklevel=2)
        return None


def cut(path):
    """Cuts a file into parts of at most `PART_BYTES`; one that is no larger stays as it is.

    Args:
        path: of the file, "model.tflite", which `model.tflite.0`, `model.tflite.1`, ... replace.

    Returns:
        list of dict, a part each, in their order: `name`, `size_bytes` and `sha256`.
    """
    is_cut, parts = path.stat().st_size > PART_BYTES, []
    with open(path, "rb") as file:
        while content := file.read(PART_BYTES):
            name = f"{path.name}.{len(parts)}" if is_cut else path.name
            if is_cut:
                path.with_name(name).write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            parts.append({"name": name, "size_bytes": len(content), "sha256": digest})
    if is_cut:
        path.unlink()
    return parts


def _complete_service_worker(directory):
    # A browser takes a service worker for a new one if a byte of its file has changed.
    service_worker, digest = directory / "sw.js", hashlib.sha256()
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    for path in paths:
        digest.update(path.read_bytes())
    names = [path.relative_to(directory).as_posix() for path in paths if path != service_worker]
    version, code = digest.hexdigest()[:16], service_worker.read_text(encoding="utf-8")
    code = f'const VERSION = "{version}";\nconst FILES = {json.dumps(names)};\n{code}'
    service_worker.write_text(code, encoding="utf-8")
