"""What an editor makes of the schemas: it completes, explains, and says what is wrong without hiding it behind alternatives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from broker.config import schema
from broker.connectors import registry
from broker.pipeline.shape import Mistakes, check
from broker.pipeline.steps import STEPS

SCHEMAS = schema.files(registry)
CHANNELS = SCHEMAS["channels.schema.json"]


def _inside(value: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict):
        yield path, value
        for key, inner in value.items():
            yield from _inside(inner, f"{path}/{key}") if key not in ("default", "examples") or path.endswith("/properties") else ()
    if isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _inside(inner, f"{path}/{number}")


@pytest.mark.parametrize("name", ["channels.schema.json", "route.schema.json", "cases.schema.json"])
def test_every_key_is_described(name: str) -> None:
    bare = [
        f"{path}/{key}"
        for path, inner in _inside(SCHEMAS[name])
        for key, one in (inner.get("properties") or {}).items()
        if isinstance(one, dict) and not one.get("description")
    ]
    assert bare == []


@pytest.mark.parametrize("name", ["channels.schema.json", "route.schema.json"])
def test_alternatives_stand_only_where_one_of_them_lists_its_values(name: str) -> None:
    hidden = [path for path, inner in _inside(SCHEMAS[name]) if "anyOf" in inner and not any("enum" in one for one in inner["anyOf"])]
    assert [path for path in hidden if not path.endswith("/if")] == []


def _listener(**settings: Any) -> dict[str, Any]:
    return {"version": 1, "site": {"authority": "H"}, "listeners": {"x": {"mllp": {"port": 2575, **settings}}}}


@pytest.mark.parametrize(
    "settings", [{"port": "${PORT:-2575}"}, {"idle": "${IDLE}"}, {"charset": "${SET}"}, {"limit": "4 MB"}, {"charset": "8859/1"}]
)
def test_a_value_may_be_substituted(settings: dict[str, Any]) -> None:
    Draft202012Validator(CHANNELS).validate(_listener(**settings))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"port": "abc"}, "does not match"),
        ({"port": []}, "is not of type 'integer', 'string'"),
        ({"idle": "soon"}, "does not match"),
        ({"prot": 1}, "Additional properties are not allowed"),
    ],
)
def test_the_error_is_the_one_that_was_meant(settings: dict[str, Any], says: str) -> None:
    (error,) = Draft202012Validator(CHANNELS).iter_errors(_listener(**settings))
    assert says in error.message


def test_an_option_named_default_is_an_option() -> None:
    step = next(inner for _, inner in _inside(SCHEMAS["route.schema.json"]) if "missing" in (inner.get("properties") or {}))
    assert step["properties"]["default"]["description"]


STEP_SETTINGS = [
    ("set", {"MSH-5": "PACS"}, ""),
    ("set", {"fields": {"MSH-5": "PACS"}}, ""),
    ("set", {"fields": 5}, "a mapping is needed here, not an integer"),
    ("set", 5, "a mapping is needed here, not an integer"),
    ("require", "PID-3", ""),
    ("require", ["PID-3"], ""),
    ("require", {"paths": "PID-3"}, ""),
    ("require", {"path": "PID-3"}, "unknown key path"),
    ("require", 5, "text or a list or a mapping is needed here, not an integer"),
    ("require", [5], "text is needed here, not an integer"),
    ("drop", {"reason": 5}, "text is needed here, not an integer"),
    ("ris", "order", ""),
    ("ris", "oder", "oder is not one of"),
    ("ris", {"apply": "order", "vocabluary": "x"}, "unknown key vocabluary"),
]


@pytest.mark.parametrize(("step", "settings", "says"), STEP_SETTINGS, ids=[f"{step} {settings}" for step, settings, _ in STEP_SETTINGS])
def test_a_short_and_a_long_form_are_told_apart(step: str, settings: Any, says: str) -> None:
    mistakes = Mistakes()
    assert check(STEPS[step].spec.schema(), settings, mistakes) is not bool(says)
    assert not says or any(says in mistake.what for mistake in mistakes.found)
