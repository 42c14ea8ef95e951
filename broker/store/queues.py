"""What the queues hold, by destination."""

from __future__ import annotations

from collections.abc import Collection

from broker.store.engine import Transaction

_COUNT = "select destination, count(*) from delivery where state = '{}' group by destination"


def held(tx: Transaction) -> dict[str, tuple[int, int]]:
    """Return how many deliveries are waiting and how many parked, of each destination that has any."""
    waiting: dict[str, int] = dict(tx.all(_COUNT.format("waiting")))
    parked: dict[str, int] = dict(tx.all(_COUNT.format("parked")))
    return {name: (waiting.get(name, 0), parked.get(name, 0)) for name in sorted({*waiting, *parked})}


def holding(tx: Transaction, destinations: Collection[str]) -> list[str]:
    """Return which of these destinations have a delivery that is waiting or parked."""
    return [
        name
        for name in destinations
        if tx.one("select id from delivery where state = 'waiting' and destination = ? limit 1", (name,))
        or tx.one("select id from delivery where state = 'parked' and destination = ? limit 1", (name,))
    ]
