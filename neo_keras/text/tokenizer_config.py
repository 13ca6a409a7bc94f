"""`tokenizer_config.json`, Hugging Face's file beside a `tokenizer.json`: what is used of it."""

import dataclasses
import json
import os

from neo_keras.atomic_files import parse_json
from neo_keras.errors import InputError

CONFIG_NAME = "tokenizer_config.json"


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
    """Which tokens begin and end a text. A chat template is carried along, and never rendered."""

    eos_token: str | None = None  # ends a text
    bos_token: str | None = None  # begins one
    add_bos_token: bool = False  # whether the model expects that at the beginning
    chat_template: str | None = None  # Jinja

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value, expected = getattr(self, field.name), bool if field.type is bool else str
            if not isinstance(value, expected) and (value is not None or expected is bool):
                raise InputError(
                    f"expected a {CONFIG_NAME} whose {field.name} is of the type "
                    f"{expected.__name__}, got {value!r}; correct it, or take the file away"
                )

    @classmethod
    def from_json(
        cls, text: str | bytes | None, tokenizer_json: str | bytes = "{}"
    ) -> "TokenizerConfig":
        """Reads the text of a `tokenizer_config.json`, None if there is none.

        Args:
            tokenizer_json: The text of the `tokenizer.json`, whose post-processor may name the
                token that begins a text, too.

        Raises:
            InputError: It is none.
        """
        try:
            fields = {} if text is None else dict(parse_json(text))
            template = fields.get("chat_template")
            if isinstance(template, list):  # of several, each with a name
                template = {row["name"]: row["template"] for row in template}.get("default")
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"expected a {CONFIG_NAME} with a JSON object, got something else ({error}); "
                "correct it, or take the file away"
            ) from None
        eos_token, bos_token = (_content(fields.get(name)) for name in ("eos_token", "bos_token"))
        add_bos_token = fields.get("add_bos_token")
        first = _first_token(json.loads(tokenizer_json).get("post_processor"))
        if add_bos_token is None:
            add_bos_token, bos_token = first is not None, first or bos_token
        return cls(eos_token, bos_token or first, add_bos_token, template)

    def to_json(self) -> str | None:
        """The text of the file; None where it would say nothing."""
        if self == TokenizerConfig():
            return None
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"


def read_beside(path: os.PathLike) -> bytes | None:
    """What the `tokenizer_config.json` beside a file holds; None if there is none."""
    try:
        with open(os.path.join(os.path.dirname(path), CONFIG_NAME), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(
            f"{path}: cannot read the {CONFIG_NAME} beside it ({error.strerror}): correct that"
        ) from None


def _content(token):
    """Of a token that is text, or an object with its text."""
    return token.get("content") if isinstance(token, dict) else token


def _first_token(post_processor):
    """The token that a post-processor of a tokenizer.json puts before a text, or None."""
    post_processor = post_processor or {}
    parts = post_processor.get("processors", [post_processor])
    for part in parts:
        match part.get("single"):
            case [{"SpecialToken": {"id": token}}, {"Sequence": _}, *_]:
                return token
    return None
