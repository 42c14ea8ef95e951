"""Archives that are asked, and the priors that are fetched: every mistake with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config.check import Checked, check_config
from broker.connectors import registry
from broker.ris.priors import Kind
from tests.config.conftest import FILES

TABLES = {
    "tables/prior_relevance.csv": "exam,priors\nCT CHEST,CT CHEST; PT\nMR,MR\n",
    "tables/body_parts.csv": "name,body_part\nTHORAX,CHEST\n",
}
DICOM = """\
  modalities:
    dicom:
      port: 11112
"""
ARCHIVES = """\
  archive:
    dicom: {host: 127.0.0.1, port: 4242, ae_title: ARCHIVE}
  reading:
    dicom: {host: 127.0.0.1, port: 4243, ae_title: READING}
"""
PREFETCH = """\
prefetch:
  from: [archive]
  hours: 20:00-06:00
  rules:
    chest: {on: [exam.scheduled], modality: CT, to: reading, count: 2, age: 1825d}
"""


def check(folder: Path, prefetch: str = PREFETCH, dicom: str = DICOM, tables: dict[str, str] = TABLES, archives: str = ARCHIVES) -> Checked:
    for name, text in {**FILES, **tables}.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if name == "channels.yaml":
            text = text.replace("  archive:\n    dicom: {port: 4242}\n", archives).replace(DICOM, dicom) + prefetch
            text = text.replace("mllp: {port: 2577}", "mllp: {host: 127.0.0.1, port: 2577}")
        path.write_text(text)
    return check_config(folder / "channels.yaml", {}, registry, standards=False)


def told(checked: Checked) -> list[str]:
    return [f"{Path(one.file).name}:{one.line} {one.where} {one.what}" for one in checked.problems]


def test_a_rule_is_read(tmp_path: Path) -> None:
    checked = check(tmp_path)
    assert checked.config is not None, told(checked)
    assert checked.warnings == []
    [rule] = checked.config.prefetch.rules
    assert (rule.name, rule.events, rule.modalities, rule.sources, rule.target, rule.count) == (
        "chest",
        ("exam.scheduled",),
        ("CT",),
        ("archive",),
        "reading",
        2,
    )
    assert rule.age == 1825 * 86400
    assert rule.relevance.wanted("CT", "CHEST") == (Kind("CT", "CHEST"), Kind("PT"))
    assert (checked.config.prefetch.ahead, checked.config.prefetch.hours) == (3 * 86400, ("20:00-06:00",))


def test_without_the_section_nothing_is_fetched(tmp_path: Path) -> None:
    checked = check(tmp_path, "", tables={})
    assert checked.config is not None
    assert checked.config.prefetch.rules == ()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("from: [archive]", "from: [archiv]"), "channels.yaml:26 prefetch.from there is no destination archiv"),
        (("to: reading", "to: ehr"), "prefetch.rules.chest.to ehr takes mllp, not DICOM"),
        (("from: [archive]", "from: []"), "prefetch.rules.chest no archive is searched"),
        (("count: 2", "count: 0"), "prefetch.rules.chest.count no prior would ever be moved"),
        (("20:00-06:00", "8pm"), "prefetch.hours '8pm' is no time of the week"),
        (("hours: 20:00-06:00", "at_once: 0"), "prefetch.at_once nothing would ever be moved"),
        (("count: 2", "relevance: nowhere"), "prefetch.rules.chest.relevance there is no table nowhere"),
        (("exam.scheduled", "exam.finished"), "exam.finished"),
        (("count: 2", "cuont: 2"), "cuont"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, change: tuple[str, str], problem: str) -> None:
    assert PREFETCH.count(change[0]) == 1
    checked = check(tmp_path, PREFETCH.replace(*change))
    assert checked.config is None
    assert any(problem in one for one in told(checked)), told(checked)


def test_a_row_that_names_no_modality_is_told_with_its_line(tmp_path: Path) -> None:
    tables = {**TABLES, "tables/prior_relevance.csv": "exam,priors\nCT CHEST,CT CHEST\nCT,chest\n"}
    assert told(check(tmp_path, tables=tables)) == ["prior_relevance.csv:3  chest does not begin with a modality"]


def test_the_archives_of_a_listener_must_be_there(tmp_path: Path) -> None:
    dicom = DICOM + "      services: [store, query, retrieve]\n      retrieve: {from: [archive, vna, ehr], limit: 0}\n"
    problems = told(check(tmp_path, "", dicom, {}))
    assert any("retrieve.from there is no destination vna" in one for one in problems)
    assert any("retrieve.from ehr takes mllp, not DICOM" in one for one in problems)
    assert any("retrieve.limit at least one is needed" in one for one in problems)


def test_nothing_is_retrieved_for_who_may_not_know_the_patient(tmp_path: Path) -> None:
    hidden = ARCHIVES.replace("ae_title: READING", "ae_title: READING, deidentify: {key: 0123456789abcdef}")
    dicom = DICOM + "      services: [store, query, retrieve]\n      retrieve: {from: [archive], to: [reading]}\n"
    problems = told(check(tmp_path, PREFETCH, dicom, archives=hidden))
    assert [one.partition(" ")[2] for one in problems] == [
        f"{place} reading takes de-identified objects, which a retrieval cannot make"
        for place in ("listeners.modalities.dicom.retrieve.to", "prefetch.rules.chest.to")
    ]


def test_where_anybody_may_retrieve_every_dicom_destination_is_of_use(tmp_path: Path) -> None:
    unused = "no route sends to this destination"
    assert [one.what for one in check(tmp_path, "", tables={}).warnings] == [unused]
    dicom = DICOM + "      services: [store, retrieve]\n"
    assert check(tmp_path, "", dicom, {}).warnings == []
