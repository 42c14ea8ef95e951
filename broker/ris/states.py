"""What may follow what: the legal transitions of orders, exams, steps, performed steps and reports.

A pair that is in no table is refused. An event that leaves the state as it is stands there on purpose: its repetition is harmless.
"""

from __future__ import annotations

from collections.abc import Mapping

from broker.errors import MessageError

Table = Mapping[tuple[str, str], str]

NEW = ""  # the state before the first event

# Order status, HL7 table 0038: SC scheduled, IP in process, CM completed, CA cancelled, DC discontinued, HD on hold.
ORDER: Table = {
    (NEW, "place"): "SC",
    ("SC", "arrive"): "SC",
    ("SC", "change"): "SC",
    ("SC", "hold"): "HD",
    ("SC", "cancel"): "CA",
    ("SC", "discontinue"): "DC",
    ("SC", "start"): "IP",
    ("HD", "change"): "HD",
    ("HD", "hold"): "HD",
    ("HD", "release"): "SC",
    ("HD", "cancel"): "CA",
    ("HD", "discontinue"): "DC",
    ("HD", "start"): "IP",  # the modality has begun in spite of the hold
    ("IP", "start"): "IP",
    ("IP", "change"): "IP",
    ("IP", "discontinue"): "DC",
    ("IP", "reschedule"): "SC",  # begun by mistake: a wrong worklist entry was chosen
    ("IP", "complete"): "CM",
    ("CM", "start"): "CM",  # more images of a completed exam
    ("CM", "complete"): "CM",
    ("CA", "cancel"): "CA",
    ("CA", "discontinue"): "CA",
    ("DC", "cancel"): "DC",
    ("DC", "discontinue"): "DC",
    ("DC", "start"): "IP",  # another attempt after a discontinued one
    ("DC", "complete"): "CM",  # the placer gave it up while the modality was finishing it
}

EXAM: Table = {
    (NEW, "schedule"): "scheduled",
    (NEW, "start"): "in_progress",  # unscheduled: known from the modality alone
    ("scheduled", "arrive"): "arrived",
    ("scheduled", "change"): "scheduled",
    ("scheduled", "hold"): "on_hold",
    ("scheduled", "cancel"): "cancelled",
    ("scheduled", "discontinue"): "cancelled",  # nothing was begun
    ("scheduled", "start"): "in_progress",
    ("arrived", "arrive"): "arrived",
    ("arrived", "change"): "arrived",
    ("arrived", "hold"): "on_hold",
    ("arrived", "cancel"): "cancelled",
    ("arrived", "discontinue"): "cancelled",
    ("arrived", "start"): "in_progress",
    ("on_hold", "change"): "on_hold",
    ("on_hold", "hold"): "on_hold",
    ("on_hold", "release"): "scheduled",
    ("on_hold", "cancel"): "cancelled",
    ("on_hold", "discontinue"): "cancelled",
    ("on_hold", "start"): "in_progress",
    ("in_progress", "start"): "in_progress",
    ("in_progress", "change"): "in_progress",
    ("in_progress", "complete"): "completed",
    ("in_progress", "discontinue"): "discontinued",
    ("in_progress", "reschedule"): "scheduled",  # begun by mistake
    ("in_progress", "replace"): "replaced",  # unscheduled, and now its order's exam is known
    ("completed", "start"): "completed",
    ("completed", "complete"): "completed",
    ("completed", "replace"): "replaced",
    ("discontinued", "start"): "in_progress",
    ("discontinued", "complete"): "completed",
    ("discontinued", "replace"): "replaced",
    ("discontinued", "discontinue"): "discontinued",
    ("discontinued", "cancel"): "discontinued",
    ("cancelled", "cancel"): "cancelled",
    ("cancelled", "discontinue"): "cancelled",
}

