"""A route: what one YAML file says, compiled once into functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from broker.dicom import dimserequest
from broker.dicom.dataset import EXPLICIT_LITTLE, encode
from broker.dicom.dimserequest import DimseRequest
from broker.dicom.performedstep import RELAYED, SOP_CLASS
from broker.dicom.reissue import identity
from broker.dicom.storerequest import encode_request
from broker.errors import MessageError
from broker.hl7.message import Message
from broker.hl7.parts import Parts
from broker.model import Outgoing, Spooled, StoreRequest
from broker.model import Protocol as ProtocolName
from broker.pipeline.availability import NOTIFY, compile_notification
from broker.pipeline.blocks import Block, compile_block
from broker.pipeline.compilation import Compilation, Receiver
from broker.pipeline.context import Context, Drop, Hold, Outcome, Work
from broker.pipeline.encoding import as_it_is, in_charset_of
from broker.pipeline.functions import Function
from broker.pipeline.layout import Builder
from broker.pipeline.performed import attributes_of
from broker.pipeline.shape import check_options, did_you_mean
from broker.pipeline.steps import STEPS
from broker.pipeline.steps.build import compile_builder
from broker.pipeline.subject import Subject
from broker.pipeline.when import Condition, Test
from broker.spec import Option, read

EACH = {"order": "ORC", "patient": "PID", "report": "OBR"}
LANES: Mapping[ProtocolName, str] = {"hl7": "PID-3.1", "dicom": "PatientID", "ris": "patient.identifier"}
SENDS: Mapping[ProtocolName, ProtocolName] = {"hl7": "hl7", "dicom": "dicom", "ris": "hl7"}  # what a route makes of what it hears

TARGET = (
    Option("when", "condition", "Only when this holds.", default=None, example="event = exam.scheduled"),
    Option("build", "text", "Builds this message from the records of the event, by its layout.", default=None, example="OMI^O23^OMI_O23"),
    Option("set", "mapping", "Fields that are sent differently; text, or records in braces.", default=None, example={"MSH-5": "PACS"}),
    Option("steps", "steps", "Steps for this target only, on a copy of the message.", default=None),
    Option(
        "notify",
        "mapping",
        "In a route from `ris`: tells a DICOM destination where the exam's images are (Instance Availability Notification).",
        default=None,
        options=NOTIFY,
        example={"retrieve_ae": "ARCHIVE"},
    ),
    Option("send", "texts", "The destination, or several.", example="archive_hl7"),
)
WHEN = ("received", "processed", "delivered")  # may the sender be answered, from early to late
ROUTE = (
    Option("description", "text", "One sentence for the person who opens this file at night."),
    Option("accept", "condition", "Which messages; without it, all that the channel hears.", default=None, example="MSH-9.1 = ADT"),
    Option("lane", "path", "Messages with the same text here keep their order; the patient, unless another path is given.", default=None),
    Option(
        "answer",
        "text",
        "When the sender is answered: `received`, once the message is kept, before it is routed; `processed`, once it is journaled, "
        "applied and enqueued in one commit; `delivered`, once every destination has taken it. Of several channels the latest counts.",
        default="processed",
        choices=WHEN,
    ),
    Option(
        "patience",
        "duration",
        "With `answer: delivered`, how long the sender waits at most; then it is told AE, and the delivery goes on.",
        default="30s",
    ),
    Option("each", "text", "Runs the steps once for every order, patient or report in the message.", default=None, choices=tuple(EACH)),
    Option("steps", "steps", "What happens to the message, in this order.", default=None),
    Option("to", "any", "Where it goes: every target whose `when` holds.", default=None),
    Option("cases", "path", "The file with this route's cases, from this folder.", default=None, example="tests/orders.yaml"),
)

Send = Callable[[Work, str], list[Outgoing]]


@dataclass(frozen=True, slots=True)
class Route:
    """A compiled route; use `accepts`, then `run` on what it accepts."""

    channel: str
    description: str
    protocol: ProtocolName
    accept: Condition
    lane: str
    answer: str  # one of WHEN
    patience: float  # seconds
    each: str  # segment name of the groups, "" for the message as a whole
    steps: Block
    targets: tuple[tuple[Test, Send], ...]
    destinations: frozenset[str]
    paths: frozenset[str]  # every path it reads or writes; of a DICOM route, the keywords to scan
    site: Mapping[str, str]
    cases: str
    functions: tuple[Function, ...] = ()  # of the site that its steps call

    def accepts(self, subject: Subject) -> bool:
        """Return whether this route wants the message."""
        return self.accept.holds(subject)

    def run(self, subject: Any, context: Context) -> Outcome:
        """Return what the route asks for, given a Message, a Header or an EventSubject; raises MessageError.

        The subject is not changed. The RIS is moved through `context.apply`.
        """
        if self.steps.changes:
            subject = subject.clone()
        work = Work(subject, context, self.site)
        passes = self._passes(subject) if self.each else [subject]
        for number, one in enumerate(passes):
            work.subject = one
            try:
                result = self.steps(work)
            except MessageError as error:
                if isinstance(passes, list):
                    raise
                raise MessageError(passes.whole(error.path, number), error.why, error.code, reject=error.reject) from error
            if isinstance(result, Hold):
                return Outcome(held=result.reason, accession=work.accession)
            if isinstance(result, Drop):
                return Outcome(dropped=result.reason, accession=work.accession)
        work.subject = subject = subject if self.each else work.subject  # a step may have made another message of it
        work.accession = work.accession or _accession(self.protocol, subject)
        lane = subject.get(self.lane)
        outgoing = tuple(sent for when, send in self.targets if when(subject) for sent in send(work, lane))
        return Outcome(outgoing, accession=work.accession)

    def _passes(self, subject: Any) -> Parts:
        groups = Parts(subject, self.each, group=True)
        if not len(groups):
            raise MessageError(self.each, "the segment is missing", 100)
        return groups


def _accession(protocol: ProtocolName, subject: Any) -> str:
    if protocol == "hl7":
        return ""
    return str(subject.get("accession" if protocol == "ris" else "AccessionNumber"))


def compile_route(document: Any, channel: str, compilation: Compilation) -> Route:
    """Return the route; everything wrong with it is added to `compilation.mistakes`, and then it must not be run."""
    check_options(ROUTE, document, compilation.mistakes)
    document = document if isinstance(document, Mapping) else {}
    each = EACH.get(_text(document, "each") or "", "")
    compilation = replace(compilation, kinds=STEPS, functions=[], each=(_text(document, "each") or "") if each else "")
    if each and compilation.protocol != "hl7":
        compilation.mistakes.add("only a route of HL7 messages repeats its steps", "remove each:", key=("each",))
    accept = compilation.condition(_text(document, "accept"), "accept")
    lane = compilation.path(_text(document, "lane") or LANES[compilation.protocol], "lane")
    steps = compile_block(document.get("steps"), compilation.at("steps"))
    if each and steps.changes:
        instead = "put it into a target under to:"
        compilation.mistakes.add(
            "a step that changes the message cannot stand under each:, whose passes only read", instead, key=("steps",)
        )
    targets, destinations = _targets(document.get("to"), channel, compilation.at("to"), each)
    if not steps.steps and not targets:
        compilation.mistakes.add("this route does nothing", "add steps: or to:")
    if steps.makes and steps.makes != compilation.protocol:
        wrong = "a message that is built here would be nothing that the targets' conditions look at"
        compilation.mistakes.add(wrong, "put build: into a target under to:", key=("steps",))
    if steps.ends and targets:
        compilation.mistakes.warn("nothing is ever sent: the steps end every message", "remove the step that does", key=("to",))
    return Route(
        channel=channel,
        description=_text(document, "description") or "",
        protocol=compilation.protocol,
        accept=accept,
        lane=lane,
        answer=_when(document),
        patience=_patience(document),
        each=each,
        steps=steps,
        targets=targets,
        destinations=destinations,
        paths=frozenset(compilation.paths),
        site=compilation.site,
        cases=_text(document, "cases") or "",
        functions=tuple(compilation.functions),
    )


def _when(document: Mapping[str, Any]) -> str:
    answer = _text(document, "answer")
    return answer if answer in WHEN else "processed"


def _patience(document: Mapping[str, Any]) -> float:
    option = next(option for option in ROUTE if option.name == "patience")
    try:
        return float(option.read(document.get("patience", option.default)))
    except (TypeError, ValueError):
        return 0.0  # that is a mistake already


def _text(document: Mapping[str, Any], key: str) -> str | None:
    value = document.get(key)
    return value if isinstance(value, str) else None


def _targets(items: Any, channel: str, compilation: Compilation, each: str) -> tuple[tuple[tuple[Test, Send], ...], frozenset[str]]:
    if items is None:
        return (), frozenset()
    if not isinstance(items, list):
        compilation.mistakes.add("a list of targets is needed here", "begin each target with a dash, such as - send: archive")
        return (), frozenset()
    targets: list[tuple[Test, Send]] = []
    destinations: set[str] = set()
    for index, item in enumerate(items):
        place = compilation.at(index)
        if not check_options(TARGET, item, place.mistakes):
            continue
        when = place.condition(item.get("when"), "when")
        names = _destinations(item["send"], place, "dicom" if "notify" in item else "hl7" if _builds(item) else SENDS[compilation.protocol])
        destinations.update(names)
        send = _target(item, names, channel, place, each)
        targets.append((when.holds, place.observer.target(place.mistakes.place, send) if place.observer else send))
    return tuple(targets), frozenset(destinations)


def _builds(item: Mapping[str, Any]) -> bool:
    """Whether a target sends a message of its own making."""
    steps = item.get("steps")
    return "build" in item or any(isinstance(step, Mapping) and "build" in step for step in (steps if isinstance(steps, list) else ()))


def _destinations(names: str | list[str], compilation: Compilation, sent: ProtocolName) -> tuple[str, ...]:
    names = [names] if isinstance(names, str) else names
    for name in sorted({name for name in names if names.count(name) > 1}):
        compilation.mistakes.add(f"{name} stands here twice", "keep one", key=("send",))
    for name in names:
        receiver = compilation.destinations.get(name)
        if receiver is None:
            compilation.mistakes.add(f"there is no destination {name}", did_you_mean(name, compilation.destinations), key=("send",))
        elif receiver.takes != sent:
            what = {"hl7": "HL7 messages", "dicom": "images"}[sent]
            fitting = [known for known, its in compilation.destinations.items() if its.takes == sent]
            wrong = f"{name} is a {receiver.kind} destination and takes no {what}"
            compilation.mistakes.add(wrong, did_you_mean(name, fitting), key=("send",))
    return tuple(names)


def _target(item: Mapping[str, Any], names: tuple[str, ...], channel: str, compilation: Compilation, each: str) -> Send:
    steps = compile_block(item.get("steps"), compilation.at("steps"))
    if steps.ends:
        compilation.mistakes.warn("nothing is ever sent here: the steps end every message", "remove the target", key=("send",))
    if "notify" in item:
        if compilation.protocol != "ris" or "build" in item or steps.steps:
            compilation.mistakes.add("notify: stands alone, in a route from ris", "move it to a target of its own there", key=("notify",))
        return compile_notification(read(NOTIFY, item["notify"]), names, channel)
    build = item.get("build")
    if build is not None:
        if each:
            compilation.mistakes.add("build: cannot stand in a route with each:", "build it in a route from ris", key=("build",))
        if steps.makes:
            compilation.mistakes.add("two messages are built, and only one can be sent", "remove one build:", key=("build",))
        builder = compile_builder(build, item.get("set") or {}, compilation, "build")
        return _guarded(steps, _send_built(builder, names, channel, compilation.destinations)) if builder else lambda work, lane: []
    compilation = replace(compilation, protocol=steps.makes or compilation.protocol)
    if compilation.protocol == "ris":
        compilation.mistakes.add("a RIS event is no message yet", "add build: and the message to send")
    if item.get("set"):
        kind = STEPS["set"]
        if compilation.protocol in kind.protocols:
            last = kind.compile({"fields": item["set"]}, compilation.at("set"))
            steps = Block((*steps.steps, last), changes=steps.changes or not steps.makes)
    make = _send_image(names, channel) if compilation.protocol == "dicom" else _send_message(names, channel, compilation.destinations)
    return _guarded(steps, make)


def _guarded(steps: Block, send: Send) -> Send:
    """Return a target that runs its steps on a copy first, and sends nothing when one of them drops."""
    if not steps.steps:
        return send

    def guarded(work: Work, lane: str) -> list[Outgoing]:
        own = Work(work.subject.clone() if steps.changes else work.subject, work.context, work.site, work.exam, work.accession)
        return [] if steps(own) else send(own, lane)

    return guarded


def _send_message(names: tuple[str, ...], channel: str, receivers: Mapping[str, Receiver]) -> Send:
    written = {name: in_charset_of(name, receivers.get(name)) for name in names}

    def send(work: Work, lane: str) -> list[Outgoing]:
        message = work.subject
        kind, control_id = message.type, message.control_id
        return [Outgoing(name, lane, channel, kind, write(message), control_id, work.accession) for name, write in written.items()]

    return send


def _send_built(builder: Builder, names: tuple[str, ...], channel: str, receivers: Mapping[str, Receiver]) -> Send:
    written = {name: in_charset_of(name, receivers.get(name)) for name in names}

    def send(work: Work, lane: str) -> list[Outgoing]:
        sent = []
        for name, write in written.items():
            control_id = work.context.control_id()
            raw = builder.build({**work.scope(), "control_id": control_id})
            raw = raw if write is as_it_is else write(Message.parse(raw))
            sent.append(Outgoing(name, lane, channel, builder.kind, raw, control_id, work.accession))
        return sent

    return send


def _send_image(names: tuple[str, ...], channel: str) -> Send:
    def send(work: Work, lane: str) -> list[Outgoing]:
        spooled = work.context.spooled
        if spooled is None and work.subject.kind in RELAYED:
            return _relayed(work, names, channel)
        if spooled is None:
            raise MessageError("kind", "only a stored image can be sent on", 200)
        request = _store_request(work, spooled)
        payload, instance = encode_request(request), request.changes.get("SOPInstanceUID") or spooled.sop_instance
        return [Outgoing(name, lane, channel, "C-STORE", payload, instance, work.accession) for name in names]

    return send


def _relayed(work: Work, names: tuple[str, ...], channel: str) -> list[Outgoing]:
    """Return a performed step as it came, or as the route has changed it; the requests of one step keep their order."""
    subject = work.subject
    uid, kind = subject.get("uid"), subject.kind
    attributes = encode(attributes_of(subject), EXPLICIT_LITTLE) if subject.changes or not subject.raw else subject.raw
    payload = dimserequest.encode_request(DimseRequest(kind, SOP_CLASS, uid, attributes))
    return [Outgoing(name, f"MPPS {uid}", channel, kind, payload, uid, work.accession) for name in names]


def _store_request(work: Work, spooled: Spooled) -> StoreRequest:
    """Return what is sent of an object: changed by the route and, when it was rejected where it went first, under new UIDs."""
    subject, instance = work.subject, work.context.instance
    changes, removals, source = dict(subject.changes), subject.removals, subject.get("sender")
    if instance is None or not instance.reissue:
        return StoreRequest(spooled, changes, removals=removals, source=source if changes else "")
    own = {"StudyInstanceUID": instance.study_uid, "SeriesInstanceUID": instance.series_uid, "SOPInstanceUID": spooled.sop_instance}
    exam = work.exam["exam"] if work.exam is not None else None
    changes = identity(own, instance.reissue, exam.study_uid if exam else "") | changes
    return StoreRequest(spooled, changes, "CORRECT", removals, source, instance.reissue)
