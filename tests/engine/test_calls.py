"""Functions of the site: called in a process of their own, which may fail in any way without harm to the broker."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest

from broker.engine.calls import FAILURES, REST, Calls
from broker.errors import ConfigError, MessageError
from broker.hl7.message import Message
from broker.pipeline.functions import Function

RAW = b"MSH|^~\\&|EHR|H|B|R|2026||ORM^O01|C1|P|2.3.1\rPID|1||4711^^^H||D\xd6E^JANE\r\rZAA|x  \r"
SOURCE = """
import os
import sys

from broker.errors import MessageError
from broker.hl7.message import Message

def changes(message, prefix="", **rest):
    message.set("PID-2", prefix + message.get("PID-3.1"))

def returns(message):
    return {"PID-2": "ü", "PID-5.1": message.get("PID-5.1").lower()}

def another(message):
    other = message.clone()
    other.add("NTE")
    return other

def nothing(message):
    print(message.get("PID-5"))

def knows(message):
    return {"ZAA-1": os.environ.get("SECRET", "nothing")}

def raises(message):
    raise ValueError(message.get("PID-5"))

def deep(message):
    return {}[message.get("PID-5")] if message else raises(message)

def refuses(message):
    raise MessageError("PID-3", message.get("PID-3"), 204, reject=True)

def exits(message):
    sys.exit(message.get("PID-5"))

def ends(message):
    os._exit(1)

def hangs(message):
    while True:
        pass

def number(message):
    return 5

def wrong(message):
    return {"PID-5-5": "x"}

def unwritable(message):
    return {"PID-5": "\\u4e2d"}

def breaks(message):
    message.remove("MSH")

def eats(message):
    return bytearray(1 << 31)
"""


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


@pytest.fixture
def calls(clock: list[float]) -> Iterator[Calls]:
    calls = Calls(lambda: clock[0])
    yield calls
    calls.close()


def function(name: str, source: str = SOURCE, limit: float = 30.0, **settings: Any) -> Function:
    return Function("site/orders.py", source, name, settings, limit)


def called(calls: Calls, name: str, **options: Any) -> bytes:
    return calls.call(function(name, **options), Message.parse(RAW, "8859/1")).encode()


def in_lines(why: str) -> str:
    """Return the text with the number of the line that holds what stands in braces."""
    return re.sub(r"\{(.*)\}:", lambda m: f"line {[m[1] in line for line in SOURCE.splitlines()].index(True) + 1}:", why)


def failed(calls: Calls, name: str, **options: Any) -> MessageError:
    with pytest.raises(MessageError) as caught:
        called(calls, name, **options)
    assert "JANE" not in str(caught.value)
    assert "4711" not in str(caught.value)
    return caught.value


def test_a_function_changes_the_message_and_nothing_else(calls: Calls) -> None:
    assert called(calls, "changes", prefix="H1-") == RAW.replace(b"PID|1|", b"PID|1|H1-4711")
    assert called(calls, "returns") == RAW.replace(b"PID|1|", b"PID|1|\xfc").replace(b"D\xd6E", b"d\xf6e")
    assert called(calls, "another").endswith(b"ZAA|x  \rNTE\r")


def test_a_message_that_is_not_changed_is_the_very_one(calls: Calls) -> None:
    message = Message.parse(RAW, "8859/1")
    assert calls.call(function("nothing"), message) is message


def test_a_function_sees_nothing_of_the_environment(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "password")
    assert b"ZAA|nothing" in called(calls, "knows")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("raises", "site/orders.py, {raise ValueError}: raises raised ValueError"),
        ("deep", "site/orders.py, {return {}[}: deep raised KeyError"),
        ("exits", "site/orders.py, {sys.exit(}: exits raised SystemExit"),
        ("eats", "site/orders.py, {bytearray}: eats raised MemoryError"),
        ("breaks", 'site/orders.py, {remove("MSH")}: breaks raised ValueError'),
        ("number", "site/orders.py: number returned neither a message nor a dict of paths and texts"),
        ("wrong", "site/orders.py: wrong raised ValueError"),
        ("ends", "site/orders.py: ends ends its process"),
    ],
)
def test_a_function_that_fails_names_its_line_and_nothing_of_the_patient(calls: Calls, name: str, why: str) -> None:
    error = failed(calls, name)
    assert (error.path, error.why, error.code, error.reject) == ("", in_lines(why), 207, False)
    assert called(calls, "changes") != RAW


def test_a_function_may_refuse_with_a_place(calls: Calls) -> None:
    error = failed(calls, "refuses")
    assert (error.path, error.code, error.reject) == ("PID-3", 204, True)
    assert error.why == in_lines("site/orders.py, {raise MessageError}: refuses raised MessageError")
    assert failed(calls, "unwritable").why == "site/orders.py: unwritable raised MessageError"


def test_a_function_that_never_returns_is_ended_and_the_next_call_works() -> None:
    calls = Calls()
    calls.load([function("hangs")])
    assert called(calls, "changes") != RAW
    error = failed(calls, "hangs", limit=0.02)
    assert error.why == "site/orders.py: hangs takes longer than its limit of 0.02s"
    assert called(calls, "changes") != RAW
    calls.close()


def test_a_module_that_keeps_failing_rests(calls: Calls, clock: list[float]) -> None:
    for _ in range(FAILURES):
        assert failed(calls, "ends").why == "site/orders.py: ends ends its process"
    assert failed(calls, "changes").why == "site/orders.py: changes is not called, for it failed 3 times in a row"
    clock[0] = REST
    assert called(calls, "changes") != RAW
    assert failed(calls, "ends").why == "site/orders.py: ends ends its process"
    assert called(calls, "changes") != RAW


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("\nimport no_such_module\n", "site/orders.py, line 2: cannot be loaded: ModuleNotFoundError"),
        ("def f(message):\n", "site/orders.py, line 1: cannot be loaded: IndentationError"),
        ("import os\nos._exit(0)", "site/orders.py: cannot be loaded, or takes too long to"),
    ],
)
def test_a_module_that_cannot_be_loaded_names_its_line(calls: Calls, source: str, why: str) -> None:
    assert failed(calls, "f", source=source).why == why
    with pytest.raises(ConfigError) as caught:
        calls.load([function("f", source=source), function("changes")])
    assert str(caught.value).replace(":2: ", ", line 2: ").replace(":1: ", ", line 1: ") == why


def test_nothing_is_left_when_nobody_needs_it_any_more() -> None:
    calls = Calls()
    called(calls, "nothing")
    (worker,) = calls._workers.values()
    pid = worker._end.peek()[2][0].pid  # type: ignore[attr-defined]
    del worker, calls
    gc.collect()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
