"""A route: what one YAML file says, compiled once into functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from broker.dicom.storerequest import encode_request
from broker.errors import MessageError
from broker.model import Outgoing, StoreRequest
from broker.model import Protocol as ProtocolName
from broker.pipeline.compilation import Compilation
from broker.pipeline.context import Context, Drop, Hold, Outcome, Step, Work
from broker.pipeline.groups import whole_path
from broker.pipeline.layout import Builder, compile_layout
from broker.pipeline.shape import check_component, check_options, did_you_mean
from broker.pipeline.steps import STEPS
from broker.pipeline.subject import Subject
from broker.pipeline.when import Condition, Test
from broker.spec import Option

EACH = {"order": "ORC", "patient": "PID", "report": "OBR"}
LANES: Mapping[ProtocolName, str] = {"hl7": "PID-3.1", "dicom": "PatientID", "ris": "patient.identifier"}
SENDS: Mapping[ProtocolName, ProtocolName] = {"hl7": "hl7", "dicom": "dicom", "ris": "hl7"}  # what a route makes of what it hears

TARGET = (
    Option("when", "condition", "Only when this holds.", default=None, example="event = exam.scheduled"),
    Option("build", "text", "Builds this message from the records of the event, by its layout.", default=None, example="OMI^O23^OMI_O23"),
    Option("set", "mapping", "Fields that are sent differently; text, or records in braces.", default=None, example={"MSH-5": "PACS"}),
    Option("steps", "any", "Steps for this target only, on a copy of the message.", default=None),
    Option("send", "texts", "The destination, or several.", example="archive_hl7"),
)
ROUTE = (
    Option("description", "text", "One sentence for the person who opens this file at night."),
    Option("accept", "condition", "Which messages; without it, all that the channel hears.", default=None, example="MSH-9.1 = ADT"),
    Option("lane", "path", "Messages with the same text here keep their order; the patient, unless another path is given.", default=None),
    Option(
        "answer",
        "text",
        "When the sender is answered: `processed`, once the message is journaled, applied and enqueued in one commit.",
        default="processed",
        choices=("processed",),
    ),
    Option("each", "text", "Runs the steps once for every order, patient or report in the message.", default=None, choices=tuple(EACH)),
    Option("steps", "any", "What happens to the message, in this order.", default=None),
    Option("to", "any", "Where it goes: every target whose `when` holds.", default=None),
    Option("cases", "path", "The file with this route's cases, from this folder.", default=None, example="tests/orders.yaml"),
)

Result = Drop | Hold | None
Send = Callable[[Work, str], list[Outgoing]]


@dataclass(frozen=True, slots=True)
class Route:
    """A compiled route; use `accepts`, then `run` on what it accepts."""

    channel: str
    description: str
    protocol: ProtocolName
    accept: Condition
    lane: str
    answer: str
    each: str  # segment name of the groups, "" for the message as a whole
    steps: tuple[Step, ...]
    targets: tuple[tuple[Test, Send], ...]
    destinations: frozenset[str]
    paths: frozenset[str]  # every path it reads or writes; of a DICOM route, the keywords to scan
    changes: bool  # whether its steps change the message
    site: Mapping[str, str]
    cases: str

    def accepts(self, subject: Subject) -> bool:
        """Return whether this route wants the message."""
        return self.accept.holds(subject)

    def run(self, subject: Any, context: Context) -> Outcome:
        """Return what the route asks for, given a Message, a Header or an EventSubject; raises MessageError.

        The subject is not changed. The RIS is moved through `context.apply`.
        """
        if self.changes:
            subject = subject.clone()
        work = Work(subject, context, self.site)
        passes = self._passes(subject)
        for number, one in enumerate(passes):
            work.subject = one
            try:
                result = _run_steps(self.steps, work)
            except MessageError as error:
                if number == 0:
                    raise
                raise MessageError(whole_path(error.path, subject, passes, number), error.why, error.code) from error
            if isinstance(result, Hold):
                return Outcome(held=result.reason, accession=work.accession)
            if isinstance(result, Drop):
                return Outcome(dropped=result.reason, accession=work.accession)
        work.subject = subject
        work.accession = work.accession or _accession(self.protocol, subject)
        lane = subject.get(self.lane)
        outgoing = tuple(sent for when, send in self.targets if when(subject) for sent in send(work, lane))
        return Outcome(outgoing, accession=work.accession)

    def _passes(self, subject: Any) -> list[Any]:
        if not self.each:
            return [subject]
        groups: list[Any] = subject.groups(self.each)
        if not groups:
            raise MessageError(self.each, "the segment is missing", 100)
        return groups


def _accession(protocol: ProtocolName, subject: Any) -> str:
    if protocol == "hl7":
        return ""
    return str(subject.get("accession" if protocol == "ris" else "AccessionNumber"))


def _run_steps(steps: tuple[Step, ...], work: Work) -> Result:
    for step in steps:
        result = step(work)
        if result is not None:
            return result
    return None


def compile_route(document: Any, channel: str, compilation: Compilation) -> Route:
    """Return the route; everything wrong with it is added to `compilation.mistakes`, and then it must not be run."""
    check_options(ROUTE, document, compilation.mistakes)
    document = document if isinstance(document, Mapping) else {}
    each = EACH.get(_text(document, "each") or "", "")
    compilation = replace(compilation, each=(_text(document, "each") or "") if each else "")
    if each and compilation.protocol != "hl7":
        compilation.mistakes.add("only a route of HL7 messages repeats its steps", "remove each:", key=("each",))
    accept = compilation.condition(_text(document, "accept"), "accept")
    lane = compilation.path(_text(document, "lane") or LANES[compilation.protocol], "lane")
    steps, changes = compile_steps(document.get("steps"), compilation.at("steps"))
    if each and changes:
        instead = "put it into a target under to:"
        compilation.mistakes.add(
            "a step that changes the message cannot stand under each:, whose passes only read", instead, key=("steps",)
        )
    targets, destinations = _targets(document.get("to"), channel, compilation.at("to"), each)
    if not steps and not targets:
        compilation.mistakes.add("this route does nothing", "add steps: or to:")
    return Route(
        channel=channel,
        description=_text(document, "description") or "",
        protocol=compilation.protocol,
        accept=accept,
        lane=lane,
        answer=_text(document, "answer") or "processed",
        each=each,
        steps=steps,
        targets=targets,
        destinations=destinations,
        paths=frozenset(compilation.paths),
        changes=changes,
        site=compilation.site,
        cases=_text(document, "cases") or "",
    )


def _text(document: Mapping[str, Any], key: str) -> str | None:
    value = document.get(key)
    return value if isinstance(value, str) else None


def compile_steps(items: Any, compilation: Compilation) -> tuple[tuple[Step, ...], bool]:
    """Return the steps of a list, and whether any changes the message."""
    if items is None:
        return (), False
    if not isinstance(items, list):
        compilation.mistakes.add("a list of steps is needed here", "begin each step with a dash")
        return (), False
    steps, changes = [], False
    for index, item in enumerate(items):
        step, changing = _step(item, compilation.at(index))
        steps.append(step)
        changes = changes or changing
    return tuple(steps), changes


def _step(item: Any, compilation: Compilation) -> tuple[Step, bool]:
    names = [str(name) for name in item if name != "when"] if isinstance(item, Mapping) else []
    if len(names) != 1:
        compilation.mistakes.add("a step is one name with its settings, and perhaps when:", "such as - require: PID-3.1")
        return _nothing, False
    name = names[0]
    kind = STEPS.get(name)
    if kind is None:
        compilation.mistakes.add(f"unknown step {name}", did_you_mean(name, STEPS), key=(name,))
        return _nothing, False
    if compilation.protocol not in kind.protocols:
        compilation.mistakes.add(
            f"{name} does not work on {_SUBJECTS[compilation.protocol]}", f"it works on {_works_on(kind.protocols)}", key=(name,)
        )
        return _nothing, False
    when = compilation.condition(_text(item, "when"), "when") if "when" in item else None
    inner = compilation.at(name)
    if not check_component(kind.spec, item[name], inner.mistakes):
        return _nothing, False
    step = kind.compile(kind.spec.read(item[name]), inner)
    return (step if when is None else _conditional(when.holds, step)), kind.changes


_SUBJECTS: Mapping[ProtocolName, str] = {"hl7": "HL7 messages", "dicom": "DICOM requests", "ris": "RIS events"}


def _works_on(protocols: tuple[ProtocolName, ...]) -> str:
    return " and ".join(_SUBJECTS[protocol] for protocol in protocols)


def _nothing(work: Work) -> None:
    """Stands for a step that could not be compiled."""


def _conditional(holds: Test, step: Step) -> Step:
    return lambda work: step(work) if holds(work.subject) else None


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
        names = _destinations(item["send"], place)
        destinations.update(names)
        targets.append((when.holds, _target(item, names, channel, place, each)))
    return tuple(targets), frozenset(destinations)


def _destinations(names: str | list[str], compilation: Compilation) -> tuple[str, ...]:
    names = [names] if isinstance(names, str) else names
    sent = SENDS[compilation.protocol]
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
    steps, changes = compile_steps(item.get("steps"), compilation.at("steps"))
    build = item.get("build")
    if build is not None:
        if each:
            compilation.mistakes.add("build: cannot stand in a route with each:", "build it in a route from ris", key=("build",))
        builder = _builder(build, item.get("set") or {}, compilation)
        return _guarded(steps, _send_built(builder, names, channel)) if builder else lambda work, lane: []
    if compilation.protocol == "ris":
        compilation.mistakes.add("a RIS event is no message yet", "add build: and the message to send")
    if item.get("set"):
        kind = STEPS["set"]
        if compilation.protocol in kind.protocols:
            steps, changes = (*steps, kind.compile({"fields": item["set"]}, compilation.at("set"))), True
    make = _send_image(names, channel) if compilation.protocol == "dicom" else _send_message(names, channel)
    return _guarded(steps, make, copy=changes)


def _builder(message: str, overrides: Mapping[str, Any], compilation: Compilation) -> Builder | None:
    layout = compilation.layouts.get(message)
    if layout is None:
        compilation.mistakes.add(f"there is no layout {message}", did_you_mean(message, compilation.layouts), key=("build",))
        return None
    texts = {path: str(value) for path, value in overrides.items()}
    return compile_layout(layout, texts, compilation.tables, compilation.mistakes.at("set"))


def _guarded(steps: tuple[Step, ...], send: Send, *, copy: bool = False) -> Send:
    """Return a target that runs its steps on a copy first, and sends nothing when one of them drops."""
    if not steps:
        return send

    def guarded(work: Work, lane: str) -> list[Outgoing]:
        own = Work(work.subject.clone() if copy else work.subject, work.context, work.site, work.exam, work.accession)
        return [] if _run_steps(steps, own) else send(own, lane)

    return guarded


def _send_message(names: tuple[str, ...], channel: str) -> Send:
    def send(work: Work, lane: str) -> list[Outgoing]:
        message = work.subject
        raw, kind, control_id = message.encode(), message.type, message.control_id
        return [Outgoing(name, lane, channel, kind, raw, control_id, work.accession) for name in names]

    return send


def _send_built(builder: Builder, names: tuple[str, ...], channel: str) -> Send:
    def send(work: Work, lane: str) -> list[Outgoing]:
        sent = []
        for name in names:
            control_id = work.context.control_id()
            raw = builder.build({**work.scope(), "control_id": control_id})
            sent.append(Outgoing(name, lane, channel, builder.kind, raw, control_id, work.accession))
        return sent

    return send


def _send_image(names: tuple[str, ...], channel: str) -> Send:
    def send(work: Work, lane: str) -> list[Outgoing]:
        spooled = work.context.spooled
        if spooled is None:
            raise MessageError("kind", "only a stored image can be sent on", 200)
        payload = encode_request(StoreRequest(spooled, dict(work.subject.changes)))
        return [Outgoing(name, lane, channel, "C-STORE", payload, spooled.sop_instance, work.accession) for name in names]

    return send
