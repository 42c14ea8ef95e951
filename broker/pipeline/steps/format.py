"""`format`: dates, names, phone numbers and text written in another form."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from broker.errors import MessageError
from broker.pipeline.compilation import Compilation, StepType
from broker.pipeline.context import Step, Work
from broker.pipeline.datepattern import HL7, Pattern, compile_pattern
from broker.pipeline.personname import COMPOSITES, READ, WRITE, compile_names
from broker.pipeline.places import compile_pairs
from broker.spec import Option, Spec

_PATTERN = "YYYY MM MMM DD HH hh AM mm ss ZZ, in brackets what may be missing"
_SIDES = ("left", "right")

_RULES = (
    Option(
        "date",
        "mapping",
        "Another pattern of date and time; a time that names its zone becomes the site's time.",
        default=None,
        options=(
            Option("from", "text", f"How it stands there: {_PATTERN}, or `HL7`.", default="HL7", example="DD.MM.YYYY HH:mm"),
            Option("to", "text", "How it is written; `HL7` as exact as it is known.", default="HL7", example="YYYYMMDD[HHmm]"),
            Option(
                "from_zone", "text", "Zone of a time that names none; the site's, unless given.", default="", example="America/New_York"
            ),
            Option("to_zone", "text", "Zone it is written in; the site's, unless given.", default="", example="Europe/Paris"),
        ),
    ),
    Option(
        "name",
        "mapping",
        "A person's name in another form: `family first` is DOE, JANE Q, and `given first` DR JANE Q DOE JR.",
        default=None,
        options=(
            Option("from", "text", "How it stands there.", default="XPN", choices=tuple(READ)),
            Option("to", "text", "How it is written.", choices=tuple(WRITE)),
        ),
    ),
    Option(
        "phone",
        "texts",
        "A phone number, in the pattern that has as many 9 as the number has digits.",
        default=None,
        example=["(999)999-9999", "+99 999 999-9999"],
    ),
    Option("case", "text", "Upper or lower case, or Each Word.", default=None, choices=("upper", "lower", "title")),
    Option(
        "trim",
        "mapping",
        "Takes characters away at the ends.",
        default=None,
        options=(
            Option("what", "text", "Which characters.", default=" ", example="0"),
            Option("side", "text", "At which end.", default="both", choices=("both", *_SIDES)),
        ),
    ),
    Option(
        "pad",
        "mapping",
        "Fills up to a length; what is longer stays.",
        default=None,
        options=(
            Option("length", "integer", "So many characters.", example=8),
            Option("with", "text", "One character.", default="0", example="0"),
            Option("side", "text", "At which end.", default="left", choices=_SIDES),
        ),
    ),
    Option(
        "cut",
        "mapping",
        "Keeps the characters from one number to another.",
        default=None,
        options=(
            Option("from", "integer", "The first that is kept, from 1.", default=1, example=1),
            Option("to", "integer", "The last that is kept.", example=20),
        ),
    ),
)
_NAMES = tuple(option.name for option in _RULES)

SPEC = Spec(
    name="format",
    kind="step",
    summary=f"Writes a value in another form: one of {', '.join(_NAMES)}. What does not fit the form is an error unless `otherwise` says "
    "so; an empty field stays empty, and the null of HL7 a null.",
    options=(
        Option("path", "texts", "Where it stands, or several places; with `[*]` each by itself.", example="PID-7.1"),
        Option("to", "path", "Where it is written; without it, where it stood.", default="", example="ZPI-3"),
        *_RULES,
        Option(
            "otherwise",
            "text",
            "What happens to a value that does not fit: `keep` leaves everything as it is, `empty` writes nothing in its place.",
            default="error",
            choices=("error", "keep", "empty"),
        ),
    ),
    example="format: {path: OBR-7.1, date: {from: DD/MM/YYYY HH:mm, to: HL7}}",
)

Rule = Callable[[str], str]  # raises ValueError for a value that does not fit


def _compile(settings: Mapping[str, Any], compilation: Compilation) -> Step:
    rules = [name for name in _NAMES if settings[name] is not None]
    if len(rules) != 1:
        what = "nothing to do" if not rules else f"{' and '.join(rules)} in one step"
        compilation.mistakes.add(what, f"write one of {', '.join(_NAMES)}; a second one is a second step")
        return lambda work: None
    (name,) = rules
    rule = _COMPILERS[name](settings[name], compilation.at(name))
    paths = [compilation.path(path, "path") for path in settings["path"]]
    if settings["to"] and len(paths) > 1:
        compilation.mistakes.add("several paths and one to:", "write a step for each", key=("to",))
    targets = [compilation.target(settings["to"] or path, "to" if settings["to"] else "path") for path in paths]
    pairs = [compile_pairs(*pair, compilation, "to") for pair in zip(paths, targets, strict=True)]
    convert = _converter(name, settings[name], rule, hl7=compilation.protocol == "hl7")
    otherwise, form = settings["otherwise"], _form(name, settings[name])

    def format_(work: Work) -> None:
        for each in pairs:
            for source, target in each(work.subject):
                try:
                    convert(work.subject, source, target)
                except ValueError:
                    if otherwise == "error":
                        raise MessageError(source, f"does not fit {form}", 102) from None
                    if otherwise == "empty":
                        work.subject.set(target, "")

    return format_


def _form(name: str, settings: Any) -> str:
    """Return how the form a value does not have is called; it holds what the route says, nothing of the message."""
    if name in ("date", "name"):
        return f"{name} {settings['from']}, or holds less than {settings['to']}" if name == "date" else f"name {settings['from']}"
    return f"{name} {' or '.join(settings)}" if name == "phone" else name


Convert = Callable[[Any, str, str], None]  # subject, source, target


def _converter(name: str, settings: Any, rule: Rule, *, hl7: bool) -> Convert:
    """Return what applies a rule to a place: to each part of a composite, to a composite as a whole, or to plain text."""
    if not hl7:
        return lambda subject, source, target: _plain(subject, source, target, rule)
    change: Callable[[Any, str, str, str], None]
    if name in _LEAVES:
        change = partial(_each_part, rule, _LEAVES[name])
    elif name == "name":
        change = partial(_name, rule, settings["from"] in COMPOSITES, settings["to"] in COMPOSITES)
    else:
        change = partial(_single, rule)

    def convert(subject: Any, source: str, target: str) -> None:
        raw = subject.raw(source)
        if raw == _NULL:
            subject.set_raw(target, raw)
        elif raw:
            change(subject, raw, source, target)

    return convert


_NULL = '""'  # deletes what the receiver has (2.5.1 chapter 2.7)


def _plain(subject: Any, source: str, target: str, rule: Rule) -> None:
    values = subject.all(source)
    if values and any(values):
        subject.set(target, "\\".join(rule(value) if value else "" for value in values))


def _single(rule: Rule, subject: Any, raw: str, source: str, target: str) -> None:
    if _DELIMITER.search(raw):
        raise MessageError(source, "holds several parts; the step must name one of them", 102)
    subject.set(target, rule(subject.get(source) if "\\" in raw else raw))


_DELIMITER = re.compile(r"[\^&~]")
# the parts of a composite that a rule may be applied to as they stand: an escape sequence must stay as it is
_LEAVES = {"case": re.compile(r"\\[^\\]*\\|[^\\^&~]+"), "trim": re.compile(r"[^\^&~]+")}


def _each_part(rule: Rule, leaf: re.Pattern[str], subject: Any, raw: str, source: str, target: str) -> None:
    subject.set_raw(target, leaf.sub(lambda match: match[0] if match[0][0] == "\\" and match[0][-1] == "\\" else rule(match[0]), raw))


def _name(rule: Rule, composite: bool, written: bool, subject: Any, raw: str, source: str, target: str) -> None:
    result = rule(raw if composite else subject.get(source))
    (subject.set_raw if written else subject.set)(target, result)


# -- rules


def _date(settings: Mapping[str, Any], compilation: Compilation) -> Rule:
    read, write = _pattern(settings["from"], compilation, "from"), _pattern(settings["to"], compilation, "to")
    site = compilation.site.get("timezone", "UTC")
    source = _zone(settings["from_zone"] or site, compilation, "from_zone")
    target = _zone(settings["to_zone"] or site, compilation, "to_zone")
    return lambda text: write.write(read.read(text).moved(source, target))


def _pattern(text: str, compilation: Compilation, key: str) -> Pattern:
    try:
        return compile_pattern(HL7 if text == "HL7" else text)
    except ValueError as error:
        compilation.mistakes.add(f"{text} is no pattern of a date: {error}", key=(key,))
        return compile_pattern(HL7)


def _zone(name: str, compilation: Compilation, key: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        compilation.mistakes.add(f"{name} is no time zone", "write an IANA name such as Europe/Paris", key=(key,))
        return ZoneInfo("UTC")


def _person(settings: Mapping[str, Any], compilation: Compilation) -> Rule:
    for key in ("from", "to"):
        if compilation.protocol == "dicom" and settings[key] in COMPOSITES:
            compilation.mistakes.add(f"an attribute holds no {settings[key]}", "write PN", key=(key,))
    if settings["from"] == settings["to"]:
        compilation.mistakes.add("from and to are the same", "write another form", key=("to",))
    return compile_names(settings["from"], settings["to"])


def _phone(patterns: tuple[str, ...], compilation: Compilation) -> Rule:
    by_digits = {pattern.count("9"): pattern for pattern in patterns}
    if 0 in by_digits or len(by_digits) != len(patterns):
        compilation.mistakes.add("each pattern needs its own number of 9, one for each digit", "such as (999)999-9999")

    def phone(text: str) -> str:
        digits = iter(found := re.sub(r"[^0-9]", "", text))
        if len(found) not in by_digits or re.search(r"[A-Za-z]", text):
            raise ValueError
        return "".join(next(digits) if character == "9" else character for character in by_digits[len(found)])

    return phone


def _title(text: str) -> str:
    return re.sub(r"[^\W\d_]+", lambda match: match[0].capitalize(), text)


_CASES: Mapping[str, Rule] = {"upper": str.upper, "lower": str.lower, "title": _title}
_TRIMS: Mapping[str, Callable[[str, str], str]] = {"both": str.strip, "left": str.lstrip, "right": str.rstrip}


def _case(kind: str, compilation: Compilation) -> Rule:
    return _CASES[kind]


def _trim(settings: Mapping[str, Any], compilation: Compilation) -> Rule:
    what, strip = settings["what"], _TRIMS[settings["side"]]
    if not what or "\\" in what:
        compilation.mistakes.add("not characters to take away", 'such as " " or "0"', key=("what",))
    return lambda text: strip(text, what)


def _pad(settings: Mapping[str, Any], compilation: Compilation) -> Rule:
    length, filler = settings["length"], settings["with"]
    if not 1 <= length <= 1000:
        compilation.mistakes.add(f"{length} is no length", "write a number from 1 to 1000", key=("length",))
    if len(filler) != 1:
        compilation.mistakes.add("one character is needed to fill with", 'such as "0"', key=("with",))
        filler = "0"
    fill = str.rjust if settings["side"] == "left" else str.ljust
    return lambda text: fill(text, length, filler)


def _cut(settings: Mapping[str, Any], compilation: Compilation) -> Rule:
    first, last = settings["from"], settings["to"]
    if not 1 <= first <= last:
        compilation.mistakes.add(f"no characters from {first} to {last}", "count from 1, the smaller number first")

    def cut(text: str) -> str:
        if len(text) < first:
            raise ValueError
        return text[first - 1 : last]

    return cut


_COMPILERS: Mapping[str, Callable[[Any, Compilation], Rule]] = {
    "date": _date,
    "name": _person,
    "phone": _phone,
    "case": _case,
    "trim": _trim,
    "pad": _pad,
    "cut": _cut,
}

FORMAT = StepType(SPEC, _compile, ("hl7", "dicom"), changes=True)
