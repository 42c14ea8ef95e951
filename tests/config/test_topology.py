"""What is never reached, never used, or goes round in a circle."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config.check import Checked, check_config
from broker.connectors import registry
from tests.config.conftest import POINTER, Check

TOP, ORDERS = "channels.yaml", "routes/orders.yaml"


def told(checked: Checked) -> list[str]:
    return [one.problem.what for one in checked.findings if one.stage == "topology"]


def test_what_nobody_uses_is_a_warning(check: Check) -> None:
    checked = check((TOP, "  ehr:", "  spare:\n    mllp: {port: 1}\n  ehr:"))
    assert checked.config is not None
    assert [str(w).partition(": ")[2] for w in checked.warnings] == [
        "destinations.spare: no route sends to this destination (remove it, or name it in a route)"
    ]
    checked = check((TOP, "  orders: {from: hospital, route: routes/orders.yaml}\n", ""))
    assert "no channel hears this listener" in told(checked)


def test_a_table_that_no_route_uses_is_a_warning(check: Check) -> None:
    assert check((ORDERS, "map: {path: PID-8, table: sex}", "set: {PID-8: '{PID-8 | sex}'}")).warnings == []
    checked = check(files={"tables/spare.csv": "a,b\n1,2\n"})
    assert [(Path(w.file).name, w.line, w.what) for w in checked.warnings] == [("spare.csv", 1, "no route uses this table")]


def test_a_channel_from_nowhere_is_a_problem_of_the_topology(check: Check) -> None:
    assert told(check((TOP, "from: hospital", "from: hopsital"))) == ["there is no listener hopsital"]


@pytest.mark.parametrize(
    ("accept", "step", "line"),
    [
        ("MSH-9.1 = ADT and MSH-9.2 in [A01, A08]", "- when: MSH-9.2 = A40\n    require: PID-3.1", 4),
        ("MSH-9.2 in [A01, A08]", "- when: MSH-9.2 = A01\n    steps:\n      - when: MSH-9.2 = A08\n        require: PID-3.1", 6),
    ],
)
def test_a_condition_that_those_around_it_rule_out_is_a_warning(check: Check, accept: str, step: str, line: int) -> None:
    checked = check((ORDERS, "MSH-9.1 = ORM", accept), (ORDERS, "- require: PID-3.1", step))
    assert [(w.line, w.what.partition(":")[0]) for w in checked.warnings] == [(line, "this never holds")]


@pytest.mark.parametrize(
    "step",
    [
        "- when: MSH-9.2 = A01\n    require: PID-3.1",
        "- when: MSH-9.2 = A01\n    steps: [{require: PID-3.1}]\n    otherwise: [{when: MSH-9.2 = A08, require: PID-3.1}]",
        "- when: not MSH-9.2 = A40\n    require: PID-3.1",
        "- when: PV1-2 = E\n    require: PID-3.1",
    ],
)
def test_a_condition_that_can_hold_is_right(check: Check, step: str) -> None:
    assert check((ORDERS, "MSH-9.1 = ORM", "MSH-9.2 in [A01, A08] and PV1-2 = I"), (ORDERS, "- require: PID-3.1", step)).warnings == []


HOSPITAL = "hospital: {mllp: {port: 2575}}"
MODALITIES = "modalities: {dicom: {port: 11112, services: [%s]}}"
FORWARD = "description: Forwards.\naccept: %s\nto:\n  - send: out\n"


def configured(folder: Path, listeners: str, out: str, **routes: tuple[str, str]) -> Checked:
    """Check channels with these routes (source, text); each sends to `out`."""
    channels = ", ".join(f"{name}: {{from: {source}, route: {name}.yaml}}" for name, (source, _) in routes.items())
    text = (
        f"version: 1\nsite: {{authority: HOSP}}\nlisteners: {{{listeners}}}\ndestinations: {{out: {{{out}}}}}\nchannels: {{{channels}}}\n"
    )
    (folder / "channels.yaml").write_text(text + POINTER)
    for name, (_, route) in routes.items():
        (folder / f"{name}.yaml").write_text(route + POINTER)
    checked = check_config(folder / "channels.yaml", {}, registry)
    assert checked.problems == []
    return checked


@pytest.mark.parametrize(
    ("services", "accept", "lacking"),
    [
        ("store", "kind in [N-CREATE, N-SET]", "mpps"),
        ("worklist", "kind = C-STORE", "store"),
        ("worklist", "Modality = CT", "mpps or store"),
        ("store, mpps", "kind = C-STORE", ""),
        ("mpps", "kind in [C-STORE, N-SET]", ""),
    ],
)
def test_a_channel_whose_listener_does_not_offer_what_it_waits_for(tmp_path: Path, services: str, accept: str, lacking: str) -> None:
    out = "dicom: {host: archive, port: 4242, ae_title: ARCHIVE}"
    checked = configured(tmp_path, MODALITIES % services, out, images=("modalities", FORWARD % accept))
    wanted = [f"no message ever comes: modalities does not offer {lacking}"] if lacking else []
    assert [what for what in told(checked) if "ever comes" in what] == wanted


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.9"])
def test_a_message_that_comes_back_is_a_loop(tmp_path: Path, host: str) -> None:
    checked = configured(tmp_path, HOSPITAL, f"mllp: {{host: {host}, port: 2575}}", adt=("hospital", FORWARD % "MSH-9.1 = ADT"))
    (loop,) = told(checked)
    assert "comes back" in loop
    assert loop.endswith("adt → out → adt")


def test_a_loop_through_two_channels_and_the_ris(tmp_path: Path) -> None:
    orders = "description: O.\naccept: MSH-9.1 = OMI\neach: patient\nsteps: [{ris: merge}]\n"
    (tmp_path / "mappings").mkdir()
    (tmp_path / "mappings/sex.csv").write_text("sent,code\nM,M\n")
    notices = "description: N.\nto:\n  - build: OMI^O23^OMI_O23\n    send: out\n"
    checked = configured(tmp_path, HOSPITAL, "mllp: {host: 127.0.0.1, port: 2575}", orders=("hospital", orders), notices=("ris", notices))
    (loop,) = told(checked)
    assert "out → orders → ris → notices" in loop or "ris → notices → out → orders" in loop


@pytest.mark.parametrize(
    ("out", "accept"),
    [
        ("mllp: {host: 127.0.0.1, port: 2576}", "MSH-9.1 = ADT"),  # another port
        ("mllp: {host: ehr.example.org, port: 2575}", "MSH-9.1 = ADT"),  # another machine
    ],
)
def test_what_goes_elsewhere_is_no_loop(tmp_path: Path, out: str, accept: str) -> None:
    assert told(configured(tmp_path, HOSPITAL, out, adt=("hospital", FORWARD % accept))) == []


def test_what_no_channel_accepts_again_is_no_loop(tmp_path: Path) -> None:
    out = "mllp: {host: 127.0.0.1, port: 2575}"
    other = "description: O.\naccept: MSH-9.1 = ORU\nto:\n  - build: OMI^O23^OMI_O23\n    send: out\n"
    checked = configured(tmp_path, HOSPITAL, out, other=("hospital", other))
    assert told(checked) == []


def test_images_that_come_back_are_a_loop(tmp_path: Path) -> None:
    out = "dicom: {host: 127.0.0.1, port: 11112, ae_title: BROKER}"
    checked = configured(tmp_path, MODALITIES % "store", out, images=("modalities", FORWARD % "kind = C-STORE"))
    assert [what for what in told(checked) if what.endswith("images → out → images")]


def test_a_folder_that_is_picked_up_and_written_to_is_a_loop(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    checked = configured(
        tmp_path, f"drop: {{file: {{folder: {folder}}}}}", f"file: {{folder: {folder}}}", adt=("drop", FORWARD % "MSH-9.1 = ADT")
    )
    assert [what for what in told(checked) if what.endswith("adt → out → adt")]


@pytest.mark.parametrize(
    ("over", "what", "instead"),
    [
        ("hopsital", "there is no listener hopsital", "did you mean hospital?"),
        ("modalities", "modalities is a dicom listener and has no MLLP connections", "known: hospital"),
        ("drop", "drop is a file listener and has no MLLP connections", "known: hospital"),
    ],
)
def test_a_destination_over_connections_that_there_are_not(tmp_path: Path, over: str, what: str, instead: str) -> None:
    listeners = f"{{{HOSPITAL}, modalities: {{dicom: {{port: 2}}}}, drop: {{file: {{folder: in}}}}}}"
    text = f"version: 1\nsite: {{authority: HOSP}}\nlisteners: {listeners}\ndestinations: {{out: {{mllp: {{over: {over}}}}}}}\n"
    (tmp_path / "channels.yaml").write_text(f"{text}channels: {{adt: {{from: hospital, route: adt.yaml}}}}\n")
    (tmp_path / "adt.yaml").write_text(FORWARD % "MSH-9.1 = ADT")
    (problem,) = check_config(tmp_path / "channels.yaml", {}, registry).problems
    assert (problem.what, problem.instead) == (what, instead)
