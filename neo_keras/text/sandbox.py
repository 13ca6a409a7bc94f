"""Renders templates of strangers: Jinja, without a way out, and with a limit to time and memory.

Jinja's own sandbox keeps a template away from Python, but lets it loop or grow without end. Here
all that takes time or memory is paid for, see `template_work`. A name, filter, test or method that
is not in a table does not exist.
"""

import functools
import json
import re
import string
from datetime import datetime

import jinja2
from jinja2 import filters, nodes, tests, utils
from jinja2.ext import Extension, LoopControlExtension
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter, safe_range
from jinja2.visitor import NodeTransformer

from neo_keras.text.template_work import (
    CALL_WORK,
    FILTERS,
    ITEM_WORK,
    MAX_WORK,
    METHODS,
    NODE_WORK,
    READ_ALL,
    TESTS,
    TooMuchWork,
    TooWide,
    counted,
    deep_size,
    format_work,
    operator_work,
    size,
    spend,
    work_left,
)

MAX_TEMPLATE_CHARS = 100_000  # the longest of well-known models have 20,000
MAX_INDENT = 16


def _paid(function, work, reads_all=False):
    """A filter or a test that is paid for."""
    first = int(hasattr(function, "jinja_pass_arg"))  # some get the environment before the value

    @functools.wraps(function)
    def paid(*args, **kwargs):
        if reads_all and not hasattr(args[first], "__len__"):
            args = (*args[:first], [*counted(args[first])], *args[first + 1 :])
        spend(work(*args[first:], **kwargs))
        return function(*args, **kwargs)

    return paid


@jinja2.pass_context
def _written(context, value):
    """What is written. With a context, Jinja does not call it while it compiles."""
    return _read(value)


def _read(value):
    spend(deep_size(value))
    return value


def _made(value):
    spend(size(value))
    return value


def _step(work):
    spend(work)
    return True


def _concat(values):
    spend(deep_size(values))
    return "".join(map(str, values))


