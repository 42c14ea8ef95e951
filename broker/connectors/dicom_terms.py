"""How worklist queries are answered: the options of a listener, and those that a peer may have of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.connectors.base import WorklistTerms
from broker.pipeline.shape import Mistakes, check_options
from broker.spec import Option

OPTIONS = (
    Option("most", "integer", "Most entries of one answer; a query that more of them match ends with 0xA700.", default=1000, example=500),
    Option("started", "boolean", "Whether steps that have begun are listed too.", default=False, example=True),
    Option("past", "duration", "How long before today the oldest entry may be, whatever a query asks for.", default=None, example="1d"),
    Option("ahead", "duration", "How long after today the last entry may be.", default=None, example="14d"),
)
OF_PEER = (
    *OPTIONS,
    Option(
        "stations",
        "texts",
        "The stations whose steps this caller is shown: those of them that its query names, else all of them.",
        default=(),
        example=["CT1", "CT2"],
    ),
    Option("modality", "text", "The modality of its queries that name none.", default="", example="CT"),
)
_BY_NAME = {option.name: option for option in OF_PEER}


def check_worklist(value: Any) -> str:
    """Return what is wrong with a peer's `worklist`, and what to write instead; "" when nothing is."""
    mistakes = Mistakes()
    check_options(OF_PEER, value, mistakes)
    if not mistakes.found and value.get("most", 1) < 1:
        mistakes.add("most: write a whole number from 1 on")
    return "; ".join(" ".join(filter(None, (*map(str, one.place), one.what, one.instead))) for one in mistakes.found)


def read_worklist(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what is said of a peer's worklist, as `WorklistTerms` has it."""
    return {name: _BY_NAME[name].read(one) for name, one in value.items()}


def terms_of(listener: Mapping[str, Any], charset: tuple[str, ...], unencodable: str, peer: Mapping[str, Any]) -> WorklistTerms:
    """Return the terms of a peer: the listener's, where it has none of its own."""
    return WorklistTerms(charset, unencodable, **{**listener, **peer})
