"""The files a configuration was read from: what tells one configuration from another, and whether its folder has changed since."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from broker.config.files import read_text
from broker.errors import Problem

Role = Literal["runs", "cases", "secret"]

CHANNELS = "channels.yaml"  # the name of the channels file among the sources, however its own is


@dataclass(frozen=True, slots=True)
class Source:
    """One file, as it was read."""

    name: str  # from the folder of channels.yaml, "routes/orders.yaml"; the path of a secret
    text: str
    role: Role = "runs"  # `cases` change nothing that runs; a `secret` (`${file:…}`) is kept nowhere and never shown

    @property
    def digest(self) -> str:
        """Return what tells this content from another; of a secret "", as a short one could be guessed from it."""
        return "" if self.role == "secret" else _digest(self.text.encode())


def digest(sources: Iterable[Source]) -> str:
    """Return what tells the whole from any other: 12 hex digits over all files that run."""
    return fingerprint({source.name: source.digest for source in sources if source.role == "runs"})


def fingerprint(files: Mapping[str, str]) -> str:
    """Return 12 hex digits over names and digests."""
    return _digest("".join(f"{name}\0{one}\n" for name, one in sorted(files.items())).encode())[:12]


def differing(channels: Path, sources: Iterable[Source]) -> dict[str, str]:
    """Return the files beside this channels file that are other than what was read: name -> digest of what is there now; blocks.

    The digest of one that is gone or cannot be read is "".
    """
    folder = channels.absolute().parent
    sources = [source for source in sources if source.role != "cases"]
    tables = {Path(source.name).parent for source in sources if source.name.endswith(".csv")}
    names = {source.name for source in sources} | {str(place / file.name) for place in tables for file in (folder / place).glob("*.csv")}
    before = {source.name: source.text for source in sources}
    now = {name: read_text(channels if name == CHANNELS else folder / name, name) for name in sorted(names)}
    return {name: "" if isinstance(text, Problem) else _digest(text.encode()) for name, text in now.items() if text != before.get(name)}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
