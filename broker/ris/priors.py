"""Prior studies: which of a patient's earlier studies a radiologist wants beside a new exam, the most relevant first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

ANY = "*"


@dataclass(frozen=True, slots=True)
class Kind:
    """A modality and a body part, either of which may be "*"."""

    modality: str = ANY
    body_part: str = ANY

    def covers(self, study: Study) -> bool:
        """Whether a study is of this kind."""
        return (self.modality == ANY or self.modality in study.modalities) and self.body_part in (ANY, study.body_part)


@dataclass(frozen=True, slots=True)
class Study:
    """One study of the patient as an archive knows it."""

    uid: str
    date: str = ""  # YYYYMMDD
    time: str = ""
    modalities: tuple[str, ...] = ()
    body_part: str = ""  # by the table of body parts
    instances: int = 0  # 0: not told


@dataclass(frozen=True, slots=True)
class Relevance:
    """What is relevant to what: for a kind of exam, "CT CHEST", the kinds of prior studies, the most relevant first."""

    kinds: Mapping[str, tuple[Kind, ...]]
    body_parts: Mapping[str, str]  # code or words -> body part

    def body_part(self, *texts: str) -> str:
        """Return the body part that the first telling one of these texts (a code, a description) names, "" when none does.

        Of several names in one text the longest counts.
        """
        for text in texts:
            words = f" {_plain(text)} "
            found = [(len(name), part) for name, part in self.body_parts.items() if f" {_plain(name)} " in words]
            if found:
                return max(found)[1]
        return ""

    def wanted(self, modality: str, body_part: str) -> tuple[Kind, ...]:
        """Return the kinds of priors for an exam: of its modality and body part, else of its modality, else of its body part."""
        for name in (f"{modality} {body_part}".strip(), modality, f"{ANY} {body_part}", ANY):
            if name in self.kinds:
                return self.kinds[name]
        return ()

    def choose(self, modality: str, body_part: str, studies: Iterable[Study], *, count: int, since: str = "") -> list[Study]:
        """Return at most `count` studies, the most relevant first and of equals the latest; older than `since` (YYYYMMDD) is none."""
        kinds = self.wanted(modality, body_part)
        rated = []
        for study in studies:
            rank = next((place for place, kind in enumerate(kinds) if kind.covers(study)), None)
            if rank is not None and (not since or not study.date or study.date >= since):
                rated.append((rank, study))
        latest = sorted(rated, key=lambda one: (one[1].date, one[1].time), reverse=True)
        return [study for _, study in sorted(latest, key=lambda one: one[0])[:count]]


def read_kinds(text: str) -> tuple[Kind, ...]:
    """Return the kinds of a cell such as `CT CHEST; CR CHEST; PT`; raises ValueError for one that is no modality and body part."""
    kinds = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        modality, _, body_part = part.partition(" ")
        if not re.fullmatch(r"[A-Z]{2,16}|\*", modality):
            raise ValueError(f"{part} does not begin with a modality")
        kinds.append(Kind(modality, body_part.strip() or ANY))
    return tuple(kinds)


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", text.upper()))
