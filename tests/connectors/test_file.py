"""The file shells over a folder and a clock, with threads that run here and now."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from broker.connectors import file_destination, file_disk
from broker.connectors.base import Destination, Listener
from broker.connectors.file import DESTINATION, LISTENER, FileDestination, FileListener, check_destination, check_listener
from broker.connectors.file_destination import check_name
from broker.errors import MessageError, Retry, StoreError
from broker.hl7.ack import answer
from broker.hl7.batch import parts
from broker.hl7.message import Message
from broker.model import Delivery
from broker.obs.log import Log
from broker.obs.metrics import Metrics

MSG = "MSH|^~\\&|EHR|H|B|R|2026||ADT^A04|{}|P|2.5.1\rPID|1||4711||DOE^JANE\r"


def at_once(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
    try:
        return succeed(fn(*args, **kwargs))
    except Exception:
        return fail(Failure())


class Bench:
    """A folder, a listener over it, and an intake that accepts what is not called BAD."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "in"
        self.folder.mkdir()
        self.clock, self.metrics, self.printed = Clock(), Metrics(), StringIO()
        self.got: list[str] = []
        self.answers: Callable[[str], Deferred[bytes]] = self._answer

    def listener(self, **options: object) -> FileListener:
        settings = LISTENER.read({"folder": str(self.folder), "settle": "0s", **options})
        log = Log(self.printed, strict=True, terminal=False)
        return FileListener("night", settings, self.clock, self, at_once, lambda: "20260302", self.metrics, log)

    def receive_hl7(self, listener: str, peer: str, raw: bytes, later: object = None) -> Deferred[bytes]:
        assert (listener, peer) == ("night", "file")
        self.got.append(Message.parse(raw).control_id)
        return self.answers(self.got[-1])

    def _answer(self, id: str) -> Deferred[bytes]:
        ack = f"MSH|^~\\&|B||||2026||ACK|1|P|2.5.1\rMSA|{'AE' if id.startswith('BAD') else 'AA'}|{id}\r"
        return succeed((ack + ("ERR||PID^1^3|101^x\r" if id.startswith("BAD") else "")).encode())

    def put(self, name: str, text: str | bytes) -> Path:
        path = self.folder / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def names(self, folder: str = "") -> list[str]:
        path = self.folder / folder
        return sorted(one.name for one in path.iterdir() if one.is_file()) if path.exists() else []

    def faults(self, fault: str) -> float:
        return self.metrics.registry.get_sample_value("broker_protocol_errors_total", {"listener": "night", "fault": fault}) or 0.0


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def started(listener: FileListener) -> str:
    found: list[Any] = []
    listener.start().addBoth(found.append)
    [shown] = found
    if isinstance(shown, Failure):
        shown.raiseException()
    clock: Clock = listener._reactor
    clock.advance(listener._settings["every"])
    return str(shown)


def test_the_shells_are_what_the_engine_expects(bench: Bench) -> None:
    listener: Listener = bench.listener()
    destination: Destination = FileDestination("out", DESTINATION.read({"folder": "/tmp"}), at_once)
    assert (listener.name, destination.name, destination.width) == ("night", "out", 1)


def test_files_are_read_in_the_order_of_their_names_and_archived(bench: Bench) -> None:
    bench.put("b.hl7", MSG.format(2))
    bench.put("a.hl7", MSG.format(1))
    bench.put("c.txt", MSG.format(3))
    bench.put(".d.hl7", MSG.format(4))
    assert started(bench.listener()) == f"file {bench.folder}"
    assert bench.got == ["1", "2"]
    assert bench.names("archive") == ["a.hl7", "b.hl7"]
    assert bench.names() == [".d.hl7", "c.txt"]


def test_the_folder_is_looked_at_again(bench: Bench) -> None:
    started(bench.listener(every="5s"))
    bench.put("a.hl7", MSG.format(1))
    bench.clock.advance(4)
    assert bench.got == []
    bench.clock.advance(1)
    assert bench.got == ["1"]


