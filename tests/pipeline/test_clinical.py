"""What an order says of its patient's condition, and what of it the modality is told."""

from __future__ import annotations

from typing import Any

import pytest

from broker.ris.changes import NULL
from tests.pipeline.test_requests import ROOT, request

ORDER = (ROOT / "samples/orm_ct.hl7").read_bytes()


def order(*segments: str, **changes: str) -> Any:
    from broker.hl7.message import Message

    message = Message.parse(ORDER + "".join(f"{segment}\r" for segment in segments).encode())
    return request("order", message, **changes)


@pytest.mark.parametrize(
    ("segments", "allergies", "alerts"),
    [
        ((), (), ()),
        (("AL1|1|DA|70618^Penicillin^RXN||RASH",), ("Penicillin",), (NULL,)),
        (("AL1|1|FA|NUTS", "AL1|2|MC|^Pacemaker", "AL1|3||^Latex"), ("NUTS", "Latex"), ("Pacemaker",)),
        (("AL1|1|DA|NKDA^No known drug allergy",), (NULL,), (NULL,)),
        (('AL1|1|DA|""',), (NULL,), (NULL,)),
    ],
)
def test_allergies(segments: tuple[str, ...], allergies: tuple[str, ...], alerts: tuple[str, ...]) -> None:
    patient = order(*segments).patient
    assert (patient.allergies, patient.alerts) == (allergies, alerts)


@pytest.mark.parametrize(
    ("observation", "weight", "size"),
    [
        ("OBX|1|NM|29463-7^Body weight^LN||80.5|kg", "80.5", ""),
        ("OBX|1|NM|3141-9||72500|g", "72.5", ""),
        ("OBX|1|NM|3141-9||160|[lb_av]", "72.575", ""),
        ("OBX|1|NM|8302-2||175|cm", "", "1.75"),
        ("OBX|1|NM|8302-2||70|[in_i]", "", "1.778"),
        ("OBX|1|NM|29463-7||80.5|", "", ""),  # no unit: a guess could be off by a factor of two
        ("OBX|1|NM|29463-7||heavy|kg", "", ""),
        ("OBX|1|NM|29463-7||nan|kg", "", ""),
        ("OBX|1|NM|29463-7||-3|kg", "", ""),
        ("OBX|1|NM|2160-0^Creatinine^LN||80|kg", "", ""),
    ],
)
def test_weight_and_size(observation: str, weight: str, size: str) -> None:
    made = order("OBX|1|NM|0||1|kg", observation)
    assert (made.weight, made.size) == (weight, size)


@pytest.mark.parametrize(
    ("status", "pregnancy", "needs"),
    [
        ("", "", ""),
        ("B6", "3", ""),
        ("A0", "", ""),
        ("B6~A2", "3", "Wheelchair or stretcher bound"),
        ("A6~X1^Needs an interpreter", "", "Hearing impaired, Needs an interpreter"),
        ('""', NULL, NULL),
    ],
)
def test_ambulatory_status(status: str, pregnancy: str, needs: str) -> None:
    made = order(PV1_15=status)
    assert (made.pregnancy, made.special_needs) == (pregnancy, needs)


def test_the_other_fields() -> None:
    said = {"OBR_12": "C1^Contagious", "OBR_30": "WHLC", "ORC_28": "R^Restricted", "PV1_16": "VIP", "OBR_13": "Diabetes"}
    made = order(**said, OBR_34="9&STEVENS&IZZIE")
    assert (made.patient_state, made.transport, made.confidentiality, made.vip, made.history) == (
        "Contagious",
        "WHLC",
        "Restricted",
        "VIP",
        "Diabetes",
    )
    assert made.performer == "9&STEVENS&IZZIE"
    assert order(OBR_12='""').patient_state == NULL


def test_a_table_may_know_the_contrast_of_a_procedure() -> None:
    from broker.pipeline.requests import procedure

    row = {"name": "CT", "modality": "CT", "duration": "20", "cpt": "", "modifiers": "", "steps": ""}
    assert procedure("CT1", row).contrast == ""
    assert procedure("CT1", {**row, "contrast": "Iodixanol"}).contrast == "Iodixanol"
