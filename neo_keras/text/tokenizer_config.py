"""`tokenizer_config.json`, Hugging Face's file beside a `tokenizer.json`: what is used of it."""

import dataclasses
import json
import os

from neo_keras.atomic_files import parse_json
from neo_keras.errors import InputError

CONFIG_NAME, TEMPLATE_NAME = "tokenizer_config.json", "chat_template.jinja"
GENERATION_NAME = "generation_config.json"


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
    """Which tokens begin and end a text, and how a conversation becomes one; see `chat`."""

    eos_token: str | None = None  # ends a text
    bos_token: str | None = None  # begins one
    add_bos_token: bool = False  # whether the model expects that at the beginning
    chat_template: str | None = None  # Jinja
    extra_eos_tokens: tuple[str, ...] = ()  # end a text, too; only neo_keras writes this field

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value, expected = getattr(self, field.name), bool if field.type is bool else str
            if field.name == "extra_eos_tokens":
                value = None if all(isinstance(token, str) for token in value) else value
            if not isinstance(value, expected) and (value is not None or expected is bool):
                raise InputError(
                    f"expected a {CONFIG_NAME} whose {field.name} is of the type "
                    f"{expected.__name__}, got {value!r}; correct it, or take the file away"
                )
        if self.bos_token is None:  # there is none to add
            object.__setattr__(self, "add_bos_token", False)

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
        extra = fields.get("extra_eos_tokens")
        if isinstance(generation := fields.get(GENERATION_NAME), dict):
            extra = _tokens_of(generation.get("eos_token_id"), tokenizer_json)
            extra = [token for token in extra if token != eos_token]
        extra = tuple(extra) if isinstance(extra, list) else (extra,) * (extra is not None)
        return cls(eos_token, bos_token or first, add_bos_token, template, extra)

    def to_json(self) -> str | None:
        """The text of the file; None where it would say nothing."""
        if self == TokenizerConfig():
            return None
        fields = dataclasses.asdict(self)
        if not self.extra_eos_tokens:
            del fields["extra_eos_tokens"]
        return json.dumps(fields, indent=2, ensure_ascii=False) + "\n"


def read_beside(path: os.PathLike) -> str | bytes | None:
    """What the `tokenizer_config.json` beside a file holds; None if there is none.

    Two more of Hugging Face's files beside it belong to it: `chat_template.jinja` is its chat
    template, and `generation_config.json` lists end tokens.
    """
    config, more = _read_beside(path, CONFIG_NAME), {}
    for name, field, parse in (
        (TEMPLATE_NAME, "chat_template", bytes.decode),
        (GENERATION_NAME, GENERATION_NAME, lambda data: dict(parse_json(data))),
    ):
        if (data := _read_beside(path, name)) is not None:
            try:
                more[field] = parse(data)
            except (ValueError, TypeError) as error:
                raise InputError(
                    f"{path}: the {name} beside it is damaged ({error}): copy it again"
                ) from None
    try:
        return json.dumps({**parse_json(config or "{}"), **more}) if more else config
    except (ValueError, TypeError):
        return config  # which is no JSON object, as `from_json` will say


def _read_beside(path, name):
    try:
        with open(os.path.join(os.path.dirname(path), name), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(
            f"{path}: cannot read the {name} beside it ({error.strerror}): correct that"
        ) from None


def _content(token):
    """Of a token that is text, or an object with its text."""
    return token.get("content") if isinstance(token, dict) else token


def _tokens_of(token_ids, tokenizer_json):
    """The added tokens of a tokenizer.json with an id, or with ids in a list."""
    token_ids = token_ids if isinstance(token_ids, list) else [token_ids]
    added = json.loads(tokenizer_json).get("added_tokens") or []
    return [token["content"] for token in added if token["id"] in token_ids]


def _first_token(post_processor):
    """The token that a post-processor of a tokenizer.json puts before a text, or None."""
    post_processor = post_processor or {}
    parts = post_processor.get("processors", [post_processor])
    for part in parts:
        match part.get("single"):
            case [{"SpecialToken": {"id": token}}, {"Sequence": _}, *_]:
                return token
    return None