HOLDS = {
    "one message": (MSG.format(1), ["1"]),
    "one message with line feeds": (MSG.format(1).replace("\r", "\n"), ["1"]),
    "several messages": (MSG.format(1) + MSG.format(2), ["1", "2"]),
    "several with CRLF": ((MSG.format(1) + MSG.format(2)).replace("\r", "\r\n"), ["1", "2"]),
    "a batch": ("BHS|^~\\&|E\r" + MSG.format(1) + MSG.format(2) + "BTS|2\r", ["1", "2"]),
    "a file of batches": ("FHS|^~\\&|E\rBHS|^~\\&|E\r" + MSG.format(1) + "BTS|1\rFTS|1\r", ["1"]),
    "a byte order mark": ("\ufeff" + MSG.format(1), ["1"]),
    "many": ("".join(MSG.format(n) for n in range(500)), [str(n) for n in range(500)]),
}


@pytest.mark.parametrize(("text", "ids"), HOLDS.values(), ids=HOLDS)
def test_a_file_holds_one_message_or_several(bench: Bench, text: str, ids: list[str]) -> None:
    bench.put("a.hl7", text)
    started(bench.listener())
    assert bench.got == ids
    assert bench.names("archive") == ["a.hl7"]


def test_a_file_that_grows_is_waited_for_and_so_are_those_behind_it(bench: Bench) -> None:
    started(bench.listener(every="1s", settle="2s"))
    bench.put("a.hl7", MSG.format(1)[:40])
    bench.put("b.hl7", MSG.format(2))
    bench.clock.pump([1, 1])
    bench.put("a.hl7", MSG.format(1))
    bench.clock.pump([1, 1])
    assert bench.got == []
    bench.clock.pump([1])
    assert bench.got == ["1", "2"]


def test_a_file_leaves_only_when_its_messages_are_durable(bench: Bench) -> None:
    waiting: list[Deferred[bytes]] = []
    bench.answers = lambda id: waiting.append(Deferred()) or waiting[-1]  # type: ignore[func-returns-value]
    bench.put("a.hl7", MSG.format(1) + MSG.format(2))
    listener = bench.listener()
    started(listener)
    waiting[0].callback(b"MSH|^~\\&|B||||2026||ACK|1|P|2.5.1\rMSA|AA|1\r")
    assert bench.names() == ["a.hl7"]
    stopped = listener.stop()
    assert not stopped.called
    waiting[1].callback(b"MSH|^~\\&|B||||2026||ACK|1|P|2.5.1\rMSA|AA|2\r")
    assert stopped.called
    assert bench.names("archive") == ["a.hl7"]


def test_what_cannot_end_is_left_for_the_next_start(bench: Bench) -> None:
    bench.answers = lambda id: Deferred()
    bench.put("a.hl7", MSG.format(1) + MSG.format(2))
    listener = bench.listener()
    started(listener)
    stopped = listener.stop()
    bench.clock.advance(4.9)
    assert not stopped.called
    bench.clock.advance(0.2)
    assert stopped.called
    assert bench.names() == ["a.hl7"]
    assert bench.clock.getDelayedCalls() == []
    assert bench.faults("folder") == 0


def test_a_store_that_fails_leaves_the_file_where_it_is(bench: Bench) -> None:
    answers = bench.answers
    bench.answers = lambda id: fail(StoreError("disk full"))
    bench.put("a.hl7", MSG.format(1) + MSG.format(2))
    started(bench.listener(every="1s"))
    assert bench.names() == ["a.hl7"]
    assert bench.faults("folder") == 1
    bench.answers = answers
    bench.clock.advance(1)
    assert bench.names("archive") == ["a.hl7"]


REFUSED = {
    "a message that is refused": (MSG.format(1) + MSG.format("BAD2"), "message 2: AE PID-3: 101 Required field missing\n"),
    "a wrong count": ("BHS|^~\\&|E\r" + MSG.format(1) + "BTS|7\r", "BTS-1 says 7, there are 1 messages\n"),
    "a cut batch": ("BHS|^~\\&|E\r" + MSG.format(1), "no BTS ends the batch\n"),
    "no message": ("hello DOE^JANE", "no HL7 message is in it\n"),
    "nothing": ("", "no HL7 message is in it\n"),
    "too much": (MSG.format(1) + "x" * 2000, "more than 1024 bytes\n"),
}


