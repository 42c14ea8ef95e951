"""The spool: durable before it is told, nothing left behind, no way out of its folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from twisted.internet.defer import Deferred, execute

from broker.errors import StoreError
from broker.store import spool as spool_module
from broker.store.spool import HELD, HOPS, Spool, free_bytes

NOON = 1772452800.0  # 2026-03-02 12:00 UTC
LARGE = bytes(HELD + 1)  # what does not wait in memory
GOOD = "20260302/" + "0" * 32 + ".dcm"


class Threads:
    """Thread calls that wait until the test lets them run."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def __call__(self, fn: Callable[..., Any], *args: Any) -> Deferred[Any]:
        fired: Deferred[Any] = Deferred()
        self.calls.append(lambda: execute(fn, *args).chainDeferred(fired))
        return fired


def fired(deferred: Deferred[Any]) -> Any:
    results: list[Any] = []
    deferred.addCallbacks(results.append, lambda failure: results.append(failure.value))
    [result] = results
    return result


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", execute, lambda: NOON)


def files(spool: Spool) -> list[str]:
    return sorted(p.name for p in Path(spool._path).rglob("*") if p.is_file())


def tag(content: bytes, store: str = "") -> str:
    key = hashlib.blake2b(store.encode(), digest_size=32).digest()
    return AESGCM(key).encrypt(bytes(12), b"", content).hex()


def store(spool: Spool, *pieces: bytes, head: bytes = b"") -> Any:
    file = spool.begin(head)
    for piece in pieces:
        file.write([piece])
    return fired(file.finish())


def test_an_object_is_there_when_finish_has_fired(spool: Spool) -> None:
    file = spool.begin()
    file.write([b"DICM", memoryview(b"header"), bytearray(b"")])
    file.write([])
    file.write([memoryview(b"pixels" * 1000)])
    assert file.size == 6010
    assert list(spool.names()) == []
    name, size, digest = fired(file.finish())
    content = b"DICMheader" + b"pixels" * 1000
    assert name.startswith("20260302/")
    assert name == file.name
    assert (size, digest) == (len(content), tag(content))
    with spool.open(name) as opened:
        assert opened.read() == content
    assert list(spool.names()) == list(spool.names("20260302")) == [name]
    assert spool.days() == ["20260302"]
    file.abort()  # too late, and harmless
    assert list(spool.names()) == [name]


def test_the_digest_may_leave_out_what_is_ours(spool: Spool) -> None:
    assert store(spool, b"dataset", head=b"preamble")[2] == store(spool, b"dataset")[2]


@pytest.mark.parametrize("size", [0, 1, HELD - 1, HELD, HELD + 1, HELD * 20 + 1])
def test_digests_of_all_sizes(spool: Spool, size: int) -> None:
    content = os.urandom(size)
    assert store(spool, content)[1:] == (size, tag(content))


def test_more_pieces_than_one_call_takes(spool: Spool) -> None:
    file = spool.begin()
    file.write([b"ab"] * 3000)
    assert fired(file.finish())[1:] == (6000, tag(b"ab" * 3000))


def test_a_short_write_goes_on_where_it_stopped(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "writev", lambda descriptor, pieces: os.write(descriptor, b"".join(pieces)[:30000]))
    file = spool.begin()
    file.write([b"ab" * 20000, b"cdef" * 20000])
    monkeypatch.undo()
    content = b"ab" * 20000 + b"cdef" * 20000
    name, size, digest = fired(file.finish())
    assert (size, digest) == (len(content), tag(content))
    with spool.open(name) as opened:
        assert opened.read() == content


def test_files_that_wait_share_a_thread_call(tmp_path: Path) -> None:
    threads = Threads()
    spool = Spool(tmp_path, threads, lambda: NOON)
    seen: list[str] = []
    opened = [spool.begin() for _ in range(10)]
    for file in opened:
        file.write([b"x"])
        file.finish().addCallback(lambda result: seen.append(result[0]))
    assert len(threads.calls) == HOPS
    for _ in range(HOPS):
        threads.calls.pop(0)()
    assert len(threads.calls) == 1  # one call takes along all the others
    threads.calls.pop(0)()
    assert sorted(seen) == sorted(file.name for file in opened)
    assert threads.calls == []


