"""Hostile datasets: reading a header gives values or a MessageError, in bounded time, and never the values in its text."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from broker.dicom.coerce import coerce
from broker.dicom.dataset import decode, encode_header, read_header, scan
from broker.errors import MessageError
from tests.dicom.objects import ct, dataset_bytes, part10

pytestmark = pytest.mark.filterwarnings("ignore")  # of pydicom and pynetdicom, silenced in the product by `silence_libraries`

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
DS = ct(8, name="SECRET^NAME")


def hurt(seed: int, data: bytes, start: int) -> bytes:
    """Return the data with a few bytes behind `start` changed, or its end cut off."""
    rng = random.Random(seed)
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 12)):
        changed[rng.randrange(start, len(changed))] = rng.choice((0, 0xFF, rng.randrange(256)))
    return bytes(changed[: rng.randrange(start, len(changed))] if rng.random() < 0.3 else changed)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize("seed", range(120))
def test_scanning_gives_texts_or_a_message_error(seed: int, syntax: str) -> None:
    data = hurt(seed, part10(DS, syntax, implicit=syntax == IMPLICIT), 132)
    try:
        found = scan(data)
    except MessageError as error:
        found = {}
        assert "SECRET" not in str(error)  # noqa: PT017 - either outcome is right
    assert all(isinstance(value, str) for value in found.values())


@pytest.mark.parametrize("seed", range(120))
def test_reading_and_changing_a_header_works_or_is_a_message_error(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(hurt(seed, part10(DS), 340))
    outcome = "changed"
    try:
        header, offset = read_header(path)
        assert 0 < offset <= path.stat().st_size
        header = coerce(header, {"PatientID": "9"}, reason="COERCE", system="BROKER", now="20260302")
        assert b"9 " in encode_header(header, EXPLICIT)
    except MessageError as error:
        outcome = str(error)
    assert "SECRET" not in outcome


@pytest.mark.parametrize("seed", range(80))
def test_decoding_an_identifier_works_or_is_a_message_error(seed: int) -> None:
    outcome = "decoded"
    try:
        decode(hurt(seed, dataset_bytes(DS), 0), EXPLICIT)
    except MessageError as error:
        outcome = str(error)
    assert "SECRET" not in outcome