@pytest.mark.parametrize(("text", "why"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_set_aside_with_the_reason(bench: Bench, text: str, why: str) -> None:
    bench.put("DOE_JANE.hl7", text)
    bench.put("z.hl7", MSG.format("Z"))
    started(bench.listener(limit="1 KB"))
    assert bench.names("failed") == ["DOE_JANE.hl7", "DOE_JANE.hl7.why"]
    assert (bench.folder / "failed/DOE_JANE.hl7.why").read_text() == why
    assert bench.names("archive") == ["z.hl7"]
    assert bench.faults("file") == 1
    assert "DOE" not in bench.printed.getvalue()
    assert why.strip() in bench.printed.getvalue()


def test_the_reason_is_the_one_that_the_answer_carries(bench: Bench) -> None:
    refused = MessageError("PID-3", "not a patient\nof this hospital", 207)
    message = Message.parse(MSG.format("7").encode())
    bench.answers = lambda id: succeed(answer(message, "AE", refused, now="2026", control_id="B1"))
    bench.put("a.hl7", MSG.format("7"))
    started(bench.listener())
    why = "message 1: AE PID-3: not a patient of this hospital"
    assert (bench.folder / "failed/a.hl7.why").read_text() == f"{why}\n"
    assert why in bench.printed.getvalue()


def test_a_file_may_come_again_under_its_name(bench: Bench) -> None:
    listener = bench.listener(every="1s")
    bench.put("a.hl7", MSG.format(1))
    started(listener)
    for number in (2, 3):
        bench.put("a.hl7", MSG.format(number))
        bench.clock.advance(1)
    assert bench.names("archive") == ["a.1.hl7", "a.2.hl7", "a.hl7"]
    assert (bench.folder / "archive/a.2.hl7").read_text().splitlines()[0].endswith("|3|P|2.5.1")


def test_without_an_archive_files_are_removed(bench: Bench) -> None:
    bench.put("a.hl7", MSG.format(1))
    started(bench.listener(archive="none"))
    assert bench.names() == []
    assert bench.names("archive") == []


def test_answers_are_written_when_asked(bench: Bench) -> None:
    bench.put("one.hl7", MSG.format(1))
    bench.put("several.hl7", MSG.format(2) + MSG.format("BAD3"))
    started(bench.listener(answers="answers"))
    assert bench.names("answers") == ["one.hl7.ack", "several.hl7.ack"]
    assert Message.parse((bench.folder / "answers/one.hl7.ack").read_bytes()).get("MSA-2") == "1"
    kinds = [part.kind for part in parts((bench.folder / "answers/several.hl7.ack").read_bytes())]
    assert kinds == ["BHS", "MSH", "MSH", "BTS"]


def test_a_checksum_is_waited_for_and_compared(bench: Bench) -> None:
    good, bad = bench.put("good.hl7", MSG.format(1)), bench.put("bad.hl7", MSG.format(2))
    started(bench.listener(every="1s", checksum="sha256"))
    assert bench.got == []
    bench.put("good.hl7.sha256", f"{hashlib.sha256(good.read_bytes()).hexdigest().upper()} *good.hl7\n")
    bench.put("bad.hl7.sha256", "0" * 64)
    bench.clock.advance(1)
    assert bench.got == ["1"]
    assert not bad.exists()
    assert bench.names("archive") == ["good.hl7", "good.hl7.sha256"]
    assert bench.names("failed") == ["bad.hl7", "bad.hl7.sha256", "bad.hl7.why"]
    assert "checksum" in (bench.folder / "failed/bad.hl7.why").read_text()


def test_a_checksum_goes_with_a_file_that_is_removed(bench: Bench) -> None:
    path = bench.put("a.hl7", MSG.format(1))
    bench.put("a.hl7.sha256", hashlib.sha256(path.read_bytes()).hexdigest())
    started(bench.listener(checksum="sha256", archive="none"))
    assert bench.names() == []


def test_only_files_are_read_and_no_links(bench: Bench, tmp_path: Path) -> None:
    (bench.folder / "folder.hl7").mkdir()
    os.mkfifo(bench.folder / "pipe.hl7")
    (tmp_path / "secret").write_text(MSG.format(1))
    (bench.folder / "link.hl7").symlink_to(tmp_path / "secret")
    started(bench.listener())
    assert bench.got == []
    assert bench.faults("file") == 0


def test_a_link_or_pipe_that_takes_a_files_place_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(file_disk.Unfit, match="not a file"):
        file_disk.read(tmp_path / "pipe", 100)
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    with pytest.raises(OSError, match="link"):
        file_disk.read(tmp_path / "link", 100)


def test_a_file_that_is_taken_back_is_no_trouble(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.put("a.hl7", MSG.format(1))
    monkeypatch.setattr(file_disk, "scan", lambda *_, **__: [file_disk.Found("gone.hl7", 1, 1)])
    started(bench.listener())
    assert bench.faults("folder") == 0


def test_a_folder_that_goes_away_is_told_once_and_comes_back(bench: Bench) -> None:
    started(bench.listener(every="1s"))
    away = bench.folder.rename(bench.folder.with_name("away"))
    bench.clock.pump([1, 1, 1])
    assert bench.faults("folder") == 3
    assert bench.printed.getvalue().count("not picked up") == 1
    away.rename(bench.folder)
    bench.put("a.hl7", MSG.format(1))
    bench.clock.advance(1)
    assert bench.got == ["1"]


def test_a_folder_that_is_not_there_keeps_the_broker_from_starting(bench: Bench) -> None:
    with pytest.raises(OSError, match="No such file"):
        started(bench.listener(folder="/nonexistent/hl7"))


def test_an_archive_on_another_file_system_is_refused_at_the_start(bench: Bench) -> None:
    elsewhere = Path(f"/dev/shm/broker-{os.getpid()}")
    with pytest.raises(OSError, match="another file system"):
        started(bench.listener(archive=str(elsewhere)))
    elsewhere.rmdir()


def test_stopping_reads_no_further_file(bench: Bench) -> None:
    listener = bench.listener(every="1s")
    started(listener)
    assert listener.stop().called
    bench.put("a.hl7", MSG.format(1))
    bench.clock.pump([1, 1])
    assert bench.got == []


def test_what_a_crash_left_is_read_again(bench: Bench) -> None:
    """The messages were kept, but the file was not moved: the intake sees them again, and knows them by MSH-10."""
    bench.put("a.hl7", MSG.format(1))
    started(bench.listener(archive="none"))
    bench.put("a.hl7", MSG.format(1))
    started(bench.listener(archive="none"))
    assert bench.got == ["1", "1"]
    assert bench.names() == []


# -- writing


def delivery(number: int = 7, kind: str = "ADT^A04", control_id: str = "C1", payload: bytes = b"MSH|x\r") -> Delivery:
    return Delivery(number, 1, "out", "p", "orders", kind, payload, control_id, "A1", 0)


def sent(folder: Path, *deliveries: Delivery, **options: str) -> list[str]:
    destination = FileDestination("out", DESTINATION.read({"folder": str(folder), **options}), at_once)
    for one in deliveries:
        found: list[Any] = []
        destination.send(one).addBoth(found.append)
        if isinstance(found[0], Failure):
            found[0].raiseException()
        assert found == ["written"]
    assert destination.close().called
    return sorted(path.name for path in folder.iterdir())


def test_a_message_is_written_under_its_name(tmp_path: Path) -> None:
    assert sent(tmp_path, delivery()) == ["ADT_A04_C1.hl7"]
    assert (tmp_path / "ADT_A04_C1.hl7").read_bytes() == b"MSH|x\r"


def test_the_checksum_is_that_of_sha256sum(tmp_path: Path) -> None:
    assert sent(tmp_path, delivery(), checksum="sha256") == ["ADT_A04_C1.hl7", "ADT_A04_C1.hl7.sha256"]
    assert (tmp_path / "ADT_A04_C1.hl7.sha256").read_text() == f"{hashlib.sha256(b'MSH|x' + bytes([13])).hexdigest()}  ADT_A04_C1.hl7\n"


def test_a_delivery_made_again_is_written_once_and_another_one_loses_nothing(tmp_path: Path) -> None:
    again, other = delivery(), delivery(8, payload=b"MSH|y\r")
    assert sent(tmp_path, delivery(), again, other, other) == ["ADT_A04_C1.hl7", "ADT_A04_C1_8.hl7"]
    assert sent(tmp_path, delivery(8, payload=b"MSH|z\r"))[-2:] == ["ADT_A04_C1_8.hl7", "ADT_A04_C1_8_2.hl7"]


NAMES = {
    "a path": ("../../etc/passwd", "ADT_A04_.._.._etc_passwd.hl7"),
    "nothing": ("", "ADT_A04_.hl7"),
    "zero bytes, blanks, letters of other alphabets": ("a\0b c\u00fcd\n", "ADT_A04_a_b_c_d_.hl7"),
    "very much": ("x" * 1000, "ADT_A04_" + "x" * 192 + ".hl7"),
}


@pytest.mark.parametrize(("control_id", "name"), NAMES.values(), ids=NAMES)
def test_a_message_never_names_a_path(tmp_path: Path, control_id: str, name: str) -> None:
    assert sent(tmp_path, delivery(control_id=control_id)) == [name]


@pytest.mark.parametrize("control_id", ["..", ".", ".hidden", "...."])
def test_a_name_never_begins_with_a_dot(tmp_path: Path, control_id: str) -> None:
    [name] = sent(tmp_path, delivery(control_id=control_id), name="{control_id}")
    assert name[0] != "."


def test_a_disk_that_takes_nothing_is_tried_again_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(file_disk.os, "fsync", full)
    with pytest.raises(Retry, match="No space left"):
        sent(tmp_path, delivery())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Retry, match="No such file"):
        sent(tmp_path / "nowhere", delivery())


def test_a_file_appears_only_when_it_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(file_disk.os, "fsync", lambda fd: (happened.append("sync"), fsync(fd))[1])
    monkeypatch.setattr(file_disk.os, "rename", lambda a, b: (happened.append("rename"), rename(a, b))[1])
    sent(tmp_path, delivery())
    assert happened == ["sync", "rename", "sync"]


# -- configuration


@pytest.mark.parametrize("spec", [LISTENER, DESTINATION], ids=lambda spec: spec.kind)
def test_the_example_is_right(spec: Any) -> None:
    settings = spec.read(yaml.safe_load(spec.example)["file"])
    assert list((check_listener if spec is LISTENER else check_destination)(settings)) == []


@pytest.mark.parametrize(
    ("template", "wrong"),
    [
        ("{type}_{control_id}.hl7", ""),
        ("{id}", ""),
        ("{channel}/{id}.hl7", "slash"),
        (".{id}", "dot"),
        ("{patient}_{id}", "none of"),
        ("{id.__class__}", "none of"),
        ("{id!r}", "none of"),
        ("{id:>5}", "none of"),
        ("{}", "none of"),
        ("{id", "brace"),
        ("same.hl7", "names of their own"),
    ],
)
def test_a_template_of_names_is_checked(template: str, wrong: str) -> None:
    said = check_name(template)
    assert wrong in said
    assert bool(said) == bool(wrong)


@pytest.mark.parametrize(("key", "folder"), [("archive", "."), ("failed", "/srv/in/"), ("answers", "../in")])
def test_files_are_never_kept_where_they_are_read(key: str, folder: str) -> None:
    settings = LISTENER.read({"folder": "/srv/in", key: folder})
    assert [key for key, _ in check_listener(settings)] == [key]


def test_a_pattern_is_a_name() -> None:
    assert dict(check_listener(LISTENER.read({"folder": "/srv/in", "pattern": "../*.hl7"}))).keys() == {"pattern"}
    assert set(file_destination.FIELDS) >= {"type", "control_id", "id"}
