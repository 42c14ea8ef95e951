"""What the rules are given besides the records: the time, the site, and where new identifiers come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

PROCEDURE_FORMAT = "RP{number:08d}"  # requested procedure id
STEP_FORMAT = "SPS{number:08d}"  # scheduled procedure step id


@dataclass(frozen=True, slots=True)
class Station:
    """One modality that can be booked: its AE title, kind, room, and opening hours (HHMM; "2400" is midnight). Raises ValueError."""

    aet: str
    modality: str
    room: str = ""
    opens: str = "0800"
    closes: str = "1800"

    def __post_init__(self) -> None:
        for time in (self.opens, self.closes):
            if len(time) != 4 or not time.isdigit() or time > "2400" or time[2:] > "59":
                raise ValueError(f"station {self.aet}: {time!r} is no time of day (HHMM)")
        if self.opens >= self.closes:
            raise ValueError(f"station {self.aet}: it closes before it opens")


@dataclass(frozen=True, slots=True)
class SlotRules:
    """How slots are sought."""

    grid: int = 5  # minutes; a search that begins now begins at the next full step
    horizon: int = 60  # days looked ahead; a station with no slot in them is not booked
    urgent: tuple[str, ...] = ("STAT", "ASAP")  # priorities that take the first slot from now, whatever time was asked for


@dataclass(frozen=True, slots=True)
class Completion:
    """When the images of an exam count as complete (`broker.ris.completeness`)."""

    by: tuple[str, ...] = ("performed", "commitment", "query", "quiet")  # the evidence that counts
    quiet: float = 900.0  # seconds without a further image
    performing: float = 14400.0  # the same, while a performed procedure step is in progress


@dataclass(frozen=True, slots=True)
class RisContext:
    """Time, site and identifier sources of one request.

    The formats are filled with the next number of their sequence; what they give is at most 16 characters (DICOM SH), else a
    MessageError is raised when one is made.
    """

    now: str  # YYYYMMDDHHMM[SS], the site's time zone
    at: float  # the same instant, seconds since the epoch
    message_id: int
    authority: str  # assigning authority of identifiers that name none
    new_uid: Callable[[], str]
    accession_format: str = "A{number:08d}"
    stations: tuple[Station, ...] = ()
    slots: SlotRules = field(default_factory=SlotRules)
    procedure_format: str = PROCEDURE_FORMAT
    step_format: str = STEP_FORMAT
    completion: Completion = field(default_factory=Completion)
