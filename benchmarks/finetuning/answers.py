"""Asks the held-out questions: how many answers are right, and are they the same everywhere?

Greedy, in what a run of conversations was exported to.
"""

import argparse
import json
import pathlib
import sys
import urllib.request

import rich
from rich.table import Table

ROOT = pathlib.Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "web")]  # so that it runs uninstalled

import facts
from chromium import Browser
from page_driver import DONE, open_page, served

from neo_keras.errors import one_line_errors
from neo_keras.generation.chat import Conversation
from neo_keras.generation.load import load_engine
from neo_keras.generation.sampler import GREEDY
from neo_keras.native_logs import native_log_hidden

MAX_TOKENS = 24


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("run", metavar="RUN", help="with export/model-int8.litertlm, export/model-int8.gguf and "
        "export/web, as far as they are there")  # fmt: skip
    add("--base", metavar="FOLDER", help="what it was before, to ask that as well")
    add("--questions", type=int, default=50, metavar="N", help="[%(default)s]")
    return parser.parse_args()


def main(args):
    questions = facts.questions()[:: max(50 // args.questions, 1)]
    export = pathlib.Path(args.run) / "export"
    models = {
        "before": (ours, args.base),
        "Keras": (ours, args.run),
        ".tflite int8": (ours, export / "model-int8.tflite"),
        "LiteRT-LM int8": (litert_lm, export / "model-int8.litertlm"),
        "llama.cpp Q8_0": (llama_cpp, export / "model-int8.gguf"),
        "page int8": (page, export / "web"),
    }
    answers = {
        name: ask(path, [question for question, _ in questions])
        for name, (ask, path) in models.items()
        if path and pathlib.Path(path).exists()
    }
    table = Table("model", f"right of {len(questions)}", "as Keras")
    for name, texts in answers.items():
        right = sum(key in text for text, (_, key) in zip(texts, questions))
        same = sum(a == b for a, b in zip(texts, answers["Keras"]))
        table.add_row(name, str(right), str(same))
    rich.print(table)
    for i, (question, _) in enumerate(questions):
        print(question, *(f"  {name}: {texts[i]}" for name, texts in answers.items()), sep="\n")


def ours(path, questions):
    engine, tokenizer = load_engine(path)
    return [
        "".join(Conversation(engine, tokenizer).answer(question, MAX_TOKENS, GREEDY))
        for question in questions
    ]


def litert_lm(path, questions):
    from litert_lm import SamplerConfig

    from neo_keras.export.litertlm import LiteRTLM

    greedy = SamplerConfig(top_k=1, temperature=0.0)
    options, answers = {"sampler_config": greedy, "max_output_tokens": MAX_TOKENS}, []
    with LiteRTLM(path) as engine:
        for question in questions:
            with engine.create_conversation(**options) as conversation:
                answers.append(str(conversation.send_message(question)))
    return answers


def llama_cpp(path, questions):
    import xllamacpp

    with native_log_hidden():
        params = xllamacpp.CommonParams()
        params.model.path, params.n_ctx, params.use_jinja = str(path), 512, True
        server = xllamacpp.Server(params)

        def answer(question):
            body = {"messages": [{"role": "user", "content": question}], "temperature": 0,
                    "max_tokens": MAX_TOKENS}  # fmt: skip
            request = urllib.request.Request(
                f"{server.listening_address}/v1/chat/completions", json.dumps(body).encode(),
                {"Content-Type": "application/json"},
            )  # fmt: skip
            with urllib.request.urlopen(request) as response:
                return json.load(response)["choices"][0]["message"]["content"]

        return list(map(answer, questions))


def page(path, questions):
    answers = []
    with served(path) as url, Browser() as browser:
        opened = open_page(browser, url)
        for question in questions:
            opened.evaluate("document.querySelector('#chat').click()")
            fields = {"length": MAX_TOKENS, "temperature": 0, "prompt": question}
            for name, value in fields.items():
                opened.fill(f"#{name}", value)
            opened.click("#write")
            opened.wait_for(DONE)
            last = "[...document.querySelectorAll('.bubble')].at(-1).textContent"
            answers.append(opened.evaluate(last))
            opened.evaluate("document.querySelector('#chat').click()")  # which forgets all
    return answers


if __name__ == "__main__":
    arguments = parse_arguments()
    with one_line_errors():
        main(arguments)