def _tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    """As transformers defines it: Jinja's own escapes what is HTML."""
    spend(deep_size(x))
    lengths = [len(text) for text in separators or ()]
    lengths.append(indent if isinstance(indent, int) else len(indent or ""))
    if max(lengths) > MAX_INDENT:
        raise TooWide
    encoder = json.JSONEncoder(
        ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    return "".join(counted(encoder.iterencode(x)))


def _raise_exception(message):
    raise jinja2.TemplateError(str(message))


def _strftime_now(format):
    if len(format) > 100 or re.search(r"%[^%a-zA-Z]*\d", format):
        raise TooWide
    return datetime.now().strftime(format)


def _dict(*args, **kwargs):
    spend(deep_size(*args, **kwargs))
    return dict(*args, **kwargs)


class _Namespace(utils.Namespace):
    """Jinja's, without names that begin with an underscore: they may be Python's own."""

    def __init__(*args, **kwargs):  # noqa: B902  # `self` may be a name of the template's
        attributes = _dict(*args[1:], **kwargs)
        for name in attributes:
            _check_name(name)
        utils.Namespace.__init__(args[0], attributes)

    def __setitem__(self, name, value):
        _check_name(name)
        utils.Namespace.__setitem__(self, name, value)


def _check_name(name):
    if str(name).startswith("_"):
        raise jinja2.TemplateError(f"a namespace may have no {name}")


class _Generation(Extension):
    """`{% generation %}` marks what an assistant says, for other programs: its body is rendered."""

    tags = {"generation"}

    def parse(self, parser):
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.Scope(body).set_lineno(lineno)


# Inserted into templates. They are filters, since a template can give no filter another meaning.
_PAYMENTS = {"_read": _read, "_made": _made, "_step": _step, "_concat": _concat}


class _Payment(NodeTransformer):
    """Inserts `_PAYMENTS` where no method of `_Environment` is called."""

    def __init__(self):
        self.work = 0

    def visit(self, node):
        self.work += NODE_WORK
        if isinstance(node, nodes.TemplateData):
            self.work += len(node.data)
        return super().visit(node)

    def _visit_body(self, node):
        before = self.work
        self.generic_visit(node)
        step = _filtered("_step", nodes.Const(self.work - before))
        node.body.insert(0, nodes.ExprStmt(step))
        if getattr(node, "test", None):  # of a loop: it is asked without the body, too
            node.test = nodes.And(step, node.test)
        return node

    visit_For = visit_Macro = visit_CallBlock = _visit_body

    def visit_Concat(self, node):
        return _filtered("_concat", nodes.List(self.generic_visit(node).nodes))

    def visit_Operand(self, node):
        self.generic_visit(node)
        node.expr = _measured(node.expr)
        return node

    visit_Compare = visit_Operand

    def visit_Pair(self, node):
        self.generic_visit(node)
        node.key = _measured(node.key)  # it is hashed
        return node

    def visit_Getitem(self, node):
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            return _filtered("_made", node)
        node.arg = _measured(node.arg)
        return node

    def _refuse(self, node):
        raise jinja2.TemplateError("block and autoescape are not for chat templates")

    visit_Block = visit_ScopedEvalContextModifier = _refuse


def _measured(node):
    return node if isinstance(node, nodes.Const) else _filtered("_read", node)


def _filtered(name, node):
    return nodes.Filter(node, name, [], [], None, None)


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(["+", "-", "*", "**", "%"])

    def __init__(self):
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, LoopControlExtension],
            optimized=False, finalize=_written,
        )  # fmt: skip
        self.globals = {
            "dict": _dict, "namespace": _Namespace, "raise_exception": _raise_exception,
            "range": safe_range, "strftime_now": _strftime_now,
        }  # fmt: skip
        self.filters = {
            name: _paid(filters.FILTERS[name], work, name in READ_ALL)
            for name, work in FILTERS.items()
        }
        # Of Jinja's "safe" nothing is left where nothing is escaped.
        self.filters |= _PAYMENTS | {"tojson": _tojson, "safe": self.filters["string"]}
        self.tests = {name: _paid(tests.TESTS[name], work) for name, work in TESTS.items()}

    def call_binop(self, context, operator, left, right):
        if operator == "-" and not isinstance(left, (int, float)):
            left = float(left)  # of keys, "-" would make a set
        spend(operator_work(operator, left, right))
        return super().call_binop(context, operator, left, right)

    def is_safe_attribute(self, obj, attr, value):
        if isinstance(obj, (LoopContext, utils.Namespace)):
            return not attr.startswith("_")
        return any(attr in table for kind, table in METHODS.items() if isinstance(obj, kind))

    def unsafe_undefined(self, obj, attribute):
        raise jinja2.TemplateError(f"templates may not read {attribute} of {type(obj).__name__}")

    def wrap_str_format(self, value):
        text, formatter = getattr(value, "__self__", None), SandboxedFormatter(self)
        if not isinstance(text, str) or value.__name__ != "format":
            return None

        def format(*args, **kwargs):
            for *_, spec, _ in string.Formatter().parse(text):
                if re.search(r"\{|\d{4}", spec or ""):
                    raise TooWide
            spend(format_work(text, *args, **kwargs))
            return formatter.vformat(text, args, kwargs)

        return format

    def call(self, context, obj, *args, **kwargs):
        spend(CALL_WORK + ITEM_WORK * (len(args) + len(kwargs)))
        owner = getattr(obj, "__self__", None)
        for kind, table in METHODS.items():
            if isinstance(owner, kind):
                spend(table[obj.__name__](owner, *args, **kwargs))
        if isinstance(owner, LoopContext):
            spend(deep_size(*args))
        return super().call(context, obj, *args, **kwargs)


@functools.lru_cache(maxsize=8)
def _compiled(source):
    environment = _Environment()
    tree = _Payment().visit(environment.parse(source))
    tree.set_environment(environment)
    return environment.from_string(tree)


def render_template(source, variables):
    """Renders a template.

    Args:
        source: str, of a stranger.
        variables: dict by name, of JSON values alone.

    Returns:
        str.

    Raises:
        TooMuchWork: it is too long, or has more work than `MAX_WORK`.
        TooWide: it formats something with a large width.
        Exception: of any type, with what is wrong with the template. What it says may be long.
    """
    if len(source) > MAX_TEMPLATE_CHARS:
        raise TooMuchWork
    token = work_left.set(MAX_WORK)
    try:
        return _compiled(source).render(variables)
    finally:
        work_left.reset(token)
