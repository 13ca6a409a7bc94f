"""How fast the web page writes in a headless Chromium: texts one after another, for some seeds."""

import argparse
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "web")]  # so that it runs uninstalled

from chromium import Browser, chromium_path
from page_driver import open_page, served, write

from neo_keras.errors import InputError, one_line_errors


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("page", metavar="PAGE", help="directory that export.py --formats web wrote")
    add("--texts", type=int, default=6, help="to write [%(default)s]")
    add("--length", type=int, default=200, help="of a text, in tokens [%(default)s]")
    add("--pause", type=float, default=2.0, help="seconds before the first [%(default)s]")
    return parser.parse_args()


def measure(args):
    if not (pathlib.Path(args.page) / "worker.js").is_file():
        raise InputError(f"no web page at {args.page}: give what export.py --formats web wrote")
    if chromium_path() is None:
        raise InputError("no Chromium: apt-get install chromium")
    with Browser() as browser, served(args.page) as url:
        page = open_page(browser, url)
        time.sleep(args.pause)
        for seed in range(args.texts):
            write(page, prompt="ROMEO:", length=args.length, temperature=0.8, seed=seed)
            print(page.text("#status"), flush=True)


if __name__ == "__main__":
    with one_line_errors():
        measure(parse_arguments())
