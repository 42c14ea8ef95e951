"""Which channels a message runs through, and what the events it raised set off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from broker.config.models import RIS, Channel
from broker.engine.passage import Passage
from broker.errors import MessageError
from broker.model import Outgoing
from broker.pipeline.context import AnySubject, Outcome
from broker.pipeline.header import Header
from broker.pipeline.route import WHEN
from broker.pipeline.subject import EventSubject


@dataclass(slots=True)
class Routed:
    """What became of a message that went through its channels without a mistake."""

    channels: list[str] = field(default_factory=list)  # that accepted it, RIS channels too
    dropped: list[str] = field(default_factory=list)  # of these, that dropped it on purpose
    outgoing: list[Outgoing] = field(default_factory=list)
    reason: str = ""  # why it was dropped or held
    held: bool = False
    accession: str = ""

    def add(self, channel: str, outcome: Outcome) -> None:
        """Take in what one channel did."""
        self.channels.append(channel)
        self.outgoing += outcome.outgoing
        self.accession = outcome.accession or self.accession
        self.held = self.held or bool(outcome.held)
        self.reason = outcome.held or outcome.dropped or self.reason
        if outcome.dropped:
            self.dropped.append(channel)


class Router:
    """The channels by what feeds them. A message runs through every channel that accepts it, in the order of the file."""

    def __init__(self, channels: Sequence[Channel]) -> None:
        self.channels = tuple(channels)
        self._by_source: Mapping[str, tuple[Channel, ...]] = {
            source: tuple(channel for channel in channels if channel.source == source)
            for source in {channel.source for channel in channels}
        }
        self._special = {channel.source for channel in channels if channel.route.answer != "processed"}

    def answering(self, listener: str, subject: AnySubject) -> tuple[str, float]:
        """Return when the sender of a message is answered, and how many seconds it waits for deliveries at most.

        Of several channels that accept it, the latest counts.
        """
        if listener not in self._special:
            return "processed", 0.0
        accepting = [channel.route for channel in self._by_source[listener] if channel.route.accepts(subject)]
        latest = max((route.answer for route in accepting), key=WHEN.index, default="processed")
        return latest, max((route.patience for route in accepting), default=0.0)

    def route(self, listener: str, subject: AnySubject, passage: Passage) -> Routed | None:
        """Run the message through its channels, then its events through those that hear of them.

        None: no channel accepts it. Raises MessageError; the caller then undoes all that was done to the store.
        """
        routed: Routed | None = None
        for channel in self._by_source.get(listener, ()):
            if channel.route.accepts(subject):
                routed = routed or Routed()
                routed.add(channel.name, channel.route.run(subject, passage))
        if routed is not None:
            self.tell(passage, routed)
            if routed.accession and isinstance(subject, Header):
                # a channel that only passes an MPPS on does not know what another one has found: an N-SET names no accession number
                routed.outgoing = [one if one.accession else replace(one, accession=routed.accession) for one in routed.outgoing]
        return routed

    def tell(self, passage: Passage, routed: Routed) -> None:
        """Run the events of the passage through the channels that hear of them."""
        listening = self._by_source.get(RIS, ())
        for event in passage.events if listening else ():
            context = passage.of(event)
            subject = EventSubject(context.view())
            for channel in listening:
                if channel.route.accepts(subject):
                    try:
                        routed.add(channel.name, channel.route.run(subject, context))
                    except MessageError as error:
                        # the sender's message is in order: what fails is what it sets off, so its fields are not to blame
                        raise MessageError("", f"channel {channel.name}, event {event.name}: {error}", error.code) from error
