"""Chat templates that would take all time or memory, or a way out: one line each, soon."""

import resource
import time

import pytest
from chat_templates import conversation

from neo_keras.errors import InputError
from neo_keras.text import sandbox
from neo_keras.text.chat import render
from neo_keras.text.template_work import MAX_WORK
from neo_keras.text.tokenizer_config import TokenizerConfig

# What the limits allow takes about two seconds; a machine may be ten times as slow.
MAX_SECONDS, MAX_BYTES = 40, 2**30

LOOPS = "{%% for a in range(99999) %%}{%% for b in range(99999) %%}%s{%% endfor %%}{%% endfor %%}"
DOUBLED = "{%% set ns = namespace(x=%s) %%}{%% for i in range(200) %%}{%% set ns.x = %s %%}"
DOUBLED += "{%% endfor %%}%s"
ENDLESS = {
    "nested loops": LOOPS % "",
    "loops that write": LOOPS % ("a" * 9999),
    "a condition of a loop": "{% for a in range(99999) %}{% for b in range(99999) if b < 0 %}"
    "{% endfor %}{% endfor %}",
    "loops by a filter": "{% for a in range(99999) %}{{ range(99999) | select('odd') | list }}"
    "{% endfor %}",
    "macros that call twice": "".join(
        f"{{% macro m{i}() %}}{{{{ m{i + 1}() }}}}{{{{ m{i + 1}() }}}}{{% endmacro %}}"
        for i in range(60)
    ) + "{% macro m60() %}{% endmacro %}{{ m0() }}",
    "a macro that calls itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "blocks": "{% block a %}{{ self.a() }}{{ self.a() }}{% endblock %}",
    "recursive loops": "{% for a in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "a text times a number": "{{ 'a' * 10**10 }}",
    "a list times a number": "{% set x = 10**10 * [messages] %}",
    "a width": "{{ '%0999999999d' % 1 }}",
    "a precision": "{{ '%.*f' % (999999999, 1) }}",
    "a width of format": "{{ '{:999999999}'.format(1) }}",
    "a width given to format": "{{ '{:{}}'.format(1, 999999999) }}",
    "format of one text many times": "{{ ('{0}' * 9999).format('a' * 99999) }}",
    "% of one text many times": "{{ ('%(a)s' * 9999) % {'a': 'a' * 99999} }}",
    "the filter format": "{{ '%9999999999d' | format(1) }}",
    "doubled by +": DOUBLED % ("'a'", "ns.x + ns.x", ""),
    "doubled by ~": DOUBLED % ("'a'", "ns.x ~ ns.x", ""),
    "doubled lists": DOUBLED % ("[1]", "ns.x + ns.x", ""),
    "doubled in a block": DOUBLED.replace("{%% set ns.x = %s %%}",
        "{%% set x %%}%s{%% endset %%}{%% set ns.x = x %%}") % ("'a'", "{{ ns.x }}{{ ns.x }}", ""),
    "deep lists, written": DOUBLED % ("1", "[ns.x, ns.x]", "{{ ns.x }}"),
    "deep lists, compared": DOUBLED % ("1", "[ns.x, ns.x]", "{{ ns.x == ns.x ~ '' }}"),
    "deep lists, as JSON": DOUBLED % ("1", "{'a': ns.x, 'b': ns.x}", "{{ ns.x | tojson }}"),
    "deep tuples as keys": DOUBLED % ("1", "(ns.x, ns.x)", "{{ {ns.x: 1} | length }}"),
    "deep namespaces": DOUBLED % ("1", "namespace(a=ns.x, b=ns.x)", "{{ ns.x }}"),
    "a namespace in itself": "{% set ns = namespace(a=1) %}{% set ns.a = ns %}{{ ns }}",
    "a huge power": "{{ 9 ** (9 ** 9) }}",
    "squares": DOUBLED % ("99", "ns.x * ns.x", ""),
    "replace": "{{ ('a' * 99999).replace('a', 'a' * 99999) }}",
    "the filter replace": "{{ 'a' * 9999 | replace('a', 'a' * 9999) | replace('', 'a' * 99999) }}",
    "join": "{{ ('a' * 99999).join(range(99999) | map('string') | list) }}",
    "the filter join": "{{ range(99999) | join('a' * 99999) }}",
    "indent": "{{ ('\n' * 9999) | indent(99999) }}",
    "indent of JSON": "{{ messages | tojson(indent=10**10) }}",
    "separators of JSON": "{{ range(99999) | list | tojson(separators=('a' * 99999, ':')) }}",
    "rfind": "{{ ('a' * 999999).rfind('b' + 'a' * 499999) }}",
    "strip": "{{ ('a' * 999999).strip('b' * 999999 + 'a') }}",
    "a date": "{{ strftime_now('%0999999999Y') }}",
    "many arguments": "{% for a in range(99999) %}{{ dict(*range(99999)) }}{% endfor %}",
    "copies of lists": "{% set x = range(99999) | list %}{% for a in x %}{% set y = x[1:] %}"
    "{% endfor %}",
    "work that is given back": "{{ (-10**12) | _step }}{{ 'a' * 10**10 }}",
    "too long": "{# " + "a" * 200_000 + " #}",
    "brackets": "{{ " + "(" * 9999 + ")" * 9999 + " }}",
    "conditions": "{% if x %}" * 999 + "{% endif %}" * 999,
    "a long number": "{{ " + "9" * 9999 + " }}",
}  # fmt: skip
WAYS_OUT = [
    "{{ messages.__class__ }}", "{{ ''.__class__.__mro__ }}", "{{ ''['__class__'] }}",
    "{{ cycler.__init__.__globals__ }}", "{{ lipsum.__globals__ }}", "{{ self.__init__ }}",
    "{{ self._TemplateReference__context }}", "{{ '{0.__class__}'.format('') }}",
    "{{ '%s'.format_map(messages[0]) }}", "{{ messages.append(1) }}", "{{ messages[0].clear() }}",
    "{{ ''.encode() }}", "{{ 'a'.zfill(10**10) }}", "{{ 'a'.ljust(10**10) }}",
    "{{ range.__globals__ }}", "{{ strftime_now.__globals__ }}", "{{ x.__globals__ }}",
    "{{ messages | attr('__class__') }}", "{{ raise_exception.__globals__ }}",
    "{{ messages | map(attribute='__class__') | list }}", "{{ namespace(__class__=1) }}",
    "{% set ns = namespace() %}{% set ns.__class__ = 1 %}", "{{ dict.fromkeys('a') }}",
    "{% for a in messages %}{{ loop._iterator }}{% endfor %}", "{{ (1).to_bytes(10**10) }}",
    "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}", "{% import 'os' as os %}",
    "{% include '/etc/passwd' %}", "{% extends 'a' %}", "{{ [] | random }}",
    "{% autoescape true %}a{% endautoescape %}", "{{ messages[0].keys() - [1] }}",
]  # fmt: skip


