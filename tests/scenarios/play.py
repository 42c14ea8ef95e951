"""Plays a scenario against a broker process, with peers out of other people's parts.

The language is the product's (`broker.pipeline.scenario`), which plays the same files in process; nothing else here is. `renamed` also
tells whose messages the receivers got. Each message sent gets a control id of its own, unless the scenario sets MSH-10.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from hl7.client import MLLPClient

from broker.pipeline.scenario import SENTENCES, understand
from tests.peers import TOP, Archive, Sink, eventually
from tests.scenarios import hl7text
from tests.scenarios.department import Department
from tests.scenarios.modality import Modality, texts

HERE = TOP / "tests" / "scenarios"
Get = Callable[[str], str]
Said = Mapping[str, str]


class Play:
    """One scenario under way."""

    def __init__(
        self, department: Department, name: str, scenario: Mapping[str, Any], archive: str = "pynetdicom", folder: Path = HERE
    ) -> None:
        self.department, self.name, self.scenario, self.folder = department, name, scenario, folder
        self.renamed: Mapping[str, str] = scenario.get("renamed", {})
        self.modalities: dict[str, Modality] = {}
        self.taken = {sink: len(department.sinks[sink].received) for sink in department.sinks}
        self.looked: set[str] = set()  # receivers that the scenario has asked
        self.last, self.answer = b"", b""
        self.sent = 0
        department.use_archive(archive)
        self.listed = {one["id"] for one in department.status()["unmatched"]}
        self.before = max((one["id"] for one in department.broker.json("/api/messages?limit=1")["messages"]), default=0)

    def run(self) -> None:
        """Play all steps; raises AssertionError naming the one that failed."""
        for number, step in enumerate(self.scenario["steps"], 1):
            ((sentence, value),) = step.items()
            understood = understand(sentence)
            assert understood, f"no sentence: {sentence}"
            try:
                VERBS[understood[0].name](self, understood[1], value)
            except AssertionError as error:
                raise AssertionError(f"{self.name}, step {number}, {sentence}: {error}") from error
        for sink in sorted(self.looked):
            assert not self.unread(sink), f"{self.name}: {sink} got more: {self.unread(sink)}"

    def modality(self, ae_title: str) -> Modality:
        """Return the modality of this scenario."""
        if ae_title not in self.modalities:
            folder = self.department.folder / self.name
            self.modalities[ae_title] = Modality(ae_title, self.department.broker.ports["DICOM_PORT"], folder)
        return self.modalities[ae_title]

    def resolve(self, value: Any) -> Any:
        """Return the text with what stands in braces looked up."""
        if not isinstance(value, str):
            return value
        return re.sub(r"\{(\w+)\.([\w.]+)\}", lambda found: texts(self.modality(found[1]).entry, found[2]), value)

    def resolved(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields with their values resolved."""
        return {path: self.resolve(value) for path, value in fields.items()}

    def rename(self, text: str) -> str:
        """Return a sample with the names this scenario uses."""
        for word, name in self.renamed.items():
            text = re.sub(rf"(?<![\w-]){re.escape(word)}(?![\w-])", self.resolve(name), text)
        return text

    def send(self, raw: bytes) -> str:
        """Send one message with python-hl7's client; return the answer."""
        with MLLPClient("127.0.0.1", self.department.broker.ports["HL7_PORT"]) as client:
            client.socket.settimeout(20)
            answer: bytes = client.send_message(raw)
        assert answer[:1] == b"\x0b", "the answer has no start block"
        assert answer[-2:] == b"\x1c\r", "the answer has no end block"
        self.last, self.answer = raw, answer[1:-2]
        return hl7text.decode(self.answer)

    def unread(self, sink: str, end: int | None = None) -> list[str]:
        """Return what a receiver got about this scenario and was not asked for yet."""
        names = [re.escape(name) for one in self.renamed.values() if (name := self.resolve(one))]
        mine = re.compile(rf"(?<![\w-])({'|'.join(names)})(?![\w-])")
        received = self.department.sinks[sink].received[self.taken[sink] : end]
        return [text for text in map(hl7text.decode, received) if mine.search(text)]


