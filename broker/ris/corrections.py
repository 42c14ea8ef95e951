"""What a person says about images that named no known exam, or the wrong one; each can be undone while nothing was said after it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from broker.errors import MessageError
from broker.ris import completeness, doses, images, patients, performed, unmatched
from broker.ris.context import RisContext
from broker.ris.entities import Correction, Exam, Instance, Performed, Unmatched
from broker.ris.events import Event
from broker.ris.records import Records

HELD = "no exam is known for this study"  # why an image waits whose tie was undone


@dataclass(frozen=True, slots=True)
class Said:
    """Who says it, and why; free of patient data."""

    author: str
    why: str


@dataclass(frozen=True, slots=True)
class Sent:
    """Which images somebody has, by the ids of their records: they go out again under new UIDs, made from the key."""

    images: Collection[int] = ()
    key: str = ""


NOBODY = Sent()


@dataclass(frozen=True, slots=True)
class Done:
    """What became of it: the correction as it is kept, what is told, and the messages whose routes run once more."""

    correction: Correction
    events: tuple[Event, ...] = ()
    again: tuple[int, ...] = ()


def entry_of(records: Records, id: int) -> Unmatched:
    """Return an entry of the reconciliation list that is still open; raises LookupError, MessageError when it is closed."""
    entry = records.get(Unmatched, id)
    if entry.resolved_at is not None:
        raise MessageError("", f"entry {id} is closed already")
    return entry


def exam_of(records: Records, accession: str) -> Exam:
    """Return the exam with this accession number; raises MessageError."""
    exam = records.one(Exam, accession=accession) if accession else None
    if exam is None:
        raise MessageError("", "no exam has this accession number")
    return exam


def link(records: Records, entry: Unmatched, exam: Exam, said: Said, context: RisContext, sent: Sent = NOBODY) -> Done:
    """Tie what an entry stands for to an exam, whatever it said of itself; raises MessageError when it cannot be."""
    before = (entry.accession, entry.patient_id, entry.issuer)
    if entry.kind == "performed":
        step = records.one(Performed, uid=entry.key)
        if step is None:
            raise MessageError("", "the performed procedure step is gone")
        events = [unmatched.close(records, entry, exam, context), *performed.link(records, step, exam, context)]
        return Done(_kept(records, "linked", said, context, entry=entry, exam=exam, before=before), tuple(events))
    if entry.kind != "images":
        raise MessageError("", f"{entry.kind}: an entry of this kind is closed by its own messages only")
    waiting = unmatched.waiting(records, entry)
    events = [unmatched.close(records, entry, exam, context), *_shift(records, waiting, exam, sent, context)]
    made = _kept(records, "linked", said, context, entry=entry, exam=exam, instances=waiting, before=before)
    return Done(made, tuple(events), tuple(one.message_id for one in waiting))


def correct(
    records: Records,
    entry: Unmatched,
    accession: str,
    patient: tuple[str, str] | None,
    said: Said,
    context: RisContext,
    sent: Sent = NOBODY,
) -> Done:
    """Say which accession number or patient images really have; then they go to the exam that this names, or wait for it.

    patient: identifier and its issuer. Raises MessageError when the corrected patient is not the exam's, or fits several exams.
    """
    if entry.kind != "images":
        raise MessageError("", f"{entry.kind}: only what images say can be corrected")
    before = (entry.accession, entry.patient_id, entry.issuer)
    value, issuer = patient or (entry.patient_id, entry.issuer)
    first = next(iter(unmatched.waiting(records, entry)), Instance())
    corrected = replace(
        entry,
        accession=accession or entry.accession,
        patient_id=value,
        issuer=issuer,
        corrected=1,
        modality=entry.modality or first.modality,
        window=entry.window or (images.WINDOW if patient else 0),
    )
    records.update(corrected)
    exam = images.named(records, first.study_uid, corrected.accession, "", context)
    if exam is not None:
        whose = (value, issuer) if patient else (first.sent_patient_id, first.sent_issuer)
        if patients.differs(records, exam, *whose, context):
            raise MessageError("", "the exam belongs to another patient")
    elif patient:
        fitting = images.of_patient(records, corrected, context)
        if len(fitting) > 1:
            raise MessageError("", "several exams of the patient fit; name the accession number")
        exam = fitting[0] if fitting else None
    if exam is None:
        return Done(_kept(records, "corrected", said, context, entry=entry, before=before))
    done = link(records, corrected, exam, said, context, sent)
    return replace(done, correction=_again(records, replace(done.correction, what="corrected", before=before)))


def waiting(records: Records, id: int) -> list[Instance]:
    """Return the images of an open entry; raises as `entry_of` does."""
    entry = entry_of(records, id)
    return unmatched.waiting(records, entry) if entry.kind == "images" else []


def release(records: Records, entry: Unmatched, said: Said, context: RisContext) -> Done:
    """Let images go on as they are, and those of their study that are still to come; raises MessageError for other things."""
    if entry.kind != "images":
        raise MessageError("", f"{entry.kind}: only images can be sent on as they are")
    waiting = unmatched.waiting(records, entry)
    for instance in waiting:
        records.update(replace(instance, released=1))
    records.update(replace(entry, resolved_at=context.at))
    told = Event("unmatched.resolved", accession=entry.accession, reason="images: released")
    made = _kept(records, "released", said, context, entry=entry, instances=waiting, before=(entry.accession, "", ""))
    return Done(made, (told,), tuple(one.message_id for one in waiting))


def chosen(records: Records, study_uid: str, series_uid: str = "") -> list[Instance]:
    """Return the images of a study, or of one of its series, that belong to an exam; raises MessageError when there are none."""
    found = [one for one in records.find(Instance, study_uid=study_uid) if one.exam_id is not None]
    found = [one for one in found if one.series_uid == series_uid] if series_uid else found
    if not found:
        raise MessageError("", "no images of this study belong to an exam")
    if len({one.exam_id for one in found}) > 1:
        raise MessageError("", "the images of this study belong to several exams; name the series")
    return found


def move(records: Records, instances: Sequence[Instance], exam: Exam, said: Said, context: RisContext, sent: Sent = NOBODY) -> Done:
    """Tie images to another exam.

    Raises MessageError when they are there already.
    """
    origin = instances[0].exam_id
    if origin == exam.id:
        raise MessageError("", "the images belong to this exam already")
    events = _shift(records, instances, exam, sent, context)
    made = _kept(records, "moved", said, context, exam=exam, origin=origin, instances=instances, study=instances[0].study_uid)
    return Done(made, tuple(events), tuple(one.message_id for one in instances))


def latest(records: Records, *, entry_id: int | None = None, study_uid: str = "") -> Correction:
    """Return the last correction of an entry, or of a study, that holds; raises LookupError when there is none."""
    match: dict[str, object] = {"entry_id": entry_id} if entry_id is not None else {"study_uid": study_uid}
    found = records.find(Correction, undone_at=None, **match)
    if not found:
        raise LookupError("correction")
    return found[-1]


def affected(records: Records, correction: Correction) -> list[Instance]:
    """Return the images that undoing a correction would take back; raises MessageError when something was said after it."""
    if correction.study_uid and latest(records, study_uid=correction.study_uid).id != correction.id:
        raise MessageError("", "something else was said of these images since; undo that first")
    found = [records.get(Instance, int(id)) for id in correction.instances]
    if any(one.exam_id != correction.exam_id for one in found):
        raise MessageError("", "the images belong to another exam by now")
    if correction.entry_id is not None and not correction.instances and correction.exam_id is not None:
        raise MessageError("", "a performed procedure step cannot be taken back from its exam")
    return found


def undo(records: Records, correction: Correction, context: RisContext, sent: Sent = NOBODY) -> Done:
    """Take a correction back: images return to where they were."""
    instances = affected(records, correction)
    home = records.get(Exam, correction.from_exam_id) if correction.from_exam_id is not None else None
    events = _shift(records, instances, home, sent, context)
    if correction.entry_id is not None:
        entry = records.get(Unmatched, correction.entry_id)
        accession, patient_id, issuer = correction.before
        corrected = 0 if correction.what == "corrected" else entry.corrected
        records.update(
            replace(entry, resolved_at=None, exam_id=None, accession=accession, patient_id=patient_id, issuer=issuer, corrected=corrected)
        )
        events.append(Event("unmatched.listed", accession=accession, reason=f"{entry.kind}: {entry.reason}"))
    undone = _again(records, replace(correction, undone_at=context.at))
    return Done(undone, tuple(events), tuple(one.message_id for one in instances))


def _shift(records: Records, instances: Sequence[Instance], home: Exam | None, sent: Sent, context: RisContext) -> list[Event]:
    origins = [one.exam_id for one in instances if one.exam_id is not None]
    for one in instances:
        reissue = sent.key if one.id in sent.images else one.reissue
        records.update(replace(one, exam_id=home.id if home else None, released=0, reissue=reissue))
    events = []
    for origin in dict.fromkeys(origins):
        exam = records.get(Exam, origin)
        images.count(records, exam, -origins.count(origin))
        events.append(_moved(exam))
    if home is None:
        return events
    events += images.count(records, home, len(instances)) + doses.follow(records, instances, home)
    return events + completeness.stored(records, records.get(Exam, home.id), context)


def _moved(exam: Exam) -> Event:
    return Event("study.moved", exam.patient_id, exam.order_id, exam.id, accession=exam.accession, reason="images moved to another exam")


def _kept(
    records: Records,
    what: str,
    said: Said,
    context: RisContext,
    *,
    entry: Unmatched | None = None,
    exam: Exam | None = None,
    origin: int | None = None,
    instances: Sequence[Instance] = (),
    study: str = "",
    before: tuple[str, ...] = (),
) -> Correction:
    return records.add(
        Correction(
            what=what,
            entry_id=entry.id if entry else None,
            study_uid=study or (entry.key if entry else ""),
            exam_id=exam.id if exam else None,
            from_exam_id=origin,
            instances=tuple(str(one.id) for one in instances),
            before=before,
            author=said.author,
            why=said.why,
            at=context.at,
        )
    )


def _again(records: Records, correction: Correction) -> Correction:
    records.update(correction)
    return correction


def identifier(text: str) -> tuple[str, str]:
    """Return value and issuer of a patient identifier that a person wrote as 4711 or 4711^GENHOSP."""
    value, _, issuer = text.partition("^")
    return value.strip(), issuer.strip("^ ")
