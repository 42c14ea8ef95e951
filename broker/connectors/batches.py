"""A batch or a file of messages handed to an intake, each message for itself and in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from twisted.internet.defer import Deferred, ensureDeferred

from broker.hl7.ack import own_text, read_answer
from broker.hl7.batch import Batch, Tally, parts
from broker.hl7.tables import REFUSED

OUTSTANDING = 64  # messages of one batch that wait for their answer at a time


@dataclass(slots=True)
class Taken:
    """What became of the messages of a batch; all of them are durable."""

    tally: Tally
    messages: int = 0
    refused: list[str] = field(default_factory=list)  # "message 3: AE OBR-4.1: not in table procedures"; no patient data
    faults: list[str] = field(default_factory=list)  # of headers and trailers


class _Waiting(NamedTuple):
    number: int
    batch: Batch
    answer: Deferred[bytes]


def take(raw: bytes, receive: Callable[[bytes], Deferred[bytes]]) -> Deferred[Taken]:
    """Fire once every message was answered; fails, as `receive` does, with StoreError when one could not be kept."""
    return ensureDeferred(_take(raw, receive))


async def _take(raw: bytes, receive: Callable[[bytes], Deferred[bytes]]) -> Taken:
    taken, waiting = Taken(Tally()), deque[_Waiting]()
    try:
        for part in parts(raw):
            batch = taken.tally.see(part)
            if batch is None:
                continue
            taken.messages += 1
            waiting.append(_Waiting(taken.messages, batch, receive(part.raw)))
            if len(waiting) >= OUTSTANDING:
                await _answered(taken, waiting.popleft())
        while waiting:
            await _answered(taken, waiting.popleft())
    finally:
        for one in waiting:  # only after a failure, which has been told
            one.answer.addErrback(lambda _: None)
    taken.faults = taken.tally.close()
    return taken


async def _answered(taken: Taken, waiting: _Waiting) -> None:
    answer = await waiting.answer
    if not answer:
        return  # none is due
    waiting.batch.answers.append(answer)
    said = read_answer(answer)
    if said.code in REFUSED:
        taken.refused.append(f"message {waiting.number}: {said.code} {own_text(answer) or said.text}".rstrip())
