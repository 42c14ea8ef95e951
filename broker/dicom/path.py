"""Where something stands in a dataset: keywords, tags as `(0010,0020)`, private ones as `(0029,"CREATOR",10)`, items by their number."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

_LEVEL = re.compile(
    r"(?:(?P<keyword>[A-Za-z][A-Za-z0-9]*)"
    r"|\((?P<group>[0-9A-Fa-f]{4}),(?P<element>[0-9A-Fa-f]{4})\)"
    r'|\((?P<odd>[0-9A-Fa-f]{4}),"(?P<creator>[^"\\]{1,64})",(?P<offset>[0-9A-Fa-f]{2})\))'
    r"(?:\[(?P<number>[1-9]\d{0,4})\])?"
)
_FORM = "write it like PatientID, (0010,0020) or RequestAttributesSequence[2].ScheduledProcedureStepID"


class Level(NamedTuple):
    """One attribute on the way down."""

    tag: int  # of a private one: its group, and the element's last two digits
    creator: str  # of a private one (PS3.5 7.8.1); "" of others
    number: int  # of the item, from 1; 0 when none is named

    @property
    def vr(self) -> str:
        """The VR that the data dictionary has for it, of several the first; "" of a private one."""
        return "" if self.creator else dictionary_VR(self.tag).split(" ")[0]


class Unknown(ValueError):
    """A keyword that the dictionary does not have."""

    def __init__(self, keyword: str) -> None:
        super().__init__(f"{keyword} is no DICOM keyword")
        self.keyword = keyword


@lru_cache(maxsize=4096)
def parse(path: str) -> tuple[Level, ...]:
    """Return the attributes from the outermost to the one that is meant; raises ValueError, Unknown for a keyword."""
    levels, at = [], 0
    while True:
        match = _LEVEL.match(path, at)
        if match is None:
            raise ValueError(f"{path} is no DICOM keyword or tag; {_FORM}")
        levels.append(_level(match))
        at = match.end()
        if at == len(path):
            break
        if path[at] != ".":
            raise ValueError(f"{path} is no DICOM keyword or tag; {_FORM}")
        at += 1
    for level in levels[:-1]:
        if level.vr not in ("SQ", ""):
            raise ValueError(f"{_name(level)} is not a sequence")
    return tuple(levels)


def canonical(path: str) -> str:
    """Return the one spelling of a path that all its spellings have in common; one that is no path stays as it is."""
    try:
        return _spelled(parse(path))
    except ValueError:
        return path


@lru_cache(maxsize=4096)
def is_plain(path: str) -> bool:
    """Whether it is made of keywords or tags of the standard, and first items only."""
    try:
        levels = parse(path)
    except ValueError:
        return False
    return all(not level.creator and level.number < 2 for level in levels[:-1]) and not levels[-1].creator and not levels[-1].number


@lru_cache(maxsize=4096)
def is_scanned(path: str) -> bool:
    """Whether its value is known of an arriving object: it is plain, and no sequence."""
    return is_plain(path) and parse(path)[-1].vr != "SQ"


@lru_cache(maxsize=4096)
def is_value(path: str) -> bool:
    """Whether it names something that has a value: no sequence, and no item of one."""
    try:
        last = parse(path)[-1]
    except ValueError:
        return False
    return last.vr != "SQ" and not last.number


def _level(match: re.Match[str]) -> Level:
    number = int(match["number"] or 0)
    if match["keyword"]:
        tag = tag_for_keyword(match["keyword"])
        if tag is None:
            raise Unknown(match["keyword"])
        return Level(int(tag), "", number)
    if match["creator"]:
        group = int(match["odd"], 16)
        if not group % 2:
            raise ValueError(f"group {match['odd']} is even: a private attribute has an odd one")
        return Level(group << 16 | int(match["offset"], 16), match["creator"], number)
    tag = int(match["group"], 16) << 16 | int(match["element"], 16)
    if (tag >> 16) % 2:
        raise ValueError(f'({match["group"]},{match["element"]}) is private: name it with its creator, such as (0029,"CREATOR",10)')
    if not keyword_for_tag(tag):
        raise ValueError(f"({match['group']},{match['element']}) is not in the data dictionary")
    return Level(tag, "", number)


def _spelled(levels: tuple[Level, ...]) -> str:
    last = len(levels) - 1
    return ".".join(
        _name(level) + (f"[{level.number}]" if level.number > 1 or (level.number and at == last) else "") for at, level in enumerate(levels)
    )


def _name(level: Level) -> str:
    if level.creator:
        return f'({level.tag >> 16:04X},"{level.creator}",{level.tag & 0xFF:02X})'
    return keyword_for_tag(level.tag)
