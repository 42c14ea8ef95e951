"""Priors: which earlier studies are wanted beside a new exam, and in which order."""

from __future__ import annotations

import pytest

from broker.ris.priors import Kind, Relevance, Study, read_kinds

RELEVANCE = Relevance(
    {
        "CT CHEST": read_kinds("CT CHEST; CR CHEST; DX CHEST; PT"),
        "MG": read_kinds("MG; US BREAST; MR BREAST"),
        "* KNEE": read_kinds("* KNEE"),
        "*": read_kinds("CT"),
    },
    {"CHEST": "CHEST", "THORAX": "CHEST", "CTCHEST": "CHEST", "CHEST WALL": "WALL", "KNEE": "KNEE"},
)

CT_OLD = Study("1", "20200101", modalities=("CT",), body_part="CHEST")
CT_NEW = Study("2", "20250101", modalities=("CT", "SR"), body_part="CHEST")
CR = Study("3", "20260101", modalities=("CR",), body_part="CHEST")
PT = Study("4", "20260201", modalities=("PT",))
HEAD = Study("5", "20260201", modalities=("CT",), body_part="HEAD")
KNEE = Study("6", "20260201", modalities=("MR",), body_part="KNEE")
ALL = [PT, CT_OLD, HEAD, CR, CT_NEW, KNEE]


def uids(*args: str, **kwargs: object) -> list[str]:
    modality, body_part = args
    return [study.uid for study in RELEVANCE.choose(modality, body_part, ALL, **kwargs)]  # type: ignore[arg-type]


def test_the_most_relevant_come_first_and_of_equals_the_latest() -> None:
    assert uids("CT", "CHEST", count=9) == ["2", "1", "3", "4"]


def test_no_more_than_wanted_and_none_too_old() -> None:
    assert uids("CT", "CHEST", count=2) == ["2", "1"]
    assert uids("CT", "CHEST", count=2, since="20240101") == ["2", "3"]


def test_a_study_without_a_date_is_not_too_old() -> None:
    undated = Study("9", modalities=("CT",), body_part="CHEST")
    assert RELEVANCE.choose("CT", "CHEST", [undated], count=1, since="20240101") == [undated]


def test_the_rule_of_the_modality_and_body_part_goes_before_those_of_one() -> None:
    assert RELEVANCE.wanted("CT", "CHEST") == (Kind("CT", "CHEST"), Kind("CR", "CHEST"), Kind("DX", "CHEST"), Kind("PT"))
    assert RELEVANCE.wanted("MG", "BREAST") == RELEVANCE.kinds["MG"]
    assert uids("XR", "KNEE", count=9) == ["6"]
    assert uids("XR", "HAND", count=9) == ["5", "2", "1"]


def test_without_a_rule_nothing_is_relevant() -> None:
    assert Relevance({}, {}).choose("CT", "CHEST", ALL, count=9) == []


@pytest.mark.parametrize(
    ("texts", "part"),
    [
        (("CTCHEST", "CT of the knee"), "CHEST"),
        (("X", "CT Thorax, with contrast"), "CHEST"),
        (("Chest-wall, left",), "WALL"),
        (("kneecap",), ""),
        ((), ""),
    ],
)
def test_the_body_part_of_codes_and_descriptions(texts: tuple[str, ...], part: str) -> None:
    assert RELEVANCE.body_part(*texts) == part


def test_a_kind_that_names_no_modality_is_an_error() -> None:
    with pytest.raises(ValueError, match="chest"):
        read_kinds("CT CHEST; chest")