@pytest.mark.parametrize("content", [b"small", LARGE])
def test_abort_leaves_nothing(spool: Spool, content: bytes) -> None:
    file = spool.begin()
    file.write([content])
    file.abort()
    file.abort()
    assert files(spool) == []


def fail_with(number: int) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_full_disk_while_writing_is_a_store_error_and_leaves_nothing(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    file = spool.begin()
    monkeypatch.setattr(os, "writev", fail_with(28))
    with pytest.raises(StoreError, match="No space left"):
        file.write([LARGE])
    assert files(spool) == []


def test_a_full_disk_is_a_store_error_of_a_small_object_when_it_is_finished(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "writev", fail_with(28))
    assert isinstance(store(spool, b"x"), StoreError)
    assert files(spool) == []


@pytest.mark.parametrize("call", ["fdatasync", "rename"])
def test_what_cannot_be_made_durable_is_a_store_error_and_not_there(spool: Spool, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    file = spool.begin()
    file.write([LARGE])
    monkeypatch.setattr(os, call, fail_with(5))
    assert isinstance(fired(file.finish()), StoreError)
    monkeypatch.undo()
    assert list(spool.names()) == []
    assert files(spool) == []


def test_one_that_fails_leaves_the_others_of_its_batch(tmp_path: Path) -> None:
    threads = Threads()
    spool = Spool(tmp_path, threads, lambda: NOON)
    results: list[Any] = []
    opened = [spool.begin() for _ in range(HOPS + 2)]
    for file in opened:
        file.write([b"x"])
        file.finish().addCallbacks(results.append, lambda failure: results.append(failure.value))
    (tmp_path / opened[-1].name).write_bytes(b"in its way")
    while threads.calls:
        threads.calls.pop(0)()
    assert [result[0] for result in results[:-1]] == [file.name for file in opened[:-1]]
    assert isinstance(results[-1], StoreError)


def test_a_small_object_is_no_file_before_it_is_finished(spool: Spool) -> None:
    file = spool.begin(b"head")
    file.write([memoryview(b"data")])
    assert files(spool) == []
    name, size, _ = fired(file.finish())
    with spool.open(name) as opened:
        assert opened.read() == b"headdata"
    assert size == 8


@pytest.mark.parametrize("content", [b"small", LARGE])
def test_what_need_not_be_durable_is_there_at_once_and_not_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    threads = Threads()
    spool = Spool(tmp_path, threads, lambda: NOON)
    file = spool.begin()
    for call in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, call, fail_with(5))
    file.write([content])
    name, size, _ = fired(file.finish(durable=False))
    assert threads.calls == []
    assert (list(spool.names()), size) == ([name], len(content))


def test_digests_are_the_store_s_own(tmp_path: Path) -> None:
    here, there, again = (Spool(tmp_path / name, execute, lambda: NOON) for name in ("here", "there", "again"))
    for spool, owner in ((here, "A"), (there, "B"), (again, "A")):
        spool.claim(owner)
    digests = [store(spool, b"content")[2] for spool in (here, there, again)]
    assert digests == [tag(b"content", "A"), tag(b"content", "B"), tag(b"content", "A")]


def test_a_thread_that_fails_fails_its_files(tmp_path: Path) -> None:
    def broken(fn: Any, *args: Any) -> Deferred[Any]:
        return execute(fail_with(5))

    spool = Spool(tmp_path, broken, lambda: NOON)
    assert isinstance(store(spool, b"x"), StoreError)


def test_a_folder_that_cannot_be_synced_fails_its_files(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    store(spool, b"first")
    file = spool.begin()
    monkeypatch.setattr(spool_module, "sync", fail_with(5))
    assert isinstance(fired(file.finish()), StoreError)


def test_sweep_removes_what_a_crash_left_and_nothing_else(spool: Spool, tmp_path: Path) -> None:
    used, orphan = store(spool, b"1")[0], store(spool, b"2")[0]
    half = spool.begin()
    half.write([LARGE])
    foreign = tmp_path / "spool" / "20260302" / "notes.txt"
    foreign.write_text("not the broker's")
    again = Spool(tmp_path / "spool", execute, lambda: NOON)
    assert again.sweep({used}) == 2
    assert list(again.names()) == [used]
    assert foreign.exists()
    assert orphan != used
    assert again.sweep({used}) == 0
    assert again.sweep(set(), "20260302") == 1


def test_a_folder_that_was_tidied_away_is_made_again(spool: Spool) -> None:
    name = store(spool, b"1")[0]
    spool.remove(name)
    spool.path(name).parent.rmdir()
    again = store(spool, b"2")[0]
    assert list(spool.names()) == [again]
    assert spool.sweep(set(), "20260303") == 0


def test_every_day_has_its_folder(tmp_path: Path) -> None:
    times = [NOON]
    spool = Spool(tmp_path, execute, lambda: times[0])
    first = store(spool, b"1")[0]
    times[0] += 86400
    second = store(spool, b"2")[0]
    assert spool.days() == ["20260302", "20260303"]
    assert list(spool.names()) == [first, second]
    assert list(spool.names("20260304")) == []
    spool.remove(first)
    spool.remove(first)
    assert list(spool.names()) == [second]


@pytest.mark.parametrize(
    "name",
    ["", "..", "../secret", "/etc/passwd", GOOD + "/..", "20260302/../../x.dcm", GOOD + ".part", GOOD + "\n", "20260302/DOE^JANE.dcm"],
)
def test_a_name_that_is_not_the_spools_own_is_refused(spool: Spool, name: str) -> None:
    for use in (spool.path, spool.open, spool.remove):
        with pytest.raises(ValueError, match="not a name of the spool"):
            use(name)


def test_an_object_that_is_gone_says_so(spool: Spool) -> None:
    with pytest.raises(FileNotFoundError):
        spool.open(GOOD)


def test_files_are_for_their_owner_only(spool: Spool) -> None:
    path = spool.path(store(spool, b"x")[0])
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_free_bytes(spool: Spool, tmp_path: Path) -> None:
    assert 0 < spool.free_bytes() <= os.statvfs(tmp_path).f_frsize * os.statvfs(tmp_path).f_blocks
    assert free_bytes(tmp_path) > 0


def test_one_process_has_the_folder(spool: Spool, tmp_path: Path) -> None:
    assert spool.claim("a")
    with pytest.raises(StoreError, match="another broker"):
        Spool(tmp_path / "spool", execute).claim("a")
    spool.release()
    assert Spool(tmp_path / "spool", execute).claim("a")


def test_what_another_store_has_filled_is_not_swept(spool: Spool, tmp_path: Path) -> None:
    assert spool.claim("sqlite")
    name = store(spool, b"1")[0]
    spool.release()
    other = Spool(tmp_path / "spool", execute)
    assert not other.claim("postgres")
    (tmp_path / "spool" / (GOOD + ".part")).touch()
    assert other.sweep(None) == 1
    assert list(other.names()) == [name]
    other.release()
    assert Spool(tmp_path / "spool", execute).claim("sqlite")


def test_a_disk_that_takes_no_change_fails_each_file_for_itself(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, half = spool.begin(), spool.begin(), spool.begin()
    name = store(spool, b"x")[0]

    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(spool_module.os, "fsync", read_only)
    monkeypatch.setattr(spool_module.os, "unlink", read_only)
    monkeypatch.setattr(spool_module.Path, "unlink", read_only)
    results = [fired(file.finish()) for file in (first, second)]
    assert [str(result) for result in results] == ["spool: Read-only file system"] * 2
    half.abort()
    spool.remove(name)
    assert spool.sweep(set()) == 0


def test_a_spool_keeps_its_mark_and_another_one_of_the_same_store_has_its_own(tmp_path: Path) -> None:
    here, there, again = (Spool(tmp_path / name, execute) for name in ("here", "there", "here"))
    for spool in (here, there):
        assert spool.claim("the store")
    here.release()
    assert again.claim("the store")
    assert again.mark == here.mark != there.mark
    assert len(here.mark) == 16


def test_a_spool_of_a_broker_that_gave_it_no_mark_gets_one_and_stays_its_store_s(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", execute)
    (tmp_path / "spool.owner").write_text("the store")
    (tmp_path / "spool" / "20260302").mkdir()
    (tmp_path / "spool" / GOOD).touch()
    assert spool.claim("the store")
    mark = spool.mark
    spool.release()
    assert spool.claim("the store")
    assert spool.mark == mark != ""
