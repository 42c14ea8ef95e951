"""Whose images get in when the spool is nearly full."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config.models import SpoolPolicy
from broker.config.options import SPOOL
from broker.engine.room import Room
from broker.errors import StoreError
from broker.ris.entities import Exam
from broker.spec import read
from broker.store import objects
from broker.store.database import Transaction
from broker.store.records import RecordStore
from tests.engine.house import House
from tests.peers import ct_image


@pytest.fixture
def house(tmp_path: Path) -> House:
    """Return a house whose spool may hold 10,000 bytes and is at its high mark."""
    house = House(tmp_path)
    policy = SpoolPolicy(**read(SPOOL, {"budget": "10000 B", "low": "50%", "high": "80%", "free": "0 B"}))
    room = house.dicom._room = Room(policy, house.db, lambda: (1 << 30, 1 << 30), house.clock)
    house.spool.has_room = room.has_room
    room.found(1, 8000)
    return house


def order(tx: Transaction) -> None:
    RecordStore(tx).add(Exam(accession="A1", study_uid="1.2.3", priority="STAT", status="scheduled"))
    RecordStore(tx).add(Exam(accession="A2", study_uid="1.2.4", priority="ROUTINE", status="scheduled"))


def room_of(house: House) -> Room:
    assert house.dicom._room is not None
    return house.dicom._room


def test_an_ordinary_image_is_answered_that_there_is_no_room_and_leaves_nothing(house: House) -> None:
    house.wait(house.db.run("order", order))
    assert house.store(ct_image("4711", "DOE^JANE", "A2", "1.2.4")) == 0xA700
    assert list(house.spool.names()) == []
    assert house.rows("select count(*) from message") == [(0,)]
    assert house.count("broker_messages_acknowledged_total", listener="modalities", code="0xA700") == 1.0
    assert room_of(house).used == 8000


def test_an_image_of_an_urgent_exam_gets_in_until_the_budget_is_used_up(house: House) -> None:
    house.wait(house.db.run("order", order))
    for number in (1, 2):
        assert house.store(ct_image("4711", "DOE^JANE", "A1", "1.2.3", number)) == 0x0000
    assert len(list(house.spool.names())) == 2
    assert room_of(house).used > 8000
    room_of(house).found(1, 10_000)
    with pytest.raises(StoreError, match="no room"):
        house.store(ct_image("4711", "DOE^JANE", "A1", "1.2.3", 3))


def test_what_is_taken_is_counted_once(house: House) -> None:
    room_of(house).found(0, 0)
    image = ct_image("4711", "DOE^JANE", "A9", "1.2.9")
    assert [house.store(image), house.store(image)] == [0x0000, 0x0000]
    assert room_of(house).objects == 1
    assert house.wait(house.db.read("total", objects.total)) == (1, room_of(house).used)


def test_the_figures_say_how_full_it_is(house: House) -> None:
    shown = room_of(house).status()
    assert (shown.objects, shown.size, shown.room, shown.level) == (1, 8000, 10_000, "high")
