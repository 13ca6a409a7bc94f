"""What a chat template may use, and how much work each use is: so that a stranger's ends in time.

The unit is about the copying of a character. Whatever makes or reads a value is paid for before it
is done, so what is left of the work bounds the memory, too.
"""

import collections.abc
import contextvars
import re

from jinja2.utils import Namespace

MAX_WORK = 30_000_000  # a conversation of 250,000 tokens, read 30 times
# Of a step of the template, of an item of a list, of a call: about as they take time.
NODE_WORK, ITEM_WORK, CALL_WORK = 4, 16, 100
MAX_WIDTH = 999  # of a formatted value
# Widths and precisions of "%5.3d" and such, with too many digits or from an argument.
_WIDE_FORMAT = re.compile(r"%(\([^)]*\))?[-+ #0]*(\*|\d{4}|\d*\.(\*|\d{4}))")
work_left = contextvars.ContextVar("work_left", default=0)


class TooMuchWork(Exception):
    """A template does more than `MAX_WORK`."""


class TooWide(Exception):
    """A template formats a value with a width of more than `MAX_WIDTH`."""


def spend(work):
    """Takes from what is left; raises `TooMuchWork`."""
    left = work_left.get() - max(work, 0)
    if left < 0:
        raise TooMuchWork
    work_left.set(left)


def counted(parts):
    """Yields the items of an iterable, and pays for each."""
    for part in parts:
        spend(ITEM_WORK + size(part))
        yield part


def size(value):
    """The work of reading a value, but not what is in its items."""
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, int):
        return value.bit_length() // 8
    return ITEM_WORK * len(value) if hasattr(value, "__len__") else ITEM_WORK


def deep_size(*values, **named):
    """The work of reading values to their depths, where the same may be met many times."""
    total, stack, most = 0, [*values, *named.values()], work_left.get()
    while stack:
        value = stack.pop()
        if isinstance(value, Namespace):
            value = value._Namespace__attrs
        total += 1 + size(value)
        if total > most:
            raise TooMuchWork
        if isinstance(value, dict):
            stack += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple, collections.abc.MappingView)):
            stack += value
    return total


def check_format(text):
    """Raises `TooWide` unless the widths in the left side of `text % values` are small."""
    if _WIDE_FORMAT.search(text):
        raise TooWide


def format_work(text, *args, **kwargs):
    """Of `text % args` or `text.format(*args)`, each of which may stand there many times."""
    places = text.count("%") + text.count("{")
    return len(text) + places * (MAX_WIDTH + deep_size(*args, **kwargs))


def operator_work(operator, left, right):
    """Of the operators that make something large of something small."""
    are_counts = isinstance(left, int), isinstance(right, int)
    if operator == "%" and isinstance(left, str):
        check_format(left)
        return format_work(left, right)
    if operator == "**" and all(are_counts):
        return (left.bit_length() * abs(right)) ** 2 // 64
    if operator == "*" and all(are_counts):
        return left.bit_length() * right.bit_length() // 64
    if operator == "*" and any(are_counts):
        number, repeated = (left, right) if are_counts[0] else (right, left)
        return number * size(repeated)
    return size(left) + size(right)


def _format_filter_work(text, *args, **kwargs):
    check_format(str(text))
    return format_work(str(text), *args, **kwargs)


def _first_work(value, *_, **__):
    return size(value)


def _items_work(value, *_, **__):
    return ITEM_WORK * size(value)


def _no_work(*_, **__):
    return 1


def _replace_work(text, old, new, *_, **__):
    return deep_size(text) + str(text).count(str(old)) * deep_size(new)


def _indent_work(text, width=4, *_, **__):
    width = len(width) if isinstance(width, str) else int(width)
    return deep_size(text) + (1 + len(str(text).splitlines())) * width


def _join_work(items, separator="", *_, **__):
    return deep_size(items) + len(items) * deep_size(separator)


def _split_work(text, separator=None, *_):
    return len(text) + ITEM_WORK * (text.count(separator) if separator else len(text) // 2)


def _search_work(text, characters="", *_):
    """Of what takes time in proportion to both lengths."""
    return deep_size(text) * (1 + size(characters) // 16)


def _rsplit_work(text, separator=None, *_):
    return _split_work(text, separator) + _search_work(text, separator)


def _table(*rows):
    return {name: work for names, work in rows for name in names.split()}


# The work of a call with these arguments; of a method, the first one is its object.
METHODS = {
    str: _table(
        ("capitalize count endswith find index isalnum isalpha isdigit islower", deep_size),
        ("isspace isupper lower partition removeprefix removesuffix", deep_size),
        ("startswith title upper", deep_size),
        ("lstrip rfind rpartition rstrip strip", _search_work),
        ("replace", _replace_work), ("split", _split_work), ("rsplit", _rsplit_work),
        ("splitlines", _items_work), ("format", format_work),
        ("join", lambda text, items: _join_work([*items], text)),
    ),
    dict: _table(("copy items keys values", size), ("get", lambda _, *args: deep_size(*args))),
    list: _table(("count index", deep_size)),
    tuple: _table(("count index", deep_size)),
}  # fmt: skip
FILTERS = _table(
    ("count d default first items last length", _no_work),
    ("map reject rejectattr reverse select selectattr", _first_work),
    ("abs capitalize dictsort float int lower max min sort string title unique upper", deep_size),
    ("list", _items_work), ("trim", _search_work), ("replace", _replace_work),
    ("indent", _indent_work), ("join", _join_work), ("format", _format_filter_work),
)  # fmt: skip
# Of these, what is made one by one is made before it is paid for.
READ_ALL = ("join", "list", "sort", "unique")
TESTS = _table(
    ("boolean defined divisibleby even false float integer iterable mapping none", _no_work),
    ("number odd sameas sequence string true undefined", _no_work),
    ("!= < <= == > >= eq equalto ge greaterthan gt in le lessthan lower lt ne upper", deep_size),
)