def differences(get: Get, wanted: Mapping[str, str]) -> list[str]:
    """Return what is not as wanted; `present` and `absent` stand for any text and for none."""
    return [f"{path} is {get(path)!r}, not {value!r}" for path, value in wanted.items() if not fits(get(path), value)]


def fits(found: str, wanted: Any) -> bool:
    """Return whether a text is what was wanted."""
    if isinstance(wanted, Mapping):
        return re.search(wanted["matches"], found) is not None
    return {"present": found != "", "absent": found == ""}.get(wanted, found == str(wanted))


def kind(wanted: str | Mapping[str, str]) -> Mapping[str, str]:
    """Return the fields that a message kind, "SIU^S12", stands for."""
    return dict(zip(("MSH-9.1", "MSH-9.2"), wanted.split("^"), strict=True)) if isinstance(wanted, str) else wanted


def same(found: Sequence[Get], wanted: Sequence[Mapping[str, str]], shown: object) -> None:
    """Compare one by one, in order."""
    assert len(found) == len(wanted), f"{len(found)} and not {len(wanted)}: {shown}"
    wrong = [differences(get, fields) for get, fields in zip(found, wanted, strict=True)]
    assert not any(wrong), f"{wrong} in {shown}"


# what hospitals do


def sends(play: Play, said: Said, value: Any) -> None:
    """Send a sample, with some of its fields changed, and look at the answer."""
    value = value if isinstance(value, dict) else {"answer": value}
    beside = play.folder / said["file"]
    file = beside if beside.is_file() else TOP / said["file"]
    play.sent += 1
    message = hl7text.put(play.rename(file.read_text()), "MSH-10", f"{play.name}-{play.sent}"[-20:])
    for path, text in play.resolved(value.get("with", {})).items():
        message = hl7text.put(message, path, text)
    answered(play, play.send(hl7text.encode(message)), value["answer"])


def sends_text(play: Play, said: Said, value: Any) -> None:
    """Send what need not be HL7."""
    answered(play, play.send(value["text"].encode()), value["answer"])


def repeats(play: Play, said: Said, value: Any) -> None:
    """Send the very same message once more: the answer is the stored one, byte for byte."""
    before = play.answer
    answered(play, play.send(play.last), value)
    assert play.answer == before, f"another answer than before: {play.answer!r}"


def answered(play: Play, answer: str, wanted: str | Mapping[str, str]) -> None:
    """Compare an answer: a code, or fields."""
    wrong = differences(partial(hl7text.get, answer), play.resolved({"MSA-1": wanted} if isinstance(wanted, str) else wanted))
    assert not wrong, f"{', '.join(wrong)} in {answer!r}"


# what modalities do


def echoes(play: Play, said: Said, value: str) -> None:
    """C-ECHO."""
    assert (answer := play.modality(said["modality"]).echo()) == value, answer


def asks_worklist(play: Play, said: Said, value: Any) -> None:
    """C-FIND; every entry must be one of those wanted, in any order. The first one wanted is chosen."""
    modality = play.modality(said["modality"])
    entries = modality.ask(play.resolved(value["for"]), value.get("charset", ""))
    shown = [f"{one.get('PatientID')} {one.get('AccessionNumber')}" for one in entries]
    assert len(entries) == len(value["finds"]), f"{len(entries)} entries: {shown}"
    chosen = []
    for wanted in value["finds"]:
        fields = play.resolved(wanted)
        fitting = [one for one in entries if one not in chosen and not differences(partial(texts, one), fields)]
        assert fitting, f"no entry with {fields}: {[differences(partial(texts, one), fields) for one in entries]}"
        chosen.append(fitting[0])
    if chosen:
        modality.entry = chosen[value.get("chooses", 1) - 1]


