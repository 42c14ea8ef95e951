"""The places that paths with `[*]` name: a step that works on one value works on each of them by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from broker.hl7.message import Message
from broker.pipeline.compilation import Compilation

EVERY = "[*]"

Pairs = Callable[[Any], Sequence[tuple[str, str]]]  # subject -> where a value is read, and where it is written


def compile_pairs(source: str, target: str, compilation: Compilation, *key: str | int) -> Pairs:
    """Return where values are read and written; `[*]` in the source stands for the same numbers in the target.

    A source that names one place and a target with `[*]` write the one value everywhere.
    """
    here, there = source.count(EVERY), target.count(EVERY)
    if here and here != there:
        compilation.mistakes.add(f"{source} names several places, and {target} not as many", "write [*] in both, or in none", key=key)
    if not here or here != there:
        fixed = ((source, target),)
        return lambda subject: fixed

    def pairs(message: Message) -> list[tuple[str, str]]:
        return [(_filled(source, numbers), _filled(target, numbers)) for numbers in _numbers(message, source)]

    return pairs


def places(message: Message, path: str) -> list[str]:
    """Return the path of each place that a path names, in the order of the message."""
    return [_filled(path, numbers) for numbers in _numbers(message, path)] if EVERY in path else [path]


def _numbers(message: Message, path: str) -> Iterator[tuple[int, ...]]:
    head, star, tail = path.partition(EVERY)
    if not star:
        yield ()
        return
    for number in range(1, _count(message, head) + 1):
        for rest in _numbers(message, f"{head}[{number}]{tail}"):
            yield (number, *rest)


def _count(message: Message, head: str) -> int:
    """Return how many segments or repetitions there are of what stands before a `[*]`."""
    return len(message.all(head + EVERY)) if "-" in head else len(message.segments(head))


def _filled(path: str, numbers: tuple[int, ...]) -> str:
    for number in numbers:
        path = path.replace(EVERY, f"[{number}]", 1)
    return path
