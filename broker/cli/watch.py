"""Files that are looked at again and again: which of them have changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path

PAUSE = 0.5  # seconds between two looks


class Watched:
    """What the files were like when they were looked at last; folders count by what is in them."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[int, ...]] = {}

    def look(self, files: Iterable[Path]) -> set[Path]:
        """Return which of these files are other than at the last look, new or gone."""
        now = {file: _state(file) for file in files}
        changed = {file for file, state in now.items() if file in self._seen and self._seen[file] != state}
        self._seen |= now
        return changed

    def wait(self, files: Collection[Path], pause: Callable[[float], object]) -> set[Path]:
        """Return which files have changed, once some have."""
        while True:
            pause(PAUSE)
            if changed := self.look(files):
                return changed


def _state(file: Path) -> tuple[int, ...]:
    try:
        if file.is_dir():
            return tuple(sorted(hash(one.name) for one in file.iterdir()))
        found = file.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size
