"""What a configuration may say and hardly means: settings without effect, answers that nobody can match, messages sent twice."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from broker.config.models import RIS, Destination
from broker.config.session import Examined, Session
from broker.pipeline.shape import Place
from broker.pipeline.when import tokens

_NEEDED = {"9": "receivers route by the type", "10": "an answer names the message by its control id"}
_NEEDED_PATH = re.compile(r"MSH(?:\[1\])?-(9|10)(?:\.1)?")
_ENDING = ("drop", "reject", "link", "call")  # steps that may end a message


def check_unlikely(session: Session, destinations: tuple[Destination, ...]) -> None:
    """Warn of what is allowed and hardly meant."""
    for destination in destinations:
        _check_retry(session, destination)
    for examined in session.routes:
        _check_patience(session, examined)
        _check_header(session, examined)
    _check_restored(session)
    _check_twice(session)


def _check_retry(session: Session, destination: Destination) -> None:
    retry = destination.settings.get("retry") or {}
    first, most = retry.get("first"), retry.get("most")
    if first is not None and most is not None and first > most:
        place = ("destinations", destination.name, destination.kind, "retry")
        session.warn(place, "first is longer than most, which bounds it: every wait is that of most", "make first the shorter one")


def _check_patience(session: Session, examined: Examined) -> None:
    if "patience" in examined.document.value and examined.route.answer != "delivered":
        what = f"has no effect: the sender is answered once the message is {examined.route.answer}"
        _warn(session, examined, ("patience",), what, "write answer: delivered, or remove it")


def _check_header(session: Session, examined: Examined) -> None:
    """Warn where a route empties what every receiver needs of a message."""
    for place, path in _emptied(examined.document.value):
        if match := _NEEDED_PATH.fullmatch(path):
            _warn(session, examined, place, f"{path} is emptied, and {_NEEDED[match[1]]}", "leave it as it is, or write another text")


def _emptied(document: Any) -> Iterator[tuple[Place, str]]:
    for place, paths in _found(document, "remove", ()):
        paths = paths.get("paths") if isinstance(paths, Mapping) else paths
        yield from ((place, path) for path in (paths if isinstance(paths, list) else [paths]) if isinstance(path, str))
    for place, fields in _found(document, "set", ()):
        if isinstance(fields, Mapping) and list(fields) == ["fields"]:
            place, fields = (*place, "fields"), fields["fields"]
        for path, text in fields.items() if isinstance(fields, Mapping) else ():
            if text in ("", None):
                yield (*place, path), path


def _check_restored(session: Session) -> None:
    if any(_has(examined, "extract") for examined in session.routes):
        return
    for examined in session.routes:
        for place, _ in _found(examined.document.value, "restore", ()):
            _warn(session, examined, place, "there is nothing to put back: no route has the step extract", "add extract, or remove this")


def _check_twice(session: Session) -> None:
    """Warn of messages that two channels surely accept and send to the same destination as they are."""
    for one, other in combinations(session.routes, 2):
        if one.source != other.source or one.source == RIS or not _meet(one, other):
            continue
        for name in sorted(_always_sent(one) & _always_sent(other)):
            what = f"{one.channel} sends to {name} too: a message that both accept is sent there twice"
            session.warn(("channels", other.channel), what, "narrow accept: of one of them, or send it there from one only")


def _meet(one: Examined, other: Examined) -> bool:
    """Whether it is certain that there are messages both accept: all the constants that one asks for, the other asks for as well."""
    asked = [_constants(examined) for examined in (one, other)]
    if {} in asked:
        return True
    few, many = sorted((found or {} for found in asked), key=len)
    return None not in asked and all(values & many.get(path, frozenset()) for path, values in few.items())


def _constants(examined: Examined) -> Mapping[str, frozenset[str]] | None:
    """Return path and constants of an accept that compares these and nothing else, none where there is no accept; None for others."""
    text = examined.document.value.get("accept")
    if not isinstance(text, str):
        return {}
    accept = examined.route.accept
    if not accept.paths:
        return None  # it could not be read, which is a mistake already
    signs = {token.text for token in tokens(text) if token.kind == "sign"}
    words = {token.text for token in tokens(text) if token.kind == "word"}
    simple = signs <= {"=", "[", "]", ","} and not words & {"or", "not", "exists", "is", "matches"}
    return accept.only if simple and not accept.never and set(accept.paths) == set(accept.only) else None


def _always_sent(examined: Examined) -> set[str]:
    """Return the destinations that get every message the route accepts, as it is."""
    if any(_has(examined, step) for step in _ENDING):
        return set()
    targets = examined.document.value.get("to")
    plain = [one for one in targets if isinstance(one, Mapping) and not {"when", "build"} & set(one)] if isinstance(targets, list) else []
    names = [name for one in plain for name in (one["send"] if isinstance(one.get("send"), list) else [one.get("send")])]
    return {name for name in names if isinstance(name, str)}


def _has(examined: Examined, step: str) -> bool:
    return any(True for _ in _found(examined.document.value, step, ()))


def _found(value: Any, key: str, place: Place) -> Iterator[tuple[Place, Any]]:
    """Yield what stands under a key anywhere in a document, and where."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name == key:
                yield (*place, name), inner
            yield from _found(inner, key, (*place, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _found(inner, key, (*place, index))


def _warn(session: Session, examined: Examined, place: Place, what: str, instead: str) -> None:
    session.add(examined.document.problem(place, what, instead), stage="topology", severity="warning")
