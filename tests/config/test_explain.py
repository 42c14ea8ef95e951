"""Every declaration can be explained, and every example of one is right."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from broker.config import explain, schema
from broker.connectors import registry
from broker.pipeline.shape import Mistakes, check
from broker.pipeline.steps import STEPS
from broker.spec import Option, Spec

ROOT = Path(__file__).parents[2]
SPECS = [*(kind.spec for kind in STEPS.values()), *registry.LISTENERS.values(), *registry.DESTINATIONS.values()]
TOPICS = explain.topics(registry)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.kind} {spec.name}")
def test_the_example_of_a_component_is_right(spec: Spec) -> None:
    ((name, settings),) = yaml.safe_load(spec.example).items()
    mistakes = Mistakes()
    assert name == spec.name
    assert check(spec.schema(), settings, mistakes), mistakes.found
    assert jsonschema.Draft202012Validator(spec.schema()).is_valid(settings)
    assert set(spec.read(settings)) == {option.name for option in spec.options}


def _options(options: tuple[Option, ...], path: str) -> list[tuple[str, Option]]:
    return [found for o in options for found in [(f"{path}.{o.name}", o), *_options(o.options, f"{path}.{o.name}")]]


ALL_OPTIONS = [found for spec in SPECS for found in _options(spec.options, spec.name)]
ALL_OPTIONS += [found for group, (_, options) in explain.GROUPS.items() for found in _options(options, group)]


@pytest.mark.parametrize(("name", "option"), ALL_OPTIONS, ids=[name for name, _ in ALL_OPTIONS])
def test_every_option_is_explained_and_its_example_is_right(name: str, option: Option) -> None:
    assert option.description in explain.explain(name, registry)
    if option.example is not None:
        mistakes = Mistakes()
        check(option.schema(), option.example, mistakes)
        assert mistakes.found == []


def test_what_is_not_known_says_what_is_near() -> None:
    with pytest.raises(LookupError, match="did you mean require"):
        explain.explain("requier", registry)
    assert "route.accept" in explain.explain("accept", registry)
    assert "PID-3: {patient.identifiers}" in explain.explain("OMI^O23^OMI_O23", registry)
    assert "XPN" in explain.explain("patient.name", registry)


@pytest.mark.parametrize("name", schema.files(registry))
def test_a_schema_is_json_schema(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema.files(registry)[name])


def test_the_shipped_files_satisfy_their_schemas() -> None:
    schemas = schema.files(registry)
    files = {"channels.schema.json": [ROOT / "channels.yaml"], "route.schema.json": sorted((ROOT / "routes").glob("*.yaml"))}
    files["cases.schema.json"] = sorted((ROOT / "routes/tests").glob("*.yaml"))
    for name, paths in files.items():
        assert paths
        for path in paths:
            jsonschema.validate(yaml.safe_load(path.read_text()), schemas[name])


def test_a_schema_finds_a_wrong_key() -> None:
    route = yaml.safe_load((ROOT / "routes/orders.yaml").read_text())
    route["steps"][0] = {"requires": "PID-3"}
    assert not jsonschema.Draft202012Validator(schema.route_file()).is_valid(route)


def test_every_page_names_what_it_is_about() -> None:
    pages = explain.pages(registry)
    assert all(f"## {name}" in pages["steps.md"] for name in STEPS)
    assert all(f"`{option.name}`" in "".join(pages.values()) for _, option in ALL_OPTIONS)
    assert TOPICS.keys() >= set(STEPS)
