"""Migrations: upgrade once, with a backup, and never touch a newer store; the lock and the read-only look."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from broker.errors import StoreError
from broker.store import migrations, postgres, sqlite
from broker.store.database import look
from broker.store.migrations import Migration

PEOPLE = Migration(1, "people", "-- who; there is\ncreate table people (\n    id {id}, -- a number; ours\n    name {text} not null\n);\n")
PETS = Migration(2, "pets", "alter table people add column pets bigint not null default 0;\ncreate index people_pets on people (pets);\n")
BROKEN = Migration(2, "broken", "create table half (id {id});\ncreate table nonsense (;\n")


def engine_of(address: str, harness: Any) -> Any:
    if address.startswith("postgresql"):
        return postgres.PostgresEngine(address, harness.call_from_thread)
    db = sqlite3.connect(address, isolation_level=None)
    return sqlite.SqliteEngine(db, None)


def tokens_of(address: str) -> dict[str, str]:
    return postgres.TOKENS if address.startswith("postgresql") else sqlite.TOKENS


def ask(engine: Any, sql: str) -> Any:
    tx = engine.begin(False)
    try:
        return tx.all(sql)
    finally:
        engine.rollback()


@pytest.fixture
def engine(address: str, harness: Any) -> Any:
    if address.startswith("/"):
        Path(address).parent.mkdir()
    engine = engine_of(address, harness)
    yield engine
    engine.close()


def test_each_is_applied_once_with_a_backup_before_what_changes_data(engine: Any, address: str) -> None:
    backups: list[int] = []
    tokens = tokens_of(address)
    migrations.upgrade(engine, tokens, backup=backups.append, known=[PEOPLE])
    migrations.upgrade(engine, tokens, backup=backups.append, known=[PEOPLE])
    assert backups == []  # there was nothing to lose
    migrations.upgrade(engine, tokens, backup=backups.append, known=[PEOPLE, PETS])
    assert backups == [1]
    assert ask(engine, "select version, name from schema_version order by version") == [(1, "people"), (2, "pets")]
    assert ask(engine, "select name, pets from people") == []


def test_one_that_fails_leaves_the_store_as_it_was(engine: Any, address: str) -> None:
    tokens = tokens_of(address)
    migrations.upgrade(engine, tokens, known=[PEOPLE])
    with pytest.raises(StoreError):
        migrations.upgrade(engine, tokens, known=[PEOPLE, BROKEN])
    assert ask(engine, "select max(version) from schema_version") == [(1,)]
    migrations.upgrade(engine, tokens, known=[PEOPLE, Migration(2, "half", "create table half (id {id});")])
    assert ask(engine, "select max(version) from schema_version") == [(2,)]


def test_a_newer_store_is_refused_untouched(address: str, harness: Any) -> None:
    if address == ":memory:":  # cannot be opened twice
        check_newer_engine(harness)
        return
    db = harness.open(address)
    harness.wait(db.run("t", lambda tx: tx.execute("insert into schema_version (version, name, applied_at) values (99, 'later', 0)")))
    harness.close()
    with pytest.raises(StoreError, match="version 99, written by a newer broker"):
        harness.open(address)


def check_newer_engine(harness: Any) -> None:
    engine = engine_of(":memory:", harness)
    migrations.upgrade(engine, sqlite.TOKENS, known=[PEOPLE, PETS])
    with pytest.raises(StoreError, match="newer broker"):
        migrations.upgrade(engine, sqlite.TOKENS, known=[PEOPLE])
    engine.close()


def test_shipped_files_are_numbered_without_gaps(tmp_path: Path) -> None:
    assert [m.version for m in migrations.shipped()] == list(range(1, len(migrations.shipped()) + 1))
    (tmp_path / "0001_a.sql").write_text("select 1;")
    (tmp_path / "0003_c.sql").write_text("select 1;")
    with pytest.raises(StoreError, match="numbered"):
        migrations.shipped(tmp_path)


def test_sqlite_is_backed_up_before_an_upgrade(tmp_path: Path, harness: Any) -> None:
    path = tmp_path / "broker.db"
    db = sqlite3.connect(path, isolation_level=None)
    engine = sqlite.SqliteEngine(db, None)
    migrations.upgrade(engine, sqlite.TOKENS, known=migrations.shipped()[:1])
    db.execute("insert into queue_lease (destination, node, until) values ('archive', 'n1', 1)")
    engine.close()
    harness.db = harness.open(path)
    assert harness.run(lambda tx: tx.one("select node from queue_lease")) == ("n1",)
    backup = sqlite3.connect(tmp_path / "broker.db.v1")
    assert backup.execute("select node from queue_lease").fetchall() == [("n1",)]
    assert backup.execute("select max(version) from schema_version").fetchone() == (1,)
    backup.close()
    assert not list(tmp_path.glob("*.part"))


def test_two_processes_on_one_file_are_refused(tmp_path: Path, harness: Any) -> None:
    harness.open(tmp_path / "broker.db")
    with pytest.raises(StoreError, match="another broker is using this store"):
        harness.open(tmp_path / "broker.db")
    harness.close()
    harness.open(tmp_path / "broker.db")


def test_a_store_in_use_may_be_looked_at_but_not_changed(address: str, harness: Any) -> None:
    harness.db = harness.open(address)
    harness.run(lambda tx: tx.execute("insert into number_sequence (name, value) values ('a', 1)"))
    if address == ":memory:":
        return
    assert look(address, lambda tx, table: tx.all(f"select name from {table}"), "number_sequence") == [("a",)]
    onlooker = harness.open(address, read_only=True)
    assert harness.wait(onlooker.read("t", lambda tx: tx.all("select name from number_sequence"))) == [("a",)]
    with pytest.raises(StoreError):
        harness.wait(onlooker.run("t", lambda tx: tx.execute("delete from number_sequence")))
    assert harness.run(lambda tx: tx.all("select name from number_sequence")) == [("a",)]


def test_looking_at_nothing_is_an_error(tmp_path: Path, harness: Any) -> None:
    with pytest.raises(StoreError):
        harness.open(tmp_path / "none.db", read_only=True)
    assert not (tmp_path / "none.db").exists()
    sqlite3.connect(tmp_path / "empty.db").close()
    with pytest.raises(StoreError):
        harness.open(tmp_path / "empty.db", read_only=True)


def test_files_are_for_their_owner_only(tmp_path: Path, harness: Any) -> None:
    harness.db = harness.open(tmp_path / "data" / "broker.db")
    harness.run(lambda tx: tx.execute("insert into number_sequence (name, value) values ('a', 1)"))
    files = sorted((tmp_path / "data").iterdir())
    assert "broker.db-wal" in [f.name for f in files]
    assert {oct(os.stat(f).st_mode & 0o777) for f in files} == {"0o600"}


def test_a_file_that_is_no_store_is_an_error_and_lets_go_of_the_lock(tmp_path: Path, harness: Any) -> None:
    path = tmp_path / "broker.db"
    path.write_bytes(b"not a database" * 500)
    for _ in range(2):
        with pytest.raises(StoreError, match="not a database"):
            harness.open(path)


def test_every_commit_is_synced(tmp_path: Path, harness: Any) -> None:
    harness.db = harness.open(tmp_path / "broker.db")
    assert harness.run(lambda tx: tx.one("pragma journal_mode")) == ("wal",)
    assert harness.run(lambda tx: tx.one("pragma synchronous")) == (2,)


def test_steps_of_an_older_store_learn_where_their_slots_end(engine: Any, address: str) -> None:
    tokens, shipped = tokens_of(address), migrations.shipped()
    migrations.upgrade(engine, tokens, known=shipped[:2])
    slots = {"202603020945": (30, "202603021015"), "202603022350": (10, "202603022400"), "202603020800": (0, "202603020801"), "": (20, "")}
    tx = engine.begin(True)
    for start, (duration, _) in slots.items():
        tx.execute("insert into steps (exam_id, start, duration) values (1, ?, ?)", (start, duration))
    engine.commit()
    migrations.upgrade(engine, tokens, known=shipped[:3])
    assert dict(ask(engine, "select start, ends from steps")) == {start: ends for start, (_, ends) in slots.items()}


def test_objects_of_an_older_store_are_known(engine: Any, address: str) -> None:
    tokens, shipped = tokens_of(address), migrations.shipped()
    migrations.upgrade(engine, tokens, known=shipped[:5])
    tx = engine.begin(True)
    for number, spool, state in ((1, "a", "routed"), (2, "b", "parked"), (3, "c", "refused"), (4, "", "routed")):
        tx.execute(
            "insert into message (id, received_at, listener, protocol, kind, sender, peer, control_id, digest, spool, state, answer, raw)"
            " values (?, 1, 'modalities', 'dicom', 'C-STORE', 'CT1', '', ?, '', ?, ?, ?, ?)",
            (number, f"1.2.{number}", spool, state, b"", b""),
        )
    tx.execute("insert into instances (id, uid, sop_class, spool, size, message_id) values (1, '1.2.1', '1.9', 'a', 500, 1)")
    engine.commit()
    migrations.upgrade(engine, tokens, known=shipped[:6])
    assert ask(engine, "select message_id, name, uid, sop_class, size, state from object order by message_id") == [
        (1, "a", "1.2.1", "1.9", 500, "kept"),
        (2, "b", "1.2.2", "", 0, "kept"),
    ]
    assert ask(engine, "select id, spool from message order by id") == [(1, "a"), (2, "b"), (3, ""), (4, "")]
