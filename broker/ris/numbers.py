"""Orders found by their placer and filler numbers."""

from __future__ import annotations

from broker.errors import MessageError
from broker.ris.entities import Order
from broker.ris.records import Records


def find(records: Records, placer_number: str, placer_authority: str = "", filler_number: str = "") -> Order | None:
    """Return the order with this placer number, else with this filler number; raises MessageError at ORC-3 when they name two.

    A placer number without authority finds the order when it is the only one with that number, and the other way round.
    """
    placed = _by_placer(records, placer_number, placer_authority) if placer_number else None
    filled = records.one(Order, filler_number=filler_number) if filler_number else None
    if placed and filled and placed.id != filled.id:
        raise MessageError("ORC-3", "placer and filler number name different orders", 204)
    return placed or (filled if not placer_number or (filled and not filled.placer_number) else None)


def _by_placer(records: Records, number: str, authority: str) -> Order | None:
    known = records.find(Order, placer_number=number)
    exact = [order for order in known if order.placer_authority == authority]
    if exact:
        return exact[0]
    loose = [order for order in known if not authority or not order.placer_authority]
    return loose[0] if len(loose) == 1 else None
