"""The associations of one destination: opened as deliveries ask for them, shared, kept for a while, and closed."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.python.failure import Failure

from broker.connectors.dicom_identity import identity_of
from broker.connectors.dicom_requestor import Requestor
from broker.dicom.negotiation import MOST_CONTEXTS, NO_REASON, Context, Offer, Request, Window
from broker.errors import Retry

_WHY = {1: "user rejection", 2: "no reason", 3: "SOP class not supported", 4: "transfer syntax not supported"}

BELIEVED = 60.0  # seconds after which a peer that allowed no more associations is asked for another one
Open = Callable[[Request], tuple[Requestor, Deferred[Requestor]]]  # begins to open an association


@dataclass(frozen=True, slots=True)
class Need:
    """What an association must have been asked for: a SOP class in each of these transfer syntaxes."""

    sop_class: str
    syntaxes: tuple[str, ...]


@dataclass(eq=False, slots=True)
class Link:
    """One open association."""

    requestor: Requestor
    room: int  # requests that may be under way at once
    busy: int = 0
    leaving: bool = False  # it gets no more of them, as another one is needed in its place
    used: int = 0  # requests that were sent before
    lingering: Any = None  # the delayed call that releases it
    _suited: dict[Need, bool] = field(default_factory=dict)

    def suits(self, need: Need) -> bool:
        """Whether it was asked for all that is needed."""
        known = self._suited.get(need)
        if known is None:
            known = self._suited[need] = all(self.requestor.proposed(need.sop_class, syntax) for syntax in need.syntaxes)
        return known

    def contexts(self, need: Need) -> list[Context]:
        """Return what the peer accepted of it, the best first."""
        found = (self.requestor.context_for(need.sop_class, syntax) for syntax in need.syntaxes)
        return [context for context in found if context is not None]

    def refusals(self, need: Need) -> str:
        """Return, for people, what was offered and why it was refused."""
        refused = self.requestor.answered.refused if self.requestor.answered else {}
        why = {o.syntaxes[0]: refused.get(o.id) for o in self.requestor.request.offers if o.abstract == need.sop_class}
        accepted = {context.syntax for context in self.contexts(need)}
        return "; ".join(
            f"transfer syntax {syntax}: {'accepted' if syntax in accepted else _WHY.get(why.get(syntax) or NO_REASON, 'no reason')}"
            for syntax in need.syntaxes
        )


@dataclass(eq=False, slots=True)
class _Waiting:
    need: Need
    found: Deferred[Link] = field(default_factory=Deferred)


class Pool:
    """At most so many associations with one peer.

    One that cannot be opened while others are open is no failure: the peer allows no more, and what waits takes turns.
    """

    def __init__(self, settings: Mapping[str, Any], clock: Any, begin: Open) -> None:
        self._settings, self._clock, self._begin = settings, clock, begin
        self._links: list[Link] = []
        self._opening: dict[Requestor, Deferred[Requestor]] = {}
        self._closing: set[Deferred[None]] = set()
        self._waiting: deque[_Waiting] = deque()
        self._limit, self._limited_until = 0, 0.0  # how many the peer allows, and until when that is believed
        self._known: OrderedDict[Need, None] = OrderedDict()  # what was needed, the latest last
        self.room = 1  # requests that the peer lets be under way at once on an association, as far as is known
        self.on_change: Callable[[int], None] = lambda count: None  # hears how many associations are open

    def borrow(self, need: Need) -> Deferred[Link]:
        """Fire with an association that has room, and was asked for what is needed; fails with Retry. It must be given back."""
        self._known[need] = None
        self._known.move_to_end(need)
        while len(self._known) > MOST_CONTEXTS:
            self._known.popitem(last=False)
        waiting = _Waiting(need)
        self._waiting.append(waiting)
        self._pump()
        return waiting.found

    def give_back(self, link: Link, *, broken: bool = False) -> None:
        """A request is done with; a broken association is used no more."""
        link.busy -= 1
        link.used += 1
        if link in self._links:
            if broken:
                self._remove(link)
                link.requestor.abandon()
            elif not link.busy and link.leaving:
                self._release(link)
            elif not link.busy:
                link.lingering = self._clock.callLater(self._settings["linger"], self._release, link)
        self._pump()

    def close(self) -> Deferred[None]:
        """Release all; what waits for an association or for it to open fails with Retry. `borrow` opens new ones."""
        waiting, self._waiting = self._waiting, deque()
        for one in waiting:
            one.found.errback(Retry("closed before it was sent"))
        for requestor, opening in tuple(self._opening.items()):
            requestor.abandon()
            opening.cancel()
        for link in tuple(self._links):
            self._release(link)
        return DeferredList([_after(one) for one in self._closing]).addCallback(lambda _: None) if self._closing else succeed(None)

    # who gets what

    def _pump(self) -> None:
        """Give what has room to those that wait, the first first; associations with the least under way come first."""
        while self._waiting:
            with_room = [link for link in self._links if link.busy < link.room and not link.leaving and link.requestor.is_open]
            with_room.sort(key=lambda link: link.busy)
            pair = next(((link, one) for one in self._waiting for link in with_room if link.suits(one.need)), None) if with_room else None
            if pair is None:
                self._open_more()
                return
            link, one = pair
            self._waiting.remove(one)
            link.busy += 1
            if link.lingering is not None:
                link.lingering.cancel()
                link.lingering = None
            one.found.callback(link)

    def _open_more(self) -> None:
        """Open an association for each that waits; one that was not asked for what is needed now makes place."""
        for one in tuple(self._waiting)[len(self._opening) :]:
            if one not in self._waiting:  # it failed with one that could not be opened
                continue
            full = len(self._links) + len(self._opening) >= self._allowed()
            served = any(link.suits(one.need) and not link.leaving for link in self._links)  # before long
            if full and (served or not self._makes_place()):
                continue
            self._dial(one.need)

    def _allowed(self) -> int:
        limited = self._links and self._clock.seconds() < self._limited_until
        return self._limit if limited else int(self._settings["associations"])

    def _makes_place(self) -> bool:
        """Release an idle association, or let one come to its end that others would keep busy for ever."""
        if not self._links:
            return False
        link = min(self._links, key=lambda link: (not link.leaving, link.busy))
        if link.busy:
            link.leaving = True
            return False
        self._release(link)
        return True

    def _dial(self, need: Need) -> None:
        settings = self._settings
        window = Window(settings["operations"], 1)
        request = Request(
            settings["calling_ae_title"],
            settings["ae_title"],
            self._offers(need),
            settings["max_pdu"],
            window=window,
            identity=identity_of(settings),
        )
        requestor, opening = self._begin(request)
        self._opening[requestor] = opening
        requestor.closed.addCallback(lambda _: self._gone(requestor))
        opening.addCallbacks(self._opened, self._not_opened, errbackArgs=(requestor,))

    def _offers(self, need: Need) -> tuple[Offer, ...]:
        """Return what is needed now, and what was needed lately as far as there is room, each transfer syntax in a context of its own."""
        wanted: dict[tuple[str, str], None] = {}
        waiting = [one.need for one in self._waiting]
        for one in (need, *waiting, *reversed(self._known)):
            pairs = {(one.sop_class, syntax): None for syntax in one.syntaxes}
            if len(wanted.keys() | pairs.keys()) > MOST_CONTEXTS:
                break
            wanted.update(pairs)
        return tuple(Offer(2 * at + 1, sop_class, (syntax,)) for at, (sop_class, syntax) in enumerate(wanted))

    # their lives

    def _opened(self, requestor: Requestor) -> None:
        self._opening.pop(requestor, None)
        granted = requestor.answered.window.invoked if requestor.answered else 1
        asked = self._settings["operations"]
        self.room = min(granted or asked, asked)
        link = Link(requestor, self.room)
        self._links.append(link)
        self.on_change(len(self._links))
        self._pump()
        if not link.busy and link.lingering is None and link in self._links:  # who it was for is gone, or was served by another
            link.lingering = self._clock.callLater(self._settings["linger"], self._release, link)

    def _not_opened(self, failure: Failure, requestor: Requestor) -> None:
        self._opening.pop(requestor, None)
        if self._links:
            self._limit, self._limited_until = len(self._links), self._clock.seconds() + BELIEVED
            self._pump()
            return
        waiting, self._waiting = self._waiting, deque()
        for one in waiting:
            one.found.errback(failure.value)

    def _gone(self, requestor: Requestor) -> None:
        for link in tuple(self._links):
            if link.requestor is requestor:
                self._remove(link)
                self._pump()

    def _remove(self, link: Link) -> None:
        self._links.remove(link)
        if link.lingering is not None and link.lingering.active():
            link.lingering.cancel()
        link.lingering = None
        self.on_change(len(self._links))

    def _release(self, link: Link) -> None:
        """Release an association; nobody gets it any more."""
        self._remove(link)
        closing: Deferred[None] = Deferred()
        self._closing.add(closing)
        link.requestor.closed.addCallback(lambda _: self._closed(closing))
        link.requestor.release()

    def _closed(self, closing: Deferred[None]) -> None:
        self._closing.discard(closing)
        closing.callback(None)


def _after(one: Deferred[None]) -> Deferred[None]:
    """Return a Deferred of one's own that fires with another."""
    done: Deferred[None] = Deferred()

    def passed(result: None) -> None:
        done.callback(None)

    one.addCallback(passed)
    return done
