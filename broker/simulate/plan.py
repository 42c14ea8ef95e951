"""A plausible morning, decided from a seed before anything is sent: who comes, what is ordered, and how each exam ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random

from broker.simulate.messages import Envelope, OrderText, ReportText
from broker.simulate.people import RADIOLOGISTS, REFERRERS, Person, invent

# How an exam ends, and in how many of a hundred; each ending happens at least once in a morning of a dozen exams.
ENDINGS = {
    "final": 52,
    "corrected": 6,
    "preliminary": 8,
    "unread": 8,
    "in progress": 5,
    "discontinued": 3,
    "cancelled": 6,
    "waiting": 12,
}
REPORTED = {"final": "PF", "corrected": "PFC", "preliminary": "P"}  # the versions sent, by OBR-25
# the exam's state in the RIS after each ending
STATES = {"in progress": "in_progress", "discontinued": "discontinued", "cancelled": "cancelled", "waiting": "scheduled"}
CHARGED = ("final", "corrected")
PRIORITIES = ("R",) * 7 + ("A",) + ("S",) * 2
KINDS = ("ORM^O01", "ORM^O01", "OMG^O19", "OMI^O23")
CHARSETS = ("UNICODE UTF-8", "UNICODE UTF-8", "8859/1")
OLD_VERSIONS = ("2.3.1", "2.4", "2.5.1")

# What the simulated EHR may order: code, text, reason, ICD-10. The codes are those of the shipped `mappings/procedures.csv`.
Catalogue = Sequence[tuple[str, str, str, tuple[str, str]]]
CATALOGUE: Catalogue = (
    ("CTCHEST", "CT CHEST W CONTRAST", "COUGH & FEVER", ("R05", "Cough")),
    ("CTHEAD", "CT HEAD W/O CONTRAST", "HEADACHE", ("R51", "Headache")),
    ("CTABD", "CT ABDOMEN", "PAIN, RIGHT LOWER QUADRANT", ("R10.31", "Right lower quadrant pain")),
    ("MRBRAIN", "MR BRAIN", "DIZZINESS", ("R42", "Dizziness")),
    ("MRKNEE", "MR KNEE", "MENISCUS?", ("M23.9", "Internal derangement of knee")),
    ("XRCHEST", "XR CHEST 2 VIEWS", "PREOPERATIVE", ("Z01.818", "Preprocedural examination")),
    ("XRHAND", "XR HAND", "FALL", ("S60.9", "Superficial injury of hand")),
    ("USABD", "US ABDOMEN", "GALLSTONES?", ("K80.2", "Calculus of gallbladder")),
    ("MGSCREEN", "MG SCREENING", "SCREENING", ("Z12.31", "Screening mammogram")),
)
UNKNOWN_CODE = "NOSUCHEXAM"
FINDINGS = (
    "No acute abnormality is seen in this simulated examination.",
    "Comparison: none | technique as per protocol \\standard\\.",
    "Invented finding of 4 mm & no consequence.",
    "Density ^ within normal limits ~ unchanged.",
    "Impression: this person and this image do not exist.",
)


@dataclass(frozen=True, slots=True)
class Visit:
    """One patient, one order, and what becomes of it."""

    number: int
    at: datetime  # when the patient is registered
    person: Person
    kind: str  # of the order message
    version: str
    charset: str
    order: OrderText
    ending: str  # one of ENDINGS, or "refused" for a procedure that nobody knows
    images: int = 0
    temporary: str = ""  # the record number the patient had before a merge
    updated: bool = False  # an A08 follows the registration
    changed: bool = False  # an XO follows the order
    repeated: bool = False  # the order is sent twice, as after a lost answer

    def envelope(self, step: int, minutes: int = 0, application: str = "EHR") -> Envelope:
        """Return the envelope of this visit's message number `step`."""
        at = self.at + timedelta(minutes=minutes)
        version = self.version if self.kind == "ORM^O01" else "2.5.1"
        return Envelope(f"{self.order.placer}.{step:02d}", f"{at:%Y%m%d%H%M%S}", application, version=version, charset=self.charset)


@dataclass(frozen=True, slots=True)
class Morning:
    """Everything that will happen, and what it should lead to."""

    seed: int
    start: datetime
    visits: tuple[Visit, ...]
    stray_report: tuple[Person, ReportText, Envelope]  # for an accession nobody knows
    stray_accession: str  # typed in by hand, for one image

    def exams(self) -> Counter[str]:
        """Return how many exams should end in each state of the RIS."""
        return Counter(STATES.get(visit.ending, "completed") for visit in self.visits if visit.ending != "refused")

    def charges(self) -> int:
        """Return how many charges should be posted: completed and finally reported, once each."""
        return sum(visit.ending in CHARGED for visit in self.visits)

    def totals(self) -> dict[str, int]:
        """Return how many of each there will be, for a progress display."""
        scanned = [visit for visit in self.visits if visit.images]
        return {
            "patients": len(self.visits),
            "orders": len(self.visits),
            "exams": len(scanned),
            "images": sum(visit.images for visit in scanned) + 1,
            "reports": sum(len(REPORTED.get(visit.ending, "")) for visit in self.visits) + 1,
        }


