"""Whether an exam's images are all here: by evidence, kept with its reason, and undone when more of them come.

DICOM has no message that ends a study. What there is, the strongest first: a performed procedure step names its series and
their instances, a storage commitment request names the instances the modality has sent, the sender can be asked how many it
has, it closes its association, and at last nothing more comes for a while.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from broker.ris import exams
from broker.ris.context import Completion, RisContext
from broker.ris.entities import Completeness, Evidence, Exam, Instance, PerformedSeries
from broker.ris.events import CountImages, Deliver, EndSending, Event, LookForImages
from broker.ris.records import Records
from broker.ris.states import IMAGES, NEW, next_state

COUNTED = ("performed", "commitment", "query")  # evidence that names or counts instances
BY = (*COUNTED, "closed", "quiet")

OPEN, COMPLETE, INCOMPLETE = "open", "complete", "incomplete"

DELIVERY = 30.0  # seconds between two looks at deliveries

# what the counted evidence says, and what was waited for -> verdict
VERDICTS: Mapping[tuple[str, str], str] = {
    ("nothing", ""): OPEN,
    ("nothing", "closed"): COMPLETE,
    ("nothing", "quiet"): COMPLETE,
    ("met", ""): COMPLETE,
    ("met", "closed"): COMPLETE,
    ("met", "quiet"): COMPLETE,
    ("short", ""): OPEN,
    ("short", "closed"): OPEN,  # many modalities use one association for each series
    ("short", "quiet"): INCOMPLETE,
}
_BY_VERDICT = {COMPLETE: "complete", INCOMPLETE: "fall_short"}  # verdict -> event of the images
_TOLD = {COMPLETE: "study.complete", INCOMPLETE: "study.incomplete"}


@dataclass(frozen=True, slots=True)
class Count:
    """How many instances one source of evidence names, and how many of them are here."""

    source: str
    named: int
    here: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of an exam's images at one moment."""

    counts: tuple[Count, ...] = ()
    performing: bool = False  # a performed procedure step is in progress
    silent: float = 0.0  # seconds since the last image
    closed: bool = False  # the sender has closed its association since then


def verdict(facts: Facts, rules: Completion) -> tuple[str, str]:
    """Return the verdict and its reason. While a step is performed only a long silence counts."""
    patience = rules.performing if facts.performing else rules.quiet
    quiet = "quiet" in rules.by and facts.silent >= patience
    counts = [count for count in facts.counts if count.source in rules.by]
    short = next((count for count in counts if count.here < count.named), None)
    counted = "short" if short else "met" if counts else "nothing"
    waited = "quiet" if quiet else "closed" if facts.closed and "closed" in rules.by else ""
    if facts.performing and not quiet:
        return OPEN, ""
    state = VERDICTS[counted, waited]
    return state, _reason(state, short or (counts[0] if counts else None), waited, patience)


def _reason(state: str, count: Count | None, waited: str, patience: float) -> str:
    if state == OPEN:
        return ""
    if count is not None:
        return f"{count.source}: {count.here} of {count.named} images"
    return "closed: the sender has ended its association" if waited == "closed" else f"quiet: nothing for {patience:g} s"


# what happens


def stored(records: Records, exam: Exam, context: RisContext) -> list[Event]:
    """Images have come for the exam, whose count is up to date: what was complete is so no more, or is so now."""
    before = records.one(Completeness, exam_id=exam.id)
    due = context.at + context.completion.quiet
    if before is None:
        records.add(Completeness(exam_id=exam.id, state=next_state(IMAGES, NEW, "store"), heard_at=context.at, due_at=due))
        return []
    more = [] if before.state == OPEN else [_event("study.more", exam, "further images")]
    state = next_state(IMAGES, before.state, "store")
    after = replace(before, state=state, reason="", heard_at=context.at, closed_at=0.0, due_at=due, delivered=())
    records.update(after)
    enough = before.images < before.named <= exam.images  # after a verdict on as many, what is still to come is waited for
    return more + (look(records, exam, context) if enough else [])


def look(records: Records, exam: Exam, context: RisContext) -> list[Event]:
    """Weigh what is known of the exam's images; tell a verdict that is new."""
    before = records.one(Completeness, exam_id=exam.id)
    if before is None or before.state == COMPLETE:
        return []
    facts = known(records, exam, before, context)
    state, reason = verdict(facts, context.completion)
    patience = context.completion.performing if facts.performing else context.completion.quiet
    if state == OPEN and before.state != OPEN:  # what fell short does so until more comes
        return []
    if state != OPEN:
        state = next_state(IMAGES, before.state, _BY_VERDICT[state])
    named = max((count.named for count in facts.counts), default=0)
    since = before.heard_at if facts.silent < patience else context.at  # a silence that decides nothing is looked at again
    due = {OPEN: since + patience, COMPLETE: context.at}.get(state, 0.0)
    after = replace(before, state=state, reason=reason, named=named, due_at=due)
    if state != before.state and state != OPEN:
        after = replace(after, at=context.at, images=exam.images)
    if after != before:
        records.update(after)
    return [_event(_TOLD[state], exam, reason)] if state != before.state and state in _TOLD else []


