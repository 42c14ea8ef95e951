"""What the sentences of a scenario do in process: one function for each, found in a table by the sentence's name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from twisted.internet.defer import Deferred

from broker.engine.rehearsal import normal_ends, write
from broker.engine.status import messages, trace
from broker.errors import MessageError
from broker.hl7.message import Message
from broker.obs.status import MessageFilter
from broker.pipeline.expect import differs, text_of
from broker.pipeline.scenario import Step
from broker.ris.entities import Exam, Unmatched
from broker.simulate.play import Failed, Play
from broker.simulate.station import SUCCESS, text
from broker.spec import seconds
from broker.store import outbox
from broker.store.database import Transaction
from broker.store.records import RecordStore

LONGEST = 600.0  # seconds of the scenario's clock in which what is expected must have come
_MOST = 1000  # entries of a list
_WHY = "shown by a scenario"

Get = Callable[[str], str]


# what hospitals do


def _sends(play: Play, step: Step) -> None:
    value = step.value if isinstance(step.value, Mapping) else {"answer": step.value}
    raw = normal_ends(play.file(step.said["file"]).read_bytes())
    play.sent += 1
    message = Message.parse(play.renamed(raw.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape"))
    message.set("MSH-10", f"{Path(play.scenario.file).stem or 'S'}-{play.sent}"[-20:])
    changes = play.resolved(value.get("with", {}))
    for path in sorted(changes, key=lambda path: path != "MSH-18"):  # the character set first, so that it can hold the others
        write(message, path, text_of(changes[path]))
    play.say(step.said["listener"], message.encode())
    _answered(play, value["answer"])


def _sends_text(play: Play, step: Step) -> None:
    play.say(step.said["listener"], step.value["text"].encode())
    _answered(play, step.value["answer"])


def _repeats(play: Play, step: Step) -> None:
    before = play.answer
    play.say(step.said["listener"], play.last)
    _answered(play, step.value)
    if play.answer != before:
        raise Failed("another answer than before")


def _answered(play: Play, wanted: Any) -> None:
    if not play.answer:
        raise Failed("no answer came")
    fields = play.resolved(wanted if isinstance(wanted, Mapping) else {"MSA-1": wanted})
    answer = Message.parse(play.answer)
    wrong = _wrong(answer.raw, fields)
    if wrong:
        raise Failed(*wrong, *([f"ERR-8: {answer.get('ERR-8')}"] if answer.get("ERR-8") and "ERR-8" not in fields else []))


# what modalities do


def _echoes(play: Play, step: Step) -> None:
    _status([play.station(step.said["modality"]).echo()], step.value)


def _asks_worklist(play: Play, step: Step) -> None:
    station, value = play.station(step.said["modality"]), step.value
    entries = station.ask({key: text_of(text) for key, text in play.resolved(value["for"]).items()}, value.get("charset", ""))
    if len(entries) != len(value["finds"]):
        found = ", ".join(text(one, "AccessionNumber") for one in entries)
        raise Failed(f"expected {len(value['finds'])} entries, were {len(entries)}" + (f" ({found})" if found else ""))
    chosen: list[Dataset] = []
    for fields in map(play.resolved, value["finds"]):
        wrongs = [(one, _wrong(_reader(one), fields)) for one in entries if not any(one is other for other in chosen)]
        fitting = next((one for one, wrong in wrongs if not wrong), None)
        if fitting is None:
            raise Failed(*(line for _, wrong in wrongs[:3] for line in wrong))
        chosen.append(fitting)
    if chosen:
        station.entry = chosen[value.get("chooses", 1) - 1]


def _stores(play: Play, step: Step) -> None:
    value = step.value if isinstance(step.value, Mapping) else {"answer": step.value}
    station = play.station(step.said["modality"])
    station.make(int(step.said["count"]), _texts(play.resolved(value.get("with", {}))))
    _status(station.store(), value["answer"])


def _stores_again(play: Play, step: Step) -> None:
    _status(play.station(step.said["modality"]).store(), step.value)


def _starts(play: Play, step: Step) -> None:
    value = step.value if isinstance(step.value, Mapping) else {"answer": step.value}
    _status([play.station(step.said["modality"]).start(_texts(play.resolved(value.get("with", {}))))], value["answer"])


def _ends(play: Play, step: Step) -> None:
    value = step.value if isinstance(step.value, Mapping) else {"answer": step.value}
    status = {"completes": "COMPLETED", "discontinues": "DISCONTINUED"}[step.said["how"]]
    _status([play.station(step.said["modality"]).end(status, _texts(play.resolved(value.get("with", {}))))], value["answer"])


def _asks_for_commitment(play: Play, step: Step) -> None:
    status, transaction = play.station(step.said["modality"]).commit()
    _status([status], "ok")
    play.stage.pass_until(lambda: transaction in play.reports(), LONGEST)
    report = play.reports().get(transaction)
    if report is None:
        raise Failed("no report came")
    said = {"committed": len(report.committed), "failed": len(report.failed)}
    if wrong := [line for name, wanted in step.value.items() for line in differs(name, wanted, str(said[name]))]:
        raise Failed(*wrong)


def _status(statuses: Sequence[int], wanted: str) -> None:
    expected = SUCCESS if wanted == "ok" else int(wanted, 16)
    wrong = [f"0x{status:04X}" for status in statuses if status != expected]
    if wrong:
        raise Failed(f"expected {wanted}, was {', '.join(wrong)}")


# what the others got


def _gets(play: Play, step: Step) -> None:
    name = step.said["destination"]
    sink, start = play.sinks[name], play.taken.get(name, 0)
    play.stage.pass_until(lambda: len(sink.received) - start >= len(step.value), LONGEST)
    got = sink.received[start:]
    play.taken[name] = len(sink.received)
    wanted = [play.resolved(_fields_of_kind(one) if isinstance(one, str) else one) for one in step.value]
    if len(got) != len(wanted):
        raise Failed(f"expected {len(wanted) or 'nothing'}, was {', '.join(map(kind_of, got)) or 'nothing'}")
    _same([Message.parse(raw).raw for raw in got], wanted, [kind_of(raw) for raw in got])


def _has(play: Play, step: Step) -> None:
    images = play.sinks[step.said["destination"]].images
    play.stage.pass_until(lambda: len(images) >= step.value["images"], LONGEST)
    if len(images) != step.value["images"]:
        raise Failed(f"expected {step.value['images']} images, were {len(images)}")
    fields = play.resolved(step.value.get("each", {}))
    _same([_reader(image) for image in images], [fields] * len(images), [f"image {number}" for number in range(1, len(images) + 1)])


def _answers(play: Play, step: Step) -> None:
    play.sinks[step.said["destination"]].answer = "0x0000" if step.value == "ok" else step.value


def _goes_down(play: Play, step: Step) -> None:
    play.sinks[step.said["destination"]].up = False


def _comes_back(play: Play, step: Step) -> None:
    play.sinks[step.said["destination"]].up = True


def _clock_advances(play: Play, step: Step) -> None:
    clock = play.stage.clock
    end = clock.seconds() + seconds(step.value)
    play.stage.pass_until(lambda: False, seconds(step.value))
    clock.advance(max(0.0, end - clock.seconds()))


# what the broker shows


def _queue_has(play: Play, step: Step) -> None:
    found = play.read(_queue, step.said["destination"])
    wrong = [line for name, wanted in step.value.items() for line in differs(name, wanted, str(found[name]))]
    if wrong:
        raise Failed(*wrong)


def _queue(tx: Transaction, destination: str) -> dict[str, int]:
    waiting, _ = outbox.depths(tx).get(destination, (0, 0.0))
    return {"waiting": waiting, "parked": sum(row.destination == destination for row in outbox.parked(tx, _MOST))}


def _exam_is(play: Play, step: Step) -> None:
    accession = play.resolve(step.said["accession"])
    exams = play.read(_exams, accession)
    if not exams:
        raise Failed("there is no such exam")
    _same([_getter(exams[0])], [play.resolved(step.value)], [accession])


def _exams(tx: Transaction, accession: str) -> list[Exam]:
    return RecordStore(tx).find(Exam, accession=accession)


def _lists_unmatched(play: Play, step: Step) -> None:
    _rows(play, play.read(_open), step.value)


def _open(tx: Transaction) -> list[Unmatched]:
    return RecordStore(tx).find(Unmatched, resolved_at=None)


def _person(play: Play, step: Step) -> None:
    study, accession = play.resolve(step.said["study"]), play.resolve(step.said["accession"] or "")
    desk, entry = play.stage.corrections(), next((one.id for one in play.read(_open) if one.key == study), 0)
    try:
        if step.said["how"] == "links":
            doing = desk.link(entry, accession, "person", _WHY)
        elif step.said["how"] == "moves":
            doing = desk.move(study, "", accession, "worklist", "person", _WHY)
        else:
            doing = desk.release(entry, "person", _WHY)
        play.stage.wait(Deferred.fromCoroutine(doing))
        play.stage.settle()
        said = "ok"
    except (LookupError, MessageError) as error:
        said = f"refused: {error}"
    if said.partition(":")[0] != step.value:
        raise Failed(f"expected {step.value}, was {said}")


def _keeps_parked(play: Play, step: Step) -> None:
    _rows(play, reversed(play.read(messages, MessageFilter(state="parked", limit=_MOST))), step.value)


def _rows(play: Play, found: Iterable[Any], wanted: Sequence[Mapping[str, Any]]) -> None:
    rows = list(found)
    if len(rows) != len(wanted):
        raise Failed(f"expected {len(wanted) or 'nothing'}, was {', '.join(f'{row.kind} ({row.reason})' for row in rows) or 'nothing'}")
    _same([_getter(row) for row in rows], [play.resolved(one) for one in wanted], [row.kind for row in rows])


def _counts(play: Play, step: Step) -> None:
    wrong = []
    for name, wanted in step.value.items():
        wrong += differs(name, f"{wanted:g}", f"{play.count(*sample(name)):g}")
    if wrong:
        raise Failed(*wrong)


def sample(name: str) -> tuple[str, dict[str, str]]:
    """Return the name and the labels of a sample written as Prometheus does: `name{label="value"}`."""
    plain, _, rest = name.partition("{")
    return plain, dict(re.findall(r'(\w+)="([^"]*)"', rest))


def _timeline_has(play: Play, step: Step) -> None:
    found = play.read(trace, play.resolve(step.said["accession"]))
    shown = [f"{entry.what} {entry.kind}" for entry in found.entries]
    least = step.value.get("at least", 1)
    if len(shown) < least:
        raise Failed(f"expected at least {least} entries, were {len(shown)}")
    rest = iter(shown)
    missing = next((wanted for wanted in step.value.get("in order", []) if wanted not in rest), None)
    if missing:
        raise Failed(f"{missing} is not there, or not in this place: {', '.join(shown)}")


# what is compared


def _fields_of_kind(kind: str) -> dict[str, str]:
    return dict(zip(("MSH-9.1", "MSH-9.2"), kind.split("^"), strict=True))


def kind_of(raw: bytes) -> str:
    """Return what a message is called, such as ORM^O01."""
    return Message.parse(raw).type


def _texts(fields: Mapping[str, Any]) -> dict[str, str]:
    return {path: text_of(value) for path, value in fields.items()}


def _reader(dataset: Dataset) -> Get:
    return lambda path: text(dataset, path)


def _getter(row: Any) -> Get:
    return lambda name: text_of(getattr(row, name, None))


def _wrong(get: Get, wanted: Mapping[str, Any]) -> list[str]:
    return [line for path, value in wanted.items() for line in differs(path, value, get(path))]


def _same(found: Sequence[Get], wanted: Sequence[Mapping[str, Any]], shown: Sequence[str]) -> None:
    pairs = zip(found, wanted, shown, strict=True)
    if wrong := [f"{what}: {line}" for get, fields, what in pairs for line in _wrong(get, fields)]:
        raise Failed(*wrong)


VERBS: Mapping[str, Callable[[Play, Step], None]] = {
    "sends": _sends,
    "sends text": _sends_text,
    "repeats": _repeats,
    "echoes": _echoes,
    "asks worklist": _asks_worklist,
    "stores": _stores,
    "stores again": _stores_again,
    "starts": _starts,
    "ends": _ends,
    "asks for commitment": _asks_for_commitment,
    "gets": _gets,
    "has": _has,
    "answers": _answers,
    "goes down": _goes_down,
    "comes back": _comes_back,
    "queue": _queue_has,
    "exam is": _exam_is,
    "lists unmatched": _lists_unmatched,
    "keeps parked": _keeps_parked,
    "person": _person,
    "counts": _counts,
    "timeline has": _timeline_has,
    "clock": _clock_advances,
}
