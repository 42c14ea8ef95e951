"""What a plan says of two configurations, by what they mean and not by how they are written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from broker.config.outline import Outline, outline, shown
from broker.config.plan import Held, Item, changed_files, compare, effects, refusals
from broker.config.sources import CHANNELS, Source
from tests.config.conftest import FILES, REGISTRY, Check


def outlined(*replaced: tuple[str, str, str], files: Mapping[str, str] | None = None, env: Mapping[str, str] | None = None) -> Outline:
    texts = {**FILES, **(files or {})}
    for name, old, new in replaced:
        assert old in texts[name], old
        texts[name] = texts[name].replace(old, new)
    return outline([Source(name, text) for name, text in texts.items() if text], env or {}, REGISTRY)


OLD = outlined()


def lines(items: tuple[Item, ...]) -> list[str]:
    """Return a plan in a line for each place."""
    found = []
    for item in items:
        found += [f"{item.section} {item.name} {item.action}"] if not item.details else []
        found += [f"{item.section} {item.name} {item.action} {d.path}: {d.old} -> {d.new}" for d in item.details]
    return found


def test_the_same_said_in_another_way_is_no_change() -> None:
    new = outlined(
        ("channels.yaml", "port: ${HL7_PORT:-2575}", "port: 2575\n      idle: 30000 ms # as before"),
        ("routes/orders.yaml", "description: Orders.", 'description: "Orders." # a comment'),
    )
    assert compare(OLD, new) == ()
    assert changed_files(OLD.files, new.files) == {"channels.yaml": "changed", "routes/orders.yaml": "changed"}


@pytest.mark.parametrize(
    ("replaced", "expected"),
    [
        (("channels.yaml", "port: ${HL7_PORT:-2575}", "port: 2600"), ["listeners hospital changed port: 2575 -> 2600"]),
        (("channels.yaml", "port: ${HL7_PORT:-2575}", "port: 2575\n      idle: 90s"), ["listeners hospital changed idle: 30s -> 90s"]),
        (
            ("channels.yaml", "  modalities:", "    unmatched: park\n  modalities:"),
            ["listeners hospital changed unmatched: reject -> park"],
        ),
        (("channels.yaml", "authority: HOSP", "authority: OTHER"), ["settings site changed authority: HOSP -> OTHER"]),
        (
            ("channels.yaml", "mllp: {port: 2577}", "dicom: {port: 2577}"),
            ["destinations ehr changed kind: mllp -> dicom"],
        ),
        (
            ("routes/orders.yaml", "accept: MSH-9.1 = ORM", "accept: MSH-9.1 in [ORM, OMG]"),
            ["channels orders changed accept: MSH-9.1 = ORM -> MSH-9.1 in [ORM, OMG]"],
        ),
        (
            ("routes/orders.yaml", "  - require: PID-3.1\n", "  - require: PID-3.1\n  - remove: NTE\n"),
            ["channels orders changed steps[2]: None -> {remove: NTE}"],
        ),
        (
            ("routes/orders.yaml", "  - require: PID-3.1\n", ""),
            ["channels orders changed steps[1]: {require: PID-3.1} -> None"],
        ),
        (
            ("routes/orders.yaml", "table: sex", "table: gender"),
            ["channels orders changed steps[2].map.table: sex -> gender"],
        ),
        (
            ("tables/sex.csv", "M,M\nF,F", "M,1\nO,O"),
            [
                "tables sex changed row M, code: M -> 1",
                "tables sex changed row F: {sent: F, code: F} -> None",
                "tables sex changed row O: None -> {sent: O, code: O}",
            ],
        ),
    ],
)
def test_a_change_is_told_by_its_place(replaced: tuple[str, str, str], expected: list[str]) -> None:
    assert lines(compare(OLD, outlined(replaced))) == expected


def test_what_comes_and_what_goes_is_told_whole() -> None:
    line = "  images: {from: modalities, route: routes/images.yaml}\n"
    new = outlined(("channels.yaml", line, ""), files={"tables/more.csv": "a,b\n1,2\n"})
    assert lines(compare(OLD, new)) == ["channels images removed", "tables more added"]
    assert any(text.startswith("channels images added from: None -> modalities") for text in lines(compare(new, OLD)))


def test_another_order_of_the_channels_is_a_change() -> None:
    orders, images = "  orders: {from: hospital, route: routes/orders.yaml}\n", "  images: {from: modalities, route: routes/images.yaml}\n"
    new = outlined(("channels.yaml", orders + images, images + orders))
    assert lines(compare(OLD, new)) == ["settings channels changed order: orders, images -> images, orders"]


def test_a_long_table_is_cut_short() -> None:
    rows = "".join(f"K{number},{number}\n" for number in range(30))
    items = compare(OLD, outlined(("tables/sex.csv", "M,M\n", f"M,M\n{rows}")))
    assert len(items[0].details) == 21
    assert items[0].details[-1].path == "10 more"


def test_a_secret_stands_as_its_reference_and_a_password_not_at_all() -> None:
    new = outlined(("channels.yaml", "authority: HOSP", "authority: HOSP\n  name: ${file:/run/secrets/name}"))
    assert lines(compare(OLD, new)) == ["settings site changed name:  -> ${file:/run/secrets/name}"]
    assert shown("store", "postgresql://broker:s3cret@db/broker") == "postgresql://broker:…@db/broker"
    assert shown("mllp.password", "s3cret") == "(not shown)"
    peer = {"from": "10.1.3.0/24", "identity": {"user": "anna", "passcode": "s3cret"}}
    assert shown("dicom.peers", {"CT1": peer}) == "{CT1: {from: 10.1.3.0/24, identity: {user: anna, passcode: (not shown)}}}"


def test_only_connectors_with_other_settings_are_touched() -> None:
    new = outlined(
        ("channels.yaml", "port: ${HL7_PORT:-2575}", "port: 2600"),
        ("channels.yaml", "  modalities:\n", "    unmatched: park\n  modalities:\n"),
        ("channels.yaml", "mllp: {port: 2577}", "mllp: {port: 2588}"),
        ("routes/images.yaml", "Images.", "Pictures."),
    )
    touched = effects(compare(OLD, new), {"hospital": 3, "modalities": 5}, {"ehr": Held(4, 1)})
    assert [(one.section, one.name, one.connections, one.waiting, one.parked) for one in touched] == [
        ("listeners", "hospital", 3, 0, 0),
        ("destinations", "ehr", 0, 4, 1),
    ]
    only_policy = outlined(("channels.yaml", "  modalities:\n", "    unmatched: park\n  modalities:\n"))
    assert effects(compare(OLD, only_policy), {"hospital": 3}, {}) == ()


@pytest.mark.parametrize(
    ("replaced", "held", "refused"),
    [
        (("channels.yaml", "  ehr:\n    mllp: {port: 2577}\n", ""), Held(2, 0), ["destinations.ehr: still holds 2 waiting and 0 parked"]),
        (
            ("channels.yaml", "mllp: {port: 2577}", "dicom: {port: 2577}"),
            Held(0, 1),
            ["destinations.ehr: still holds 0 waiting and 1 parked"],
        ),
        (("channels.yaml", "  ehr:\n    mllp: {port: 2577}\n", ""), Held(), []),
        (("channels.yaml", "mllp: {port: 2577}", "mllp: {port: 2578}"), Held(2, 1), []),
        (("channels.yaml", "data: ./data", "data: ./other"), Held(), ["data: takes effect at the start only"]),
    ],
)
def test_what_would_lose_deliveries_or_needs_a_start_is_refused(replaced: tuple[str, str, str], held: Held, refused: list[str]) -> None:
    found = refusals(compare(OLD, outlined(replaced)), {"ehr": held}, "channels.yaml")
    assert [any(text in str(problem) for problem in found) for text in refused] == [True] * len(refused)
    assert len(found) == len(refused)
    assert all(problem.instead for problem in found)


def test_the_environment_belongs_to_what_is_compared() -> None:
    assert lines(compare(OLD, outlined(env={"HL7_PORT": "2600"}))) == ["listeners hospital changed port: 2575 -> 2600"]


def test_files_that_are_not_in_order_have_an_outline_too(check: Check, tmp_path: Path) -> None:
    assert outline([Source("channels.yaml", "data: here\nlisteners: [")], {}, REGISTRY).settings["data"] == "here"
    assert outline([Source("channels.yaml", "data: here\nweb: 3\nlisteners: {a: 5}")], {}, REGISTRY).settings["data"] == "here"
    assert outline([], {}, REGISTRY).settings["web"] == {"port": 8080, "bind": "127.0.0.1"}


@pytest.mark.parametrize("slip", ["listeners: {", "  hospital: [", "\tweb: 1", "web: {port: 1, port"])
def test_a_file_that_is_no_yaml_still_says_where_its_broker_is(slip: str) -> None:
    text = f"version: 1\ndata: ${{DATA:-./data}} # kept\nlisteners:\n  x: {{}}\n{slip}\nweb:\n  port: 81\n"
    found = outline([Source(CHANNELS, text)], {"DATA": "/srv/broker"}, REGISTRY).settings
    assert (found["data"], found["web"]["port"]) == ("/srv/broker", 81)