def count(records: Records, request: CountImages, context: RisContext) -> list[Event]:
    """Keep what a source says of a study's instances, and look."""
    here = records.among(Instance, "uid", request.instances)
    study = [one.id for one in records.find(Exam, study_uid=request.study_uid)] if request.study_uid else []
    owners = dict.fromkeys([*study, *(one.exam_id for one in here if one.exam_id is not None)])
    missing = set(request.instances) - {one.uid for one in here}
    events = []
    for exam_id in owners:
        named = request.count or sum(one.exam_id == exam_id for one in here) + len(missing)
        known_ = records.one(Evidence, exam_id=exam_id, source=request.source, subject=request.subject)
        fresh = Evidence(known_.id if known_ else 0, exam_id, request.source, request.subject, named, tuple(sorted(missing)), context.at)
        (records.update if known_ else records.add)(fresh)
        events += look(records, records.get(Exam, exam_id), context)
    return events


def ended(records: Records, request: EndSending, context: RisContext) -> list[Event]:
    """A sender has closed the association over which it stored images of these studies."""
    events = []
    for study_uid in request.study_uids:
        for exam_id in dict.fromkeys(one.exam_id for one in records.find(Instance, study_uid=study_uid) if one.exam_id is not None):
            before = records.one(Completeness, exam_id=exam_id)
            if before is not None and before.state != COMPLETE:
                records.update(replace(before, closed_at=context.at))
                events += look(records, records.get(Exam, exam_id), context)
    return events


def again(records: Records, request: LookForImages, context: RisContext) -> list[Event]:
    """Time has passed: look once more."""
    return look(records, records.get(Exam, request.exam_id), context)


def deliver(records: Records, request: Deliver, context: RisContext) -> list[Event]:
    """Tell of each destination that has all of the images by now, once; those that have not are looked at again."""
    before = records.one(Completeness, exam_id=request.exam_id)
    if before is None or before.state != COMPLETE:
        return []
    have = [name for name, all_ in request.destinations if all_ and name not in before.delivered]
    wait = any(not all_ for _, all_ in request.destinations)
    after = replace(before, delivered=(*before.delivered, *have), due_at=context.at + DELIVERY if wait else 0.0)
    records.update(after)
    exam = records.get(Exam, request.exam_id)
    return [_event("study.delivered", exam, name) for name in have]


# what is known


def known(records: Records, exam: Exam, state: Completeness, context: RisContext) -> Facts:
    """Return what is known of the exam's images."""
    performed = [one for one, _ in exams.performed_of(records, exam)]
    series = [one for step in {one.id: one for one in performed} for one in records.find(PerformedSeries, performed_id=step)]
    counts = [*_performed(records, exam, series), *_told(records, exam)]
    return Facts(
        tuple(counts),
        performing=any(one.status == "IN PROGRESS" for one in performed),
        silent=context.at - state.heard_at,
        closed=state.closed_at >= state.heard_at,
    )


def _performed(records: Records, exam: Exam, series: Iterable[PerformedSeries]) -> list[Count]:
    """Count, series by series, what the performed steps name: a further series, as of key images, does not stand in for one of them."""
    named = {one.series_uid: one.instances for one in series if one.instances}
    if not named:
        return []
    here = Counter(one.series_uid for one in records.find(Instance, study_uid=exam.study_uid)) if exam.study_uid else Counter[str]()
    return [Count("performed", sum(named.values()), sum(min(here[uid], most) for uid, most in named.items()))]


def _told(records: Records, exam: Exam) -> list[Count]:
    """Count what was said by the senders: of a count the latest counts, of names each."""
    evidence = records.find(Evidence, exam_id=exam.id)
    counts = []
    if named := [one for one in evidence if one.source == "commitment"]:
        missing = {uid for one in named for uid in one.missing}
        missing -= {one.uid for one in records.among(Instance, "uid", missing)}
        total = max(sum(one.named for one in named), len(missing))
        counts.append(Count("commitment", total, total - len(missing)))
    if asked := max((one for one in evidence if one.source == "query"), key=lambda one: one.at, default=None):
        counts.append(Count("query", asked.named, min(exam.images, asked.named)))
    return counts


def _event(name: str, exam: Exam, reason: str) -> Event:
    return Event(name, patient_id=exam.patient_id, order_id=exam.order_id, exam_id=exam.id, accession=exam.accession, reason=reason)
