"""Plays a scenario: one function for each verb, found in a table by the sentence that a step's key is.

What a scenario may say is in `scenario.schema.json`. A value in braces is looked up: `{CT1.AccessionNumber}` is an attribute of the
worklist entry that CT1 has chosen. `renamed` gives the words of the sample messages the names that this scenario uses; they also
tell whose messages the receivers got. Each message sent gets a control id of its own, unless the scenario sets MSH-10.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from hl7.client import MLLPClient

from tests.peers import TOP, eventually
from tests.scenarios import hl7text
from tests.scenarios.department import Department
from tests.scenarios.modality import Modality, texts

HERE = TOP / "tests" / "scenarios"
Get = Callable[[str], str]
Said = re.Match[str]


class Play:
    """One scenario under way."""

    def __init__(self, department: Department, name: str, scenario: Mapping[str, Any]) -> None:
        self.department, self.name, self.scenario = department, name, scenario
        self.renamed: Mapping[str, str] = scenario.get("renamed", {})
        self.modalities: dict[str, Modality] = {}
        self.taken = {sink: len(department.sinks[sink].received) for sink in department.sinks}
        self.looked: set[str] = set()  # receivers that the scenario has asked
        self.last, self.answer = b"", b""
        self.sent = 0
        department.use_archive(scenario.get("archive", "pynetdicom"))
        self.listed = {one["id"] for one in department.status()["unmatched"]}
        self.before = max((one["id"] for one in department.broker.json("/api/messages?limit=1")["messages"]), default=0)

    def run(self) -> None:
        """Play all steps; raises AssertionError naming the one that failed."""
        for number, step in enumerate(self.scenario["steps"], 1):
            ((sentence, value),) = step.items()
            verb, said = understand(sentence)
            try:
                verb(self, said, value)
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

    def resolve(self, value: str) -> str:
        """Return the text with what stands in braces looked up."""
        return re.sub(r"\{(\w+)\.([\w.]+)\}", lambda found: texts(self.modality(found[1]).entry, found[2]), value)

    def resolved(self, fields: Mapping[str, str]) -> dict[str, str]:
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


def fits(found: str, wanted: str) -> bool:
    """Return whether a text is what was wanted."""
    return {"present": found != "", "absent": found == ""}.get(wanted, found == wanted)


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
    file = TOP / said[1] if said[1].startswith("samples/") else HERE / said[1]
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
    assert (answer := play.modality(said[1]).echo()) == value, answer


def asks_worklist(play: Play, said: Said, value: Any) -> None:
    """C-FIND; every entry must be one of those wanted, in any order. The first one wanted is chosen."""
    modality = play.modality(said[1])
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
    modality = play.modality(said[1])
    modality.make(int(said[2]), play.resolved(value.get("with", {})))
    assert (answer := modality.store()) == value["answer"], answer


def stores_again(play: Play, said: Said, value: str) -> None:
    """C-STORE the last images once more."""
    assert (answer := play.modality(said[1]).store()) == value, answer


def starts(play: Play, said: Said, value: Any) -> None:
    """MPPS N-CREATE, in progress."""
    value = value if isinstance(value, dict) else {"answer": value}
    status(play.modality(said[1]).start(play.resolved(value.get("with", {}))), value["answer"])


def ends(play: Play, said: Said, value: str) -> None:
    """MPPS N-SET, completed or discontinued."""
    status(play.modality(said[1]).end({"completes": "COMPLETED", "discontinues": "DISCONTINUED"}[said[2]]), value)


def status(answer: int, wanted: str) -> None:
    """Compare a DIMSE status: ok, or its number as 0x0112."""
    assert answer == (0 if wanted == "ok" else int(wanted, 16)), f"the status is {answer:#06x}"


# what the others got


def gets(play: Play, said: Said, value: list[Any]) -> None:
    """Look at all that a receiver got about this scenario since it was asked last: these messages, in this order."""
    sink = said[1]
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
    play.department.receiver(said[1]).stop()


def comes_back(play: Play, said: Said, value: None) -> None:
    """Let a receiver listen again."""
    play.department.receiver(said[1]).start()


# what the broker shows


def exam_is(play: Play, said: Said, value: Mapping[str, Any]) -> None:
    """Look at an exam on the broker's overview."""
    accession = play.resolve(said[1])
    exams = [one for one in play.department.status()["recent"] if one["accession"] == accession]
    assert exams, f"no exam {accession}"
    same([lambda name: str(exams[0][name])], [{name: str(wanted) for name, wanted in value.items()}], exams)