def stores(play: Play, said: Said, value: Any) -> None:
    """C-STORE new images of the chosen entry."""
    value = value if isinstance(value, dict) else {"answer": value}
    modality = play.modality(said["modality"])
    modality.make(int(said["count"]), play.resolved(value.get("with", {})))
    assert (answer := modality.store()) == value["answer"], answer


def stores_again(play: Play, said: Said, value: str) -> None:
    """C-STORE the last images once more."""
    assert (answer := play.modality(said["modality"]).store()) == value, answer


def starts(play: Play, said: Said, value: Any) -> None:
    """MPPS N-CREATE, in progress."""
    value = value if isinstance(value, dict) else {"answer": value}
    status(play.modality(said["modality"]).start(play.resolved(value.get("with", {}))), value["answer"])


def ends(play: Play, said: Said, value: Any) -> None:
    """MPPS N-SET, completed or discontinued."""
    value = value if isinstance(value, dict) else {"answer": value}
    how = {"completes": "COMPLETED", "discontinues": "DISCONTINUED"}[said["how"]]
    status(play.modality(said["modality"]).end(how, play.resolved(value.get("with", {}))), value["answer"])


def asks_for_commitment(play: Play, said: Said, value: Mapping[str, int]) -> None:
    """Storage commitment of the last images; the report comes over the same association."""
    report = play.modality(said["modality"]).commit()
    told = {"committed": len(report.get("ReferencedSOPSequence", [])), "failed": len(report.get("FailedSOPSequence", []))}
    assert {name: told[name] for name in value} == value, told


def status(answer: int, wanted: str) -> None:
    """Compare a DIMSE status: ok, or its number as 0x0112."""
    assert answer == (0 if wanted == "ok" else int(wanted, 16)), f"the status is {answer:#06x}"


# what the others got


def gets(play: Play, said: Said, value: list[Any]) -> None:
    """Look at all that a receiver got about this scenario since it was asked last: these messages, in this order."""
    sink = said["destination"]
    play.looked.add(sink)
    wanted = [play.resolved(kind(one)) for one in value]
    with suppress(AssertionError):  # what is missing is said below
        eventually(lambda: len(play.unread(sink)) >= len(wanted) and not play.department.waiting(sink), "all messages")
    end = len(play.department.sinks[sink].received)
    messages = play.unread(sink, end)
    play.taken[sink] = end
    same([partial(hl7text.get, message) for message in messages], wanted, messages)


def archive_has(play: Play, said: Said, value: Any) -> None:
    """Look at the images that the archive keeps of those stored in this scenario."""
    archive = play.department.archive
    assert archive is not None
    made = {uid for modality in play.modalities.values() for uid in modality.stored}

    def kept() -> list[Any]:
        return [one for one in archive.received if one.SOPInstanceUID in made]

    with suppress(AssertionError):
        eventually(lambda: len(kept()) >= value["images"] and not play.department.waiting("archive"), "all images")
    images, fields = kept(), play.resolved(value.get("each", {}))
    same([partial(texts, one) for one in images], [fields] * value["images"], [one.SOPInstanceUID for one in images])


def goes_down(play: Play, said: Said, value: None) -> None:
    """Close a receiver's port and connections."""
    play.department.receiver(said["destination"]).stop()


def comes_back(play: Play, said: Said, value: None) -> None:
    """Let a receiver listen again."""
    play.department.receiver(said["destination"]).start()


# what the broker shows


def exam_is(play: Play, said: Said, value: Mapping[str, Any]) -> None:
    """Look at an exam on the broker's overview."""
    accession = play.resolve(said["accession"])
    exams = [one for one in play.department.status()["recent"] if one["accession"] == accession]
    assert exams, f"no exam {accession}"
    same([lambda name: str(exams[0][name])], [{name: str(wanted) for name, wanted in value.items()}], exams)


def lists_unmatched(play: Play, said: Said, value: list[Mapping[str, str]]) -> None:
    """Look at what this scenario put on the reconciliation list and is still there, the oldest first."""
    entries = [one for one in reversed(play.department.status()["unmatched"]) if one["id"] not in play.listed]
    same([partial(_text_of, one) for one in entries], [play.resolved(one) for one in value], entries)


