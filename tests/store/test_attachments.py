"""Attachments: once by their content, for the messages that refer to them, on every engine."""

from __future__ import annotations

import hashlib
from typing import Any

from broker.model import Received
from broker.store import attachments, journal
from broker.store.engine import Transaction

PDF = b"JVBERi0xLjQK" * 100


def message(store: Any) -> int:
    received = Received("hospital", "hl7", "ORU^R01", "RIS|H", "127.0.0.1:1", "1", b"MSH|", "d1")
    return int(store.run(journal.insert, received, 1.0))


def kept(store: Any) -> list[str]:
    def read(tx: Transaction) -> list[str]:
        return [str(row[0]) for row in tx.all("select digest from attachment order by digest")]

    found: list[str] = store.wait(store.db.read("test", read))
    return found


def forget(store: Any, message_id: int) -> None:
    store.run(lambda tx: tx.execute("delete from message where id = ?", (message_id,)))


def test_a_content_is_kept_once_for_all_messages(store: Any) -> None:
    one, other = message(store), message(store)
    digest = store.run(attachments.keep, one, PDF)
    assert digest == hashlib.sha256(PDF).hexdigest()
    assert store.run(attachments.keep, other, PDF) == digest
    assert store.run(attachments.keep, one, PDF) == digest  # routed once more
    assert kept(store) == [digest]
    assert store.run(attachments.get, other, digest) == PDF


def test_only_a_message_that_refers_to_it_gets_it(store: Any) -> None:
    one, other = message(store), message(store)
    digest = store.run(attachments.keep, one, PDF)
    assert store.run(attachments.get, other, digest) is None
    assert store.run(attachments.get, one, "0" * 64) is None


def test_it_goes_with_the_last_message_that_refers_to_it(store: Any) -> None:
    one, other = message(store), message(store)
    digest = store.run(attachments.keep, one, PDF)
    store.run(attachments.keep, other, PDF)
    forget(store, one)
    assert store.run(attachments.sweep) == 0
    assert kept(store) == [digest]
    forget(store, other)
    assert store.run(attachments.sweep) == 1
    assert kept(store) == []
