"""Steps inside steps: their mistakes have file and line, editors know them, and every example of a step compiles and runs."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import jsonschema
import pytest
import yaml

from broker.config import schema
from broker.errors import MessageError
from broker.hl7.message import Message
from broker.pipeline.compilation import Compilation
from broker.pipeline.header import Header
from broker.pipeline.layout import shipped_layouts
from broker.pipeline.route import compile_route
from broker.pipeline.shape import Mistakes
from broker.pipeline.steps import STEPS
from broker.pipeline.tables import read_table
from tests.config.conftest import Check
from tests.pipeline.test_route import DESTINATIONS, SPOOLED, VIEW
from tests.pipeline.test_step_call import Calling

ORDERS = "routes/orders.yaml"
NESTED = """\
description: Orders.
accept: MSH-9.1 = ORM
steps:
  - when: PID-8 exists
    steps:
      - for_each:
          group: ORC
          steps:
            - require: ORC-2
            - when: OBR-4 = X
              steps:
                - map: {path: PID-8, table: sx}
              otherwise:
                - sett: {MSH-5: X}
  - call: {module: site/orders.py, function: normalize}
  - drop: never sent
  - set: {MSH-5: X}
to:
  - send: ehr
"""
SITE = "import os\n\n\ndef normalise(message):\n    pass\n"


def test_a_mistake_in_a_nested_block_has_its_file_and_line(check: Check) -> None:
    checked = check(files={ORDERS: NESTED, "site/orders.py": SITE})
    assert [(problem.line, problem.where.rpartition(".")[2], problem.what) for problem in checked.problems] == [
        (12, "path", "PID-8 stands outside: inside for_each only one group ORC can be changed"),
        (12, "table", "there is no table sx"),
        (14, "sett", "unknown step sett"),
        (15, "function", "site/orders.py, line 1: there is no function normalize"),
    ]
    assert checked.problems[2].where == "steps[1].steps[1].for_each.steps[2].otherwise[1].sett"
    assert [(warning.line, warning.what) for warning in checked.warnings if "ever" in warning.what] == [
        (17, "this step is never reached"),
        (18, "nothing is ever sent: the steps end every message"),
    ]


def test_a_module_that_is_no_python_is_a_problem_with_both_places(check: Check) -> None:
    route = "description: Orders.\nsteps:\n  - call: {module: site/orders.py, function: f}\nto: [{send: ehr}]\n"
    (problem,) = check(files={ORDERS: route, "site/orders.py": "def f(message):\n"}).problems
    assert (problem.line, problem.what) == (
        3,
        "site/orders.py, line 1: not Python: expected an indented block after function definition on line 1",
    )
    (problem,) = check((ORDERS, "site/orders.py", "site/other.py"), files={ORDERS: route}).problems
    assert (problem.line, problem.what) == (3, "site/other.py cannot be read: No such file or directory")


def test_the_text_of_the_module_belongs_to_the_configuration(check: Check) -> None:
    route = "description: Orders.\nsteps:\n  - call: {module: site/orders.py, function: normalise}\nto: [{send: ehr}]\n"
    config = check(files={ORDERS: route, "site/orders.py": SITE}).config
    assert config is not None
    assert [function.source for channel in config.channels for function in channel.route.functions] == [SITE]


VALIDATOR = jsonschema.Draft202012Validator(schema.route_file())


@pytest.mark.parametrize(
    ("steps", "right"),
    [
        ("[{when: A = B, steps: [{drop: x}], otherwise: [{when: A = B, steps: [{set: {A-1: x}}]}]}]", True),
        ("[{for_each: {segment: OBX, steps: [{for_each: {segment: NTE, steps: [{drop: x}]}}]}}]", True),
        ("[{when: A = B, drop: x}]", True),
        ("[{when: A = B, steps: [{dropp: x}]}]", False),
        ("[{when: A = B, steps: [{drop: x}], otherwise: [{when: A = B, steps: [{dropp: x}]}]}]", False),
        ("[{for_each: {segment: OBX, steps: [{for_each: {segment: NTE, steps: [{dropp: x}]}}]}}]", False),
        ("[{steps: [{drop: x}]}]", False),
        ("[{when: A = B, steps: [{drop: x}], set: {A-1: x}}]", False),
        ("[{when: A = B, otherwise: [{drop: x}]}]", False),
        ("[{set: {A-1: x}, drop: x}]", True),  # an editor cannot count what the check does
        ("[{}]", False),
    ],
)
def test_editors_know_what_may_stand_inside(steps: str, right: bool) -> None:
    assert VALIDATOR.is_valid({"description": "A route.", "steps": yaml.safe_load(steps)}) is right


TOP = Path(__file__).parents[2]
TABLES = {path.stem: read_table(path.stem, path.read_text())[0] for path in (TOP / "mappings").glob("*.csv")}


@pytest.mark.parametrize("name", STEPS)
def test_the_example_of_a_step_runs_where_the_step_does(name: str) -> None:
    kind = STEPS[name]
    protocol = kind.protocols[0]
    compilation = Compilation(
        protocol=protocol,
        tables=TABLES,
        layouts=shipped_layouts(),
        destinations=DESTINATIONS,
        site={"name": "General", "authority": "H", "application": "BROKER"},
        mistakes=Mistakes(),
        files=lambda file: "def normalise(message, prefix): pass",
    )
    document = {"description": "A route.", "steps": [yaml.safe_load(kind.spec.example)]}
    route = compile_route(document | ({"each": "order"} if name == "ris" else {}), "channel", compilation)
    assert compilation.mistakes.found == []
    header = Header({"StudyInstanceUID": "1.2", "AccessionNumber": "A1"})
    subject = Message.parse((TOP / "samples/orm_ct.hl7").read_bytes().replace(b"\n", b"\r")) if protocol == "hl7" else header
    with suppress(MessageError):  # an example may refuse this message, but it may not break
        route.run(subject, Calling(spooled=SPOOLED, exam=VIEW))
