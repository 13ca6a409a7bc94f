"""A web page around a `.tflite`: static files, for any host, that need nothing from elsewhere."""

import hashlib
import json
import pathlib
import shutil
import zipfile

from neo_keras.errors import InputError
from neo_keras.export import parity
from neo_keras.export.kv_cache import bucket_ends
from neo_keras.export.signatures import page_signatures, sample_name
from neo_keras.export.tflite import write_tflite
from neo_keras.generation.engine import Engine
from neo_keras.generation.interpreter_runner import interpreter_runner

PAGE = pathlib.Path(__file__).parent / "page"
PACKAGES = pathlib.Path("web", "node_modules", "@litertjs")
# By the name that each file of LiteRT.js has in the page. "compat" is for browsers without relaxed
# SIMD; a visitor loads one of the two builds.
RUNTIME = {
    "index.js": "core/dist/index.js",
    "wasm-utils.js": "wasm-utils/dist/index.js",
    **{
        f"litert_wasm_{build}.{suffix}": f"core/wasm/litert_wasm_{build}.{suffix}"
        for build in ("internal", "compat_internal")
        for suffix in ("js", "wasm")
    },
}
BARE_IMPORT = '"@litertjs/wasm-utils"'  # a worker has no import map that could resolve it


def write(source, path, quantization):
    """Writes a directory and measures its model; see `formats.Format`."""
    path.mkdir()
    model, model_path = source.model, path / "model.tflite"
    write_tflite(
        model, model_path, source.tokenizer, quantization, source.flatbuffers, page_signatures
    )
    write_page_around(model_path)
    return parity.measure(page_engine(model_path, model.config), source.reference)


def page_engine(path, config):
    """The engine of a page's `.tflite`, outside of the page, to see its logits."""
    runner, ends = interpreter_runner(path), bucket_ends(config.max_seq_len)

    def decode(inputs, cache):
        end = next(end for end in ends if inputs["input_pos"][0] < end)
        return runner.functions[sample_name(end)](inputs, cache)

    runner.functions["decode"] = decode
    return Engine(runner, config)


def check_installed():
    """Where npm put LiteRT.js: below the current directory, or in the repository.

    Returns:
        path of the directory `@litertjs`.

    Raises:
        InputError: it is not installed.
    """
    for root in (pathlib.Path(), pathlib.Path(__file__).parents[2]):
        if all((root / PACKAGES / file).is_file() for file in RUNTIME.values()):
            return root / PACKAGES
    raise InputError(
        f"a web page needs LiteRT.js in {PACKAGES}, and it is not there: run npm ci --prefix web"
    )


def write_page_around(model_path):
    """Completes the directory of a `.tflite` to a page.

    Args:
        model_path: of `model.tflite`, as `artifact.pack_tflite` left it.
    """
    directory = model_path.parent
    for source in sorted(PAGE.iterdir()):
        shutil.copyfile(source, directory / source.name)
    with zipfile.ZipFile(model_path) as archive:
        archive.extractall(directory)  # config.json and tokenizer.json
    _copy_runtime(directory / "litert")
    _complete_service_worker(directory)


def _copy_runtime(directory):
    directory.mkdir()
    runtime = check_installed()
    for name, source in RUNTIME.items():
        shutil.copyfile(runtime / source, directory / name)
    for name in ("index.js", "wasm-utils.js"):
        text = (directory / name).read_text(encoding="utf-8")
        text = text.replace(BARE_IMPORT, '"./wasm-utils.js"')
        text, _, _ = text.partition("//# sourceMappingURL=")  # of a file that is not copied
        (directory / name).write_text(text, encoding="utf-8")


def _complete_service_worker(directory):
    # A browser takes a service worker for a new one if a byte of its file has changed.
    service_worker = directory / "sw.js"
    digest = hashlib.sha256()
    names = []
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            digest.update(path.read_bytes())
            if path != service_worker:
                names.append(path.relative_to(directory).as_posix())
    constants = {"VERSION": digest.hexdigest()[:16], "FILES": names}
    lines = [f"const {name} = {json.dumps(value)};\n" for name, value in constants.items()]
    text = service_worker.read_text(encoding="utf-8")
    service_worker.write_text("".join(lines) + text, encoding="utf-8")