def refusal(template):
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError) as caught:
        render(TokenizerConfig(chat_template=template), conversation("Hi", "Yes"))
    assert time.perf_counter() - begin < MAX_SECONDS
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert taken * 1024 < MAX_BYTES  # of the most that the process ever had
    message = str(caught.value)
    assert message.startswith("expected a chat template that renders, got one that ")
    assert len(message) < 300 and "\n" not in message
    return message


@pytest.mark.parametrize("work", [2_000_000, pytest.param(MAX_WORK, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("name", ENDLESS)
def test_it_ends(name, work, monkeypatch):
    monkeypatch.setattr(sandbox, "MAX_WORK", work)
    refusal(ENDLESS[name])


@pytest.mark.parametrize("template", WAYS_OUT)
def test_there_is_no_way_out(template):
    assert " that says " in refusal(template)


def test_a_long_conversation_is_none_of_these():
    """A template that reads each message many times has room for what fits no context of ours."""
    template = (
        "{% for m in messages %}{% if m.content is string and 'x' not in m.content %}"
        "{{ '<' + m.role + '>' + (m.content | trim) + '\\n' }}{% endif %}"
        "{% if loop.index0 == messages | length - 1 %}.{% endif %}{% endfor %}"
    )
    messages = conversation(*["the a b\n" * 250] * 500)  # a million characters
    text = render(TokenizerConfig(chat_template=template), messages)
    assert len(text) > 990_000 and text.endswith(".")
    assert MAX_WORK > 10 * len(text)
