"""Does the standard have what a route names, and can it hold what the route writes there?"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from broker.config.feeds import Feed, feeds_of
from broker.config.session import Examined, Session, Severity
from broker.dicom import standard as dicom
from broker.hl7 import charset, standard
from broker.hl7.path import parse
from broker.hl7.standard import VERSIONS
from broker.pipeline.shape import Place, did_you_mean

_FORMS = {  # HL7 data types whose form can be told from a constant (2.5.1 chapter 2.A)
    "DT": (r"\d{4}(\d\d(\d\d)?)?", "a date such as 20260302"),
    "TM": (r"\d\d(\d\d(\d\d(\.\d{1,4})?)?)?([+-]\d{4})?", "a time such as 1430"),
    "DTM": (r"\d{4}(\d\d(\d\d(\d\d(\d\d(\d\d(\.\d{1,4})?)?)?)?)?)?([+-]\d{4})?", "a date and time such as 20260302143000"),
    "NM": (r"[+-]?\d+(\.\d*)?", "a number"),
    "SI": (r"\d{1,4}", "a whole number of at most 4 digits"),
}
_ONE_IN_PRACTICE = ("TS", "VID", "PT")  # senders leave the components behind the first empty
_NULL = '""'  # deletes what the receiver has (2.5.1 chapter 2.7)
_LISTED = 12  # codes of a table that a warning names


def check_standards(session: Session, extensions: Iterable[str]) -> None:
    """Note every path that no version of the standard has, and every text that its place cannot hold.

    `extensions`: HL7 paths that a sender uses although no version has them.
    """
    known = frozenset(extensions)
    for examined in session.routes:
        feeds = feeds_of(session, examined)
        check = _Hl7(session, examined, known)
        if examined.compilation.protocol == "dicom":
            _check_dicom(session, examined, feeds)
        else:
            check.paths(feeds)
            check.texts(feeds)
        _check_charsets(session, examined, feeds)


def _check_dicom(session: Session, examined: Examined, feeds: Iterable[Feed]) -> None:
    for feed in feeds:
        attribute = dicom.attribute(feed.path)
        wrong = dicom.fault(attribute.vr, feed.text) if attribute else ""
        if attribute and wrong:
            session.add(feed.problem(examined, f"{attribute.keyword} cannot hold it: {wrong}", f"write what fits {attribute.name}"))
        elif attribute and attribute.vm == "1" and "\\" in feed.text and attribute.vr not in dicom.SINGLE:
            session.add(feed.problem(examined, f"{attribute.keyword} has one value", "write it without a backslash"))


class _Hl7:
    """The rules of HL7 v2 over one route."""

    def __init__(self, session: Session, examined: Examined, extensions: frozenset[str]) -> None:
        self._session = session
        self._examined = examined
        self._extensions = extensions
        only = examined.route.accept.only
        stated = only.get("MSH-12", only.get("MSH-12.1", frozenset()))
        self._stated = tuple(version for version in VERSIONS if version in stated)
        self._accepted = [f"{kind}^{event}" for kind in only.get("MSH-9.1", ()) for event in only.get("MSH-9.2", ())]

    def paths(self, feeds: Iterable[Feed]) -> None:
        """Check the paths that the route reads and writes; of a RIS route, those of the messages it builds."""
        named = [] if self._examined.compilation.protocol == "ris" else self._examined.compilation.marks
        for place, path in dict.fromkeys(named):
            self._path(place, path, self._stated)
        for feed in feeds:
            if feed.builds and feed.line is None:
                self._path(feed.place, feed.path, (standard.DEFAULT,))

    def texts(self, feeds: Iterable[Feed]) -> None:
        """Check the texts that are written, and the values of MSH that conditions ask for."""
        for feed in feeds:
            version = self._version(feed.path, (standard.DEFAULT,) if feed.builds else self._stated)
            if version and feed.text not in ("", _NULL):
                for what, instead in _faults(feed, version):
                    self._session.add(feed.problem(self._examined, what, instead), severity="warning")
        if self._examined.compilation.protocol != "hl7":
            return
        for place, condition in self._examined.compilation.conditions:
            for path, text in condition.compared:
                self._compared(place, path, text)
            for path, texts in condition.only.items():
                if path.startswith("MSH-") and not self._is_whole(path):
                    self._asked(place, path, texts)

    def _path(self, place: Place, path: str, stated: tuple[str, ...]) -> None:
        segment = _segment(path)
        if not segment or segment.startswith("Z") or self._is_extension(path):
            return
        version = self._version(path, ())
        if not version:
            self._note("problem", place, *self._missing(path))
            return
        for lacking in (one for one in stated if not standard.describe(path, one)):
            versions = standard.versions_of(path)
            self._note("warning", place, f"HL7 {lacking} has no {path}", f"it is in {versions[0]} to {versions[-1]}")

    def _is_extension(self, path: str) -> bool:
        bare = re.sub(r"\[[^]]*\]", "", path.rpartition(">")[2])
        return any(bare == own or bare.startswith((f"{own}.", f"{own}-")) for own in self._extensions)

    def _missing(self, path: str) -> tuple[str, str]:
        """Return what is wrong with a path that no version has, and what to write."""
        place = parse(path)
        name = place.segment
        if not any(standard.describe(name, version) for version in VERSIONS):
            near = [segment for message in self._accepted for segment in standard.structure(message)]
            return f"HL7 has no segment {name}", f"{did_you_mean(name, near or standard.segments())} A segment of your own begins with Z"
        last = max(standard.fields(name, version) for version in VERSIONS)
        field = f"{name}-{place.field}"
        own = f"name it under extensions: in channels.yaml if a sender has {field}"
        if place.field > last:
            return f"{name} has no field {place.field}", f"its last is {name}-{last}; {own}"
        around = next(part for part in (f"{field}.{place.component}", field) if part != path and self._version(part, ()))
        found = standard.describe(around, self._version(around, ()))
        of = f" ({found.name}, {found.datatype})" if found and found.datatype else ""
        return f"{around}{of} has no part {path.rpartition('.')[2]}", f"write {around}, or {own}"

    def _version(self, path: str, stated: tuple[str, ...]) -> str:
        """Return the version to judge a path by: a stated one, the usual one, or the last that has it; "" when none has."""
        if not _segment(path):
            return ""
        tried = (*stated, standard.DEFAULT, *reversed(VERSIONS))
        return next((version for version in tried if standard.describe(path, version)), "")

    def _compared(self, place: Place, path: str, text: str) -> None:
        """Warn of a comparison that fails as soon as the sender fills one component more."""
        if text and self._is_whole(path):
            found = standard.describe(path, self._version(path, self._stated))
            parts = [f"{path}.{number} = {part}" for number, part in enumerate(text.split("^"), 1) if part]
            instead = f"write {' and '.join(parts)}" if parts[1:] else f"write {path}.1"
            name = f" ({found.name})" if found else ""
            self._note("warning", place, f"{path}{name} is compared whole, with all its components", instead)

    def _is_whole(self, path: str) -> bool:
        """Whether a path names a field of several components that senders do fill."""
        version = self._version(path, self._stated)
        found = standard.describe(path, version) if version else None
        if found is None or found.datatype in (*standard.PRIMITIVE, *_ONE_IN_PRACTICE) or parse(path).component:
            return False
        return bool(standard.describe(f"{path}.2", version))

    def _asked(self, place: Place, path: str, texts: Iterable[str]) -> None:
        version = self._version(path, self._stated)
        for text in sorted(texts):
            for what, instead in _not_in_table(path, text, version) if version and text else ():
                self._note("warning", place, what, instead)

    def _note(self, severity: Severity, place: Place, what: str, instead: str) -> None:
        self._session.add(self._examined.document.problem(place, what, instead), severity=severity)


def _segment(path: str) -> str:
    try:
        return parse(path).segment
    except ValueError:
        return ""


def _faults(feed: Feed, version: str) -> Iterable[tuple[str, str]]:
    """Yield what is wrong with a text at its path, and what to write instead."""
    found = standard.describe(feed.path, version)
    if found is None:
        return
    composite = found.datatype not in standard.PRIMITIVE and bool(standard.describe(f"{feed.path}.2", version))
    if composite and found.datatype and re.search(r"[\^~&]", feed.text):
        yield f"{feed.path} is written as plain text: its ^, & and ~ are escaped", f"write its parts, such as {feed.path}.1"
        return
    yield from _not_in_table(feed.path, feed.text, version)
    if found.length and len(feed.text) > found.length and VERSIONS.index(version) < VERSIONS.index("2.7"):
        yield f"{feed.path} ({found.name}) holds {found.length} characters, this has {len(feed.text)}", "write a shorter text"
    form, wanted = _FORMS.get(found.datatype, (".*", ""))
    if not re.fullmatch(form, feed.text, re.DOTALL):
        yield f"{feed.path} ({found.name}) is no {found.datatype} with {feed.text}", f"write {wanted}"


def _not_in_table(path: str, text: str, version: str) -> Iterable[tuple[str, str]]:
    """Yield what is wrong when the path has a table of HL7's own, to which nobody may add, and the text is not in it."""
    found = standard.describe(path, version)
    if found is not None and not found.table and found.datatype:  # of a composite, the first component stands for it
        found = standard.describe(f"{path}.1", version) or found
    allowed = standard.values(found.table, version) if found and found.defined and found.table else ()
    if found and allowed and text not in allowed and not any("<" in code or "." in code for code in allowed):
        listed = list(dict.fromkeys([*get_close_matches(text, allowed, _LISTED, 0.6), *allowed]))
        instead = f"write one of {', '.join(listed[:_LISTED])}" + (" …" if listed[_LISTED:] else "")
        yield f"{text} is not in HL7 table {found.table} ({found.name})", instead


def _check_charsets(session: Session, examined: Examined, feeds: Iterable[Feed]) -> None:
    """Note the texts that a destination's character set cannot hold although it refuses such messages."""
    targets = examined.document.value.get("to")
    for index, target in enumerate(targets if isinstance(targets, list) else ()):
        names = target.get("send") if isinstance(target, dict) else None
        for name in [names] if isinstance(names, str) else names if isinstance(names, list) else ():
            receiver = examined.compilation.destinations.get(name) if isinstance(name, str) else None
            known = charset.find(receiver.charset) if receiver and receiver.charset and receiver.unencodable == "refuse" else None
            for feed in feeds if known else ():
                if known and (feed.place[0] != "to" or feed.place[1] == index) and not _encodes(feed.text, known.codec):
                    what = f"{name} takes {known.hl7}, which cannot hold this text: such a message is refused"
                    instead = "write it in that character set, or give the destination another charset: or unencodable: transliterate"
                    session.add(feed.problem(examined, what, instead), severity="warning")


def _encodes(text: str, codec: str) -> bool:
    try:
        text.encode(codec)
    except UnicodeEncodeError:
        return False
    return True
