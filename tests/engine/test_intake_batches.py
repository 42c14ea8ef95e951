"""What arrives together is taken in by one call; each message fares as it would alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broker.errors import MessageError
from broker.store import journal, outbox
from broker.store.engine import Row, Transaction
from tests.engine.house import House
from tests.engine.test_intake import order


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def together(house: House, *messages: str) -> list[str]:
    """Let the hospital send messages that share a commit, and return the answers in the order of the messages."""
    answers: list[Any] = [None] * len(messages)
    for at, message in enumerate(messages):
        receiving = house.hl7.receive_hl7("hospital", "127.0.0.1:40000", message.encode())
        receiving.addBoth(lambda answer, at=at: answers.__setitem__(at, answer))
    while house.calls:
        house.calls.popleft()()
    return [answer.decode() if isinstance(answer, bytes) else str(answer.value) for answer in answers]


def test_a_retransmission_in_the_same_batch_gets_the_very_answer(house: House) -> None:
    first, second, again = together(house, order(1), order(2), order(1))
    assert (first, again) == (again, first)
    assert "MSA|AA|NW2" in second
    assert house.rows("select count(*) from message") == [(2,)]
    assert house.rows("select accession from exams order by id") == [("ACC1",), ("ACC2",)]
    assert house.count("broker_messages_duplicate_total", listener="hospital") == 1


def test_a_used_control_id_in_the_same_batch_is_an_error(house: House) -> None:
    taken, clash = together(house, order(1, id="SAME"), order(2, id="SAME"))
    assert "MSA|AA|SAME" in taken
    assert "ERR||MSH^1^10" in clash
    assert house.rows("select state from message order by id") == [("routed",), ("refused",)]


def test_messages_without_a_control_id_repeat_nothing(house: House) -> None:
    unnamed = order(1).replace("|NW1|", "||")
    answers = together(house, unnamed, unnamed)
    assert [answer.split("MSA|")[1][:2] for answer in answers] == ["AE", "AE"]
    assert house.rows("select count(*) from message") == [(2,)]


def test_deliveries_name_their_own_message_and_keep_its_order(house: House) -> None:
    together(house, order(1), order(2), order(3))
    assert [(d.message_id, d.accession) for d in house.sent] == [(n, f"ACC{n}") for n in (1, 1, 2, 2, 3, 3)]
    assert [d.id for d in house.sent] == sorted(d.id for d in house.sent)
    assert house.rows("select id, message_id from delivery order by id") == [(d.id, d.message_id) for d in house.sent]


def test_one_that_cannot_be_kept_harms_no_other(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    write = journal.write

    def picky(tx: Transaction, rows: list[Row]) -> None:
        write(tx, rows)
        if any("NW2" in row for row in rows):
            raise MessageError("", "cannot be stored")

    monkeypatch.setattr(journal, "write", picky)
    answers = together(house, order(1), order(2), order(3))
    assert ["MSA|AA" in answer for answer in answers] == [True, False, True]
    assert "cannot be stored" in answers[1]
    assert house.rows("select accession from exams order by id") == [("ACC1",), ("ACC3",)]
    assert [row[0] for row in house.rows("select accession from delivery order by id")] == ["ACC1", "ACC1", "ACC3", "ACC3"]


def test_what_is_taken_in_together_is_written_with_one_statement_a_table(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    enqueue = outbox.enqueue

    def counted(tx: Transaction, outgoing: list[Any], now: float) -> list[Any]:
        written.append(len(outgoing))
        return enqueue(tx, outgoing, now)

    monkeypatch.setattr(outbox, "enqueue", counted)
    together(house, *(order(n) for n in range(1, 6)))
    assert written == [10]