def lists_unmatched(play: Play, said: Said, value: list[Mapping[str, str]]) -> None:
    """Look at what this scenario put on the reconciliation list and is still there, the oldest first."""
    entries = [one for one in reversed(play.department.status()["unmatched"]) if one["id"] not in play.listed]
    same([partial(_text_of, one) for one in entries], [play.resolved(one) for one in value], entries)


def keeps_parked(play: Play, said: Said, value: list[Mapping[str, str]]) -> None:
    """Look at the messages of this scenario that wait for a person, the oldest first."""
    messages = play.department.broker.json("/api/messages?state=parked")["messages"]
    messages = [one for one in reversed(messages) if one["id"] > play.before]
    same([partial(_text_of, one) for one in messages], [play.resolved(one) for one in value], messages)


def _text_of(row: Mapping[str, Any], name: str) -> str:
    return str(row[name])


def timeline_has(play: Play, said: Said, value: Any) -> None:
    """Look at what `broker trace` shows: how much, and that these come in this order among it, at rising times."""
    accession = play.resolve(said[1])
    trace = play.department.broker.json(f"/api/trace/{accession}")
    times = [entry["at"] for entry in trace["entries"]]
    shown = [f"{entry['what']} {entry['kind']}" for entry in trace["entries"]]
    assert times == sorted(times), "not in the order of time"
    assert len(shown) >= value.get("at least", 1), f"{len(shown)} entries: {shown}"
    rest = iter(shown)
    missing = [wanted for wanted in value.get("in order", []) if wanted not in rest]
    assert not missing, f"{missing[0]} is not there, or not in this place: {shown}"


def simulator_plays(play: Play, said: Said, value: str) -> None:
    """Let the simulator play a morning against a broker of its own; ok when its peers and the broker have counted the same."""
    done = play.department.broker.command("simulate", "--start", "--exams", said[1])
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "peers and broker counted the same" in done.stdout
    assert "DIFFERENT" not in done.stdout


VERBS: Mapping[str, Callable[[Play, Said, Any], None]] = {
    r"^hospital sends ((?:samples|messages)/\w+\.hl7)$": sends,
    r"^hospital sends text$": sends_text,
    r"^hospital repeats the last message$": repeats,
    r"^([A-Z]+\d) echoes$": echoes,
    r"^([A-Z]+\d) asks worklist$": asks_worklist,
    r"^([A-Z]+\d) stores (\d+) images?$": stores,
    r"^([A-Z]+\d) stores the same images again$": stores_again,
    r"^([A-Z]+\d) starts$": starts,
    r"^([A-Z]+\d) (completes|discontinues)$": ends,
    r"^(ehr|archive_hl7|billing) gets$": gets,
    r"^(ehr|archive_hl7|billing|archive) goes down$": goes_down,
    r"^(ehr|archive_hl7|billing|archive) comes back$": comes_back,
    r"^archive has$": archive_has,
    r"^exam (\S+) is$": exam_is,
    r"^broker lists unmatched$": lists_unmatched,
    r"^broker keeps parked$": keeps_parked,
    r"^timeline of (\S+) has$": timeline_has,
    r"^simulator plays (\d+) exams$": simulator_plays,
}


def understand(sentence: str) -> tuple[Callable[[Play, Said, Any], None], Said]:
    """Return the verb of a sentence and what it says."""
    for pattern, verb in VERBS.items():
        if said := re.fullmatch(pattern, sentence):
            return verb, said
    pytest.fail(f"no verb for {sentence!r}")
