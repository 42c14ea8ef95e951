"""The step `call`: what is known of a function before it runs, and what the step does with its message."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from broker.errors import Problem
from broker.hl7.message import Message
from broker.pipeline.compilation import Compilation
from broker.pipeline.functions import Function, faults
from broker.pipeline.route import Route, compile_route
from broker.pipeline.shape import Mistakes
from tests.pipeline.test_route import DESTINATIONS, LAYOUTS, RAW, TABLES, Engine

MODULE = """\
def normalise(message, prefix, *, strict=False):
    pass


def any_setting(message, **settings):
    pass


async def later(message):
    pass


def nothing():
    pass
"""


class Calling(Engine):
    """A context that calls nothing, but remembers what it was asked to."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.called: list[Function] = []

    def keep_attachment(self, content: bytes) -> str:
        return "0" * 64

    def call(self, function: Function, message: Message) -> Message:
        self.called.append(function)
        other = message.clone()
        other.set("MSH-5", "CALLED")
        return other


def compiled(settings: str, protocol: Any = "hl7") -> tuple[Route, Mistakes]:
    def read(name: str) -> str | Problem:
        return MODULE if name == "site/orders.py" else Problem(name, 0, "", "cannot be read: No such file or directory")

    site = {"name": "General", "authority": "H", "application": "BROKER"}
    compilation = Compilation(
        protocol=protocol, tables=TABLES, layouts=LAYOUTS, destinations=DESTINATIONS, site=site, mistakes=Mistakes(), files=read
    )
    steps = f"description: R.\nsteps:\n  - call: {settings}\nto: [{{send: ehr}}]"
    return compile_route(yaml.safe_load(steps), "channel", compilation), compilation.mistakes


def test_what_the_function_leaves_is_what_goes_on() -> None:
    route, mistakes = compiled("{module: site/orders.py, function: normalise, with: {prefix: H1}, limit: 200ms}")
    assert mistakes.found == []
    engine, message = Calling(), Message.parse(RAW)
    (sent,) = route.run(message, engine).outgoing
    assert Message.parse(sent.payload).get("MSH-5") == "CALLED"
    assert message.encode() == RAW
    assert engine.called == list(route.functions) == [Function("site/orders.py", MODULE, "normalise", {"prefix": "H1"}, 0.2)]


@pytest.mark.parametrize(
    ("settings", "key", "what", "instead"),
    [
        ("{module: site/order.py, function: f}", "module", "site/order.py cannot be read: No such file or directory", "write it"),
        ("{module: /etc/orders.py, function: f}", "module", "is no Python file of this configuration", "site/orders.py"),
        ("{module: ../orders.py, function: f}", "module", "is no Python file of this configuration", "site/orders.py"),
        ("{module: site/orders.txt, function: f}", "module", "is no Python file of this configuration", "site/orders.py"),
        ("{module: site/orders.py, function: normalize}", "function", "there is no function normalize", "did you mean normalise?"),
        ("{module: site/orders.py, function: later}", "function", "site/orders.py, line 9: later is asynchronous", "write def later"),
        ("{module: site/orders.py, function: nothing}", "function", "site/orders.py, line 13: nothing takes no message", "(message)"),
        ("{module: site/orders.py, function: normalise}", "function", "line 1: normalise needs a setting prefix", "with: {prefix: …}"),
        ("{module: site/orders.py, function: normalise, with: {prefix: x, strikt: 1}}", "function", "takes no setting strikt", "strict?"),
        ("{module: site/orders.py, function: any_setting, limit: 11s}", "limit", "not a limit", "at most 10s"),
        ("{module: site/orders.py, function: any_setting, limit: 0s}", "limit", "not a limit", "at most 10s"),
    ],
)
def test_mistakes_have_their_place(settings: str, key: str, what: str, instead: str) -> None:
    (mistake,) = compiled(settings)[1].found
    assert mistake.place == ("steps", 0, "call", key)
    assert what in mistake.what
    assert instead in mistake.instead


@pytest.mark.parametrize(
    ("source", "settings", "what"),
    [
        ("def f(message:\n  pass", [], (1, "not Python: '(' was never closed")),
        ("x = 1\n\n  y = 2", [], (3, "not Python: unexpected indent")),
        ("\0", [], (1, "not Python: source code string cannot contain null bytes")),
        ("def g(message): pass", [], (1, "there is no function f")),
        ("class C:\n  def f(message): pass", [], (1, "there is no function f")),
        ("def f(message, /, a, b=1, *, c, d=2): pass", ["a", "c"], None),
        ("def f(message, /, a, b=1, *, c, d=2): pass", ["a"], (1, "f needs a setting c")),
        ("def f(message, /, a): pass", ["message", "a"], (1, "f takes no setting message")),
        ("def f(*message): pass", [], None),
        ("def f(message, **rest): pass", ["anything"], None),
    ],
)
def test_a_module_is_read_before_it_runs(source: str, settings: list[str], what: tuple[int, str] | None) -> None:
    assert [fault[:2] for fault in faults(source, "f", settings)] == ([what] if what else [])


def test_a_module_that_is_only_read_does_nothing() -> None:
    assert faults("raise SystemExit\ndef f(message): pass", "f", []) == []