# A hold is the exam's: its steps keep their slots, and the worklist leaves them out.
STEP: Table = {
    (NEW, "schedule"): "scheduled",
    ("scheduled", "change"): "scheduled",
    ("scheduled", "arrive"): "arrived",
    ("scheduled", "cancel"): "cancelled",
    ("scheduled", "start"): "started",
    ("arrived", "change"): "arrived",
    ("arrived", "arrive"): "arrived",
    ("arrived", "cancel"): "cancelled",
    ("arrived", "start"): "started",
    ("started", "start"): "started",
    ("started", "complete"): "completed",
    ("started", "discontinue"): "discontinued",
    ("started", "reschedule"): "scheduled",
    ("completed", "start"): "completed",
    ("completed", "complete"): "completed",
    ("completed", "discontinue"): "completed",  # a later attempt was given up, what was done stays done
    ("discontinued", "start"): "started",
    ("discontinued", "complete"): "completed",
    ("discontinued", "discontinue"): "discontinued",
}

# Performed procedure step, PS3.4 F.7: once completed or discontinued it may no longer be changed.
PERFORMED: Table = {
    (NEW, "IN PROGRESS"): "IN PROGRESS",
    ("IN PROGRESS", "IN PROGRESS"): "IN PROGRESS",
    ("IN PROGRESS", "COMPLETED"): "COMPLETED",
    ("IN PROGRESS", "DISCONTINUED"): "DISCONTINUED",
}

# The report status of an exam; events are the statuses a report is sent with. Every version is kept. A preliminary one after a
# final one is refused: passed on, it would hide the signed text from whoever shows the latest.
REPORT: Table = {
    (NEW, "preliminary"): "preliminary",
    (NEW, "final"): "final",
    (NEW, "corrected"): "corrected",  # the versions before it were never sent to us
    ("preliminary", "preliminary"): "preliminary",
    ("preliminary", "final"): "final",
    ("preliminary", "corrected"): "corrected",
    ("preliminary", "cancelled"): "cancelled",
    ("final", "final"): "final",
    ("final", "corrected"): "corrected",
    ("final", "cancelled"): "cancelled",
    ("corrected", "corrected"): "corrected",
    ("corrected", "final"): "corrected",  # final once more with another text is one more correction
    ("corrected", "cancelled"): "cancelled",
    ("cancelled", "preliminary"): "preliminary",
    ("cancelled", "final"): "final",
    ("cancelled", "corrected"): "corrected",
    ("cancelled", "cancelled"): "cancelled",
}

# Whether the images of an exam are all here; a further one reopens what was decided.
IMAGES: Table = {
    (NEW, "store"): "open",
    ("open", "store"): "open",
    ("open", "complete"): "complete",
    ("open", "fall_short"): "incomplete",
    ("incomplete", "store"): "open",
    ("incomplete", "complete"): "complete",
    ("incomplete", "fall_short"): "incomplete",
    ("complete", "store"): "open",
}

# Where an archive says the images are, Instance Availability (0008,0056); it may say something else later.
_READINESS = ("ONLINE", "NEARLINE", "OFFLINE", "UNAVAILABLE")
AVAILABILITY: Table = {(before, said): said for before in (NEW, *_READINESS) for said in _READINESS}

TABLES: Mapping[str, Table] = {
    "order": ORDER,
    "exam": EXAM,
    "step": STEP,
    "performed": PERFORMED,
    "report": REPORT,
    "images": IMAGES,
}


def next_state(table: Table, state: str, event: str, path: str = "", *, code: int = 207) -> str:
    """Return the state after `event`; raises MessageError with `path` and `code` when the table does not know the pair."""
    try:
        return table[state, event]
    except KeyError:
        raise MessageError(path, f"{event} is not possible in state {state or 'new'}", code) from None


def allows(table: Table, state: str, event: str) -> bool:
    """Return whether `event` may happen in `state`."""
    return (state, event) in table


def mermaid(table: Table) -> str:
    """Return the table as a Mermaid state diagram; states that no event leaves end in [*]."""
    alias = {state: state.replace(" ", "_") for pair, after in table.items() for state in (pair[0], after)}
    lines = [f'state "{state}" as {name}' for state, name in alias.items() if name != state]
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, event), after in table.items():
        arrows.setdefault((alias[state] or "[*]", alias[after]), []).append(event)
    lines += [f"{before} --> {after}: {', '.join(events)}" for (before, after), events in arrows.items()]
    left = {before for before, after in arrows if before != after}
    lines += [f"{name} --> [*]" for name in dict.fromkeys(alias.values()) if name and name not in left]
    return "\n    ".join(["stateDiagram-v2", *lines]) + "\n"
