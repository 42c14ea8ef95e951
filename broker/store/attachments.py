"""Attachments: what routes took out of messages, once each by its digest, kept as long as a message refers to it."""

from __future__ import annotations

import hashlib

from broker.store.engine import Transaction


def keep(tx: Transaction, message_id: int, content: bytes) -> str:
    """Keep the content for a message, and return its SHA-256 in hex."""
    digest = hashlib.sha256(content).hexdigest()
    if tx.one("select 1 from attachment where digest = ?", (digest,)) is None:
        tx.execute("insert into attachment (digest, content) values (?, ?) on conflict (digest) do nothing", (digest, content))
    tx.execute(
        "insert into message_attachment (digest, message_id) values (?, ?) on conflict (digest, message_id) do nothing",
        (digest, message_id),
    )
    return digest


def get(tx: Transaction, message_id: int, digest: str) -> bytes | None:
    """Return the content that this message refers to by that digest; None when it does not."""
    row = tx.one(
        "select content from attachment join message_attachment on message_attachment.digest = attachment.digest"
        " where message_attachment.message_id = ? and attachment.digest = ?",
        (message_id, digest),
    )
    return bytes(row[0]) if row else None


def sweep(tx: Transaction) -> int:
    """Remove what no message in the journal refers to any more, and return how many contents were removed."""
    tx.execute("delete from message_attachment where not exists (select 1 from message where message.id = message_attachment.message_id)")
    return tx.execute(
        "delete from attachment where not exists (select 1 from message_attachment where message_attachment.digest = attachment.digest)"
    )
