"""What the RIS asks of a store: the seam between pure rules and a database."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol, TypeVar

E = TypeVar("E")


class Records(Protocol):
    """The RIS entities inside one transaction; positional-only, so that a field named `kind` can be matched."""

    def get(self, kind: type[E], id: int, /) -> E:
        """Return the entity with this id; raises LookupError."""

    def one(self, kind: type[E], /, **match: object) -> E | None:
        """Return the entity with the lowest id whose fields equal `match`, or None."""

    def find(self, kind: type[E], /, **match: object) -> list[E]:
        """Return the entities whose fields equal `match`, by id; a value of None matches NULL."""

    def among(self, kind: type[E], field: str, values: Collection[str], /) -> list[E]:
        """Return the entities whose field is one of these texts, by id."""

    def between(self, kind: type[E], field: str, low: str, high: str, /, **match: object) -> list[E]:
        """Return the entities with low <= field <= high (as text) and `match`, by that field, then id."""

    def add(self, entity: E) -> E:
        """Insert the entity and return it with its id."""

    def update(self, entity: E) -> None:
        """Write the entity over the row of its id."""

    def number(self, sequence: str) -> int:
        """Return the next number of a named sequence, starting with 1, without gaps inside one transaction."""