def plan(seed: int, exams: int, start: datetime, *, catalogue: Catalogue = CATALOGUE) -> Morning:
    """Return the morning for a seed.

    The same seed and start give the same morning to the byte; another start gives other identifiers, so that a broker can be played a
    second morning.
    """
    random = Random(f"{seed}/{exams}")
    tag = _tag(start)
    visits = [_visit(random, tag, number, start, ending, catalogue) for number, ending in enumerate(_endings(random, exams), 1)]
    visits.append(_refused(random, tag, len(visits) + 1, start, catalogue))
    return Morning(seed, start, tuple(_marked(visits)), _stray_report(random, tag, start), f"X{tag}"[:16])


def report(visit: Visit, accession: str, status: str) -> ReportText:
    """Return one version of a visit's report."""
    lines = [FINDINGS[(visit.number + n) % len(FINDINGS)] for n in range(3)]
    if status == "C":
        lines.append("Corrected: the side was mistaken in the earlier version.")
    author = RADIOLOGISTS[visit.number % len(RADIOLOGISTS)]
    text = visit.order
    return ReportText(accession, text.placer, text.code, text.text, status, author, text.referrer, lines)


def _tag(start: datetime) -> str:
    """Return the start as a few letters and digits, to tell two mornings apart."""
    number, digits = int(start.timestamp()), ""
    while number:
        number, digit = divmod(number, 36)
        digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[digit] + digits
    return digits


def _endings(random: Random, exams: int) -> list[str]:
    """Return an ending for each exam; the first dozen hold each of them."""
    sure = list(ENDINGS) if exams >= len(ENDINGS) else ["final"]
    drawn = random.choices(list(ENDINGS), list(ENDINGS.values()), k=max(0, exams - len(sure)))
    endings = (sure + drawn)[:exams]
    random.shuffle(endings)
    return endings


def _visit(random: Random, tag: str, number: int, start: datetime, ending: str, catalogue: Catalogue) -> Visit:
    person = invent(random, f"SIM{tag}{number:04d}", start.date())
    code, text, reason, diagnosis = random.choice(catalogue)
    at = start + timedelta(minutes=4 * number + random.randrange(4))
    order = OrderText(
        placer=f"P{tag}{number:04d}",
        code=code,
        text=text,
        priority=random.choice(PRIORITIES),
        requested_at=f"{at + timedelta(minutes=30):%Y%m%d%H%M}",
        referrer=random.choice(REFERRERS),
        reason=reason,
        diagnoses=(diagnosis,),
    )
    scanned = ending not in ("cancelled", "waiting")
    return Visit(
        number=number,
        at=at,
        person=person,
        kind=random.choice(KINDS),
        version=random.choice(OLD_VERSIONS),
        charset=random.choice(CHARSETS),
        order=order,
        ending=ending,
        images=random.randrange(3, 8) if scanned else 0,
        updated=random.random() < 0.2,
        changed=ending == "waiting" and random.random() < 0.5,
        repeated=random.random() < 0.1,
    )


def _refused(random: Random, tag: str, number: int, start: datetime, catalogue: Catalogue) -> Visit:
    """Return the order of a procedure nobody mapped."""
    visit = _visit(random, tag, number, start, "waiting", catalogue)
    order = replace(visit.order, code=UNKNOWN_CODE, text="NOT IN ANY TABLE")
    return replace(visit, order=order, ending="refused", changed=False, repeated=False)


def _marked(visits: list[Visit]) -> list[Visit]:
    """Return the visits with what must happen at least once: a merge, a STAT order, a change and a repetition."""
    usual = [visit for visit in visits if visit.ending != "refused"]
    for visit in usual[:: max(1, len(usual) // 3)][:3]:
        visits[visit.number - 1] = replace(visit, temporary=f"TMP{visit.person.mrn[3:]}")
    for visit in usual[:1]:
        urgent = replace(visit.order, priority="S")
        visits[visit.number - 1] = replace(visits[visit.number - 1], order=urgent, repeated=True)
    for visit in [visit for visit in usual if visit.ending == "waiting"][:1]:
        visits[visit.number - 1] = replace(visits[visit.number - 1], changed=True)
    return visits


def _stray_report(random: Random, tag: str, start: datetime) -> tuple[Person, ReportText, Envelope]:
    person = invent(random, f"SIM{tag}0000", start.date())
    text = ReportText(f"Y{tag}"[:16], "", "CTHEAD", "CT HEAD", "F", RADIOLOGISTS[0], REFERRERS[0], FINDINGS[:2])
    return person, text, Envelope(f"R{tag}.STRAY", f"{start:%Y%m%d%H%M%S}", "DICTATION")
