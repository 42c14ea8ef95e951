"""Hostile worklist identifiers: an answer or a MessageError, in bounded time, and nothing else."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset

from broker.connectors.base import WorklistTerms
from broker.dicom.answers import Answers
from broker.dicom.dataset import encode, put
from broker.errors import MessageError
from broker.ris.worklist_entry import ATTRIBUTES
from tests.engine.house import CT1, ROOT, House

pytestmark = pytest.mark.filterwarnings("ignore")  # of pydicom, silenced in the product by `silence_libraries`

SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
PIECES = (
    "*",
    "?",
    "\\",
    "^",
    "=",
    "-",
    " ",
    "DOE",
    "CT",
    "2026",
    "20260302",
    "0800",
    "é",
    "山",
    "%",
    "_",
    "'",
    ";",
    "[a-z]",
    "*" * 50,
    "a*" * 40,
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    made = House(tmp_path_factory.mktemp("worklist"))
    assert "|AA|" in made.say((ROOT / "samples/orm_ct.hl7").read_bytes())
    return made


def identifier(rng: random.Random, syntax: str) -> bytes:
    """Return an identifier with any text in any key."""
    paths = [path for path in rng.sample(sorted(ATTRIBUTES), rng.randrange(12)) if dictionary_VR(path.rpartition(".")[2]) != "US"]
    keys = {path: "".join(rng.choices(PIECES, k=rng.randrange(4))) for path in paths}
    empty = Dataset()
    for path in keys:
        put(empty, path, "")
    readers = {path: lambda match, path=path: match[path] for path in keys}
    return Answers(empty, readers, [("ISO_IR 192",)], "unicode", syntax).write(keys)


def damaged(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randrange(4)):
        if changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed[: rng.randrange(len(changed) + 1)] if rng.random() < 0.2 else changed)


def asked(house: House, data: bytes, syntax: str) -> int:
    """Return how many entries came; what cannot be read is refused."""
    try:
        search = house.dicom.find_worklist(CT1, data, syntax, WorklistTerms())
    except MessageError:
        return 0
    count = 0
    while entries := house.wait(search.page()):
        count += len(entries)
    return count


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_asked_is_answered_or_refused(house: House, seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    answered = 0
    for _ in range(80):
        syntax = rng.choice(SYNTAXES)
        data = identifier(rng, syntax)
        answered += asked(house, data, syntax)
        answered += asked(house, damaged(data, rng), syntax)
    assert answered
    assert asked(house, encode(Dataset(), SYNTAXES[0]), SYNTAXES[0]) == 1