def person(play: Play, said: Said, value: str) -> None:
    """Say on the command line where the images of a study belong."""
    study, accession = play.resolve(said["study"]), play.resolve(said["accession"] or "")
    command = play.department.broker.command
    if said["how"] == "moves":
        done = command("images", "move", study, accession, "--why", "shown by a scenario")
    else:
        [entry] = [one["id"] for one in play.department.status()["unmatched"] if one["key"] == study]
        verb = {"links": ["link", str(entry), accession], "releases": ["release", str(entry)]}[said["how"]]
        done = command("unmatched", *verb, "--why", "shown by a scenario")
    assert (done.returncode == 0) is (value == "ok"), done.stdout + done.stderr


def keeps_parked(play: Play, said: Said, value: list[Mapping[str, str]]) -> None:
    """Look at the messages of this scenario that wait for a person, the oldest first."""
    messages = play.department.broker.json("/api/messages?state=parked")["messages"]
    messages = [one for one in reversed(messages) if one["id"] > play.before]
    same([partial(_text_of, one) for one in messages], [play.resolved(one) for one in value], messages)


def _text_of(row: Mapping[str, Any], name: str) -> str:
    return str(row[name])


def timeline_has(play: Play, said: Said, value: Any) -> None:
    """Look at what `broker trace` shows: how much, and that these come in this order among it, at rising times."""
    accession = play.resolve(said["accession"])
    trace = play.department.broker.json(f"/api/trace/{accession}")
    times = [entry["at"] for entry in trace["entries"]]
    shown = [f"{entry['what']} {entry['kind']}" for entry in trace["entries"]]
    assert times == sorted(times), "not in the order of time"
    assert len(shown) >= value.get("at least", 1), f"{len(shown)} entries: {shown}"
    rest = iter(shown)
    missing = [wanted for wanted in value.get("in order", []) if wanted not in rest]
    assert not missing, f"{missing[0]} is not there, or not in this place: {shown}"


def answers_with(play: Play, said: Said, value: str) -> None:
    """Let a receiver answer with another code, or status, from now on."""
    receiver = play.department.receiver(said["destination"])
    if isinstance(receiver, Sink):
        receiver.code = value
    else:
        assert isinstance(receiver, Archive), "this archive answers as it does"
        receiver.status = 0 if value == "ok" else int(value, 16)


def queue_has(play: Play, said: Said, value: Mapping[str, int]) -> None:
    """Look at what waits for a receiver, once it is so."""

    def shown() -> dict[str, int]:
        one = next(one for one in play.department.status()["destinations"] if one["name"] == said["destination"])
        return {name: one[name] for name in value}

    with suppress(AssertionError):
        eventually(lambda: shown() == value, "the queue is so", seconds=10)
    assert shown() == value, shown()


def counts(play: Play, said: Said, value: Mapping[str, float]) -> None:
    """Look at the metrics, as Prometheus scrapes them."""
    lines = play.department.broker.get("/metrics").decode().splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    wrong = {name: found.get(name) for name, wanted in value.items() if float(found.get(name, 0)) != wanted}
    assert not wrong, wrong


VERBS: Mapping[str, Callable[[Play, Said, Any], None]] = {
    "sends": sends,
    "sends text": sends_text,
    "repeats": repeats,
    "echoes": echoes,
    "asks worklist": asks_worklist,
    "stores": stores,
    "stores again": stores_again,
    "starts": starts,
    "ends": ends,
    "asks for commitment": asks_for_commitment,
    "gets": gets,
    "has": archive_has,
    "answers": answers_with,
    "goes down": goes_down,
    "comes back": comes_back,
    "queue": queue_has,
    "exam is": exam_is,
    "lists unmatched": lists_unmatched,
    "keeps parked": keeps_parked,
    "person": person,
    "counts": counts,
    "timeline has": timeline_has,
}
assert VERBS.keys() == {one.name for one in SENTENCES if not one.clocked}
