"""What the RIS knows, one frozen record per row.

Clinical times are HL7 timestamps in the site's time zone (`YYYYMMDDHHMM[SS]`), which sort as text. A `Composite` keeps
an HL7 composite field as it was sent, in the standard delimiters (`^~\\&`); every other text is plain, without escapes.
The states of orders, exams, steps and reports, and what may follow them, are in `broker.ris.states`.
"""

from __future__ import annotations

from dataclasses import dataclass


class Composite(str):
    """Text holding an HL7 composite in standard delimiters; a builder inserts it without escaping."""

    __slots__ = ()


EMPTY = Composite()


@dataclass(frozen=True, slots=True)
class Patient:
    """A person; `merged_into` names the surviving record after an A40."""

    id: int = 0
    family: str = ""
    given: str = ""
    middle: str = ""
    prefix: str = ""
    suffix: str = ""
    birth_date: str = ""  # YYYYMMDD
    sex: str = ""  # M F O U (HL7 table 0001; DICOM knows M F O)
    address: Composite = EMPTY  # XAD
    phone: Composite = EMPTY  # XTN
    account: Composite = EMPTY  # CX, PID-18
    merged_into: int | None = None
    allergies: tuple[str, ...] = ()  # AL1, what the patient reacts to
    alerts: tuple[str, ...] = ()  # AL1 of type MC: other contraindications


@dataclass(frozen=True, slots=True)
class PatientIdentifier:
    """One identifier of a patient with its assigning authority (CX)."""

    id: int = 0
    patient_id: int = 0
    value: str = ""
    authority: str = ""
    type: str = ""  # HL7 table 0203
    # the patient this identifier named before a merge, so that both histories stay
    merged_from: int | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """A request of the order placer (one ORC group)."""

    id: int = 0
    patient_id: int = 0
    placer_number: str = ""
    placer_authority: str = ""
    filler_number: str = ""
    filler_authority: str = ""
    group_number: str = ""  # ORC-4
    status: str = ""  # see ris.states
    priority: str = ""  # STAT ASAP ROUTINE …, as `mappings/priority.csv` maps it
    ordered_at: str = ""
    requested_at: str = ""
    provider: Composite = EMPTY  # XCN, ordering provider
    copies_to: Composite = EMPTY  # XCN
    procedure_code: str = ""  # as ordered
    reason: str = ""
    diagnoses: tuple[str, ...] = ()  # ICD-10 codes, DG1-3.1
    patient_class: str = ""  # PV1-2
    location: Composite = EMPTY  # PL, PV1-3
    visit: Composite = EMPTY  # CX, PV1-19
    account: Composite = EMPTY  # CX, PID-18
    weight: str = ""  # kg
    size: str = ""  # m
    pregnancy: str = ""  # (0010,21C0): 1 no, 2 possibly, 3 definitely, 4 unknown
    patient_state: str = ""  # OBR-12
    special_needs: str = ""  # PV1-15
    transport: str = ""  # OBR-30, HL7 table 0124
    contrast: str = ""  # requested contrast agent
    confidentiality: str = ""  # ORC-28
    vip: str = ""  # PV1-16
    history: str = ""  # OBR-13
    performer: Composite = EMPTY  # who is to perform it: OBR-34, an NDL or XCN


@dataclass(frozen=True, slots=True)
class Exam:
    """A requested procedure with its accession number and Study Instance UID."""

    id: int = 0
    order_id: int | None = None  # None: an unscheduled exam, known from the modality only
    patient_id: int | None = None
    accession: str = ""
    requested_procedure_id: str = ""
    study_uid: str = ""
    procedure_code: str = ""
    procedure_name: str = ""
    modality: str = ""
    cpt: str = ""
    modifiers: tuple[str, ...] = ()
    status: str = ""  # see ris.states
    report_status: str = ""  # see ris.states
    priority: str = ""
    scheduled_at: str = ""
    started_at: str = ""
    completed_at: str = ""
    images: int = 0  # distinct SOP instances received
    accession_issuer: str = ""  # who gave the accession number; "": this site


@dataclass(frozen=True, slots=True)
class Step:
    """A scheduled procedure step: one entry of the modality worklist, one slot of a station."""

    id: int = 0
    exam_id: int = 0
    sps_id: str = ""
    status: str = ""  # see ris.states
    modality: str = ""
    station: str = ""  # scheduled station AE title
    room: str = ""
    start: str = ""  # YYYYMMDDHHMM
    duration: int = 0  # minutes
    protocol_code: str = ""
    protocol_name: str = ""
    ends: str = ""  # YYYYMMDDHHMM: the end of its slot


@dataclass(frozen=True, slots=True)
class Performed:
    """A modality performed procedure step (MPPS), with or without a known exam."""

    id: int = 0
    uid: str = ""  # SOP Instance UID of the MPPS
    exam_id: int | None = None  # the first of its exams; `PerformedItem` has them all
    accession: str = ""  # this, the next four: as the modality sent them
    study_uid: str = ""
    sps_id: str = ""  # several steps under one MPPS are separated by a backslash
    sent_patient_id: str = ""
    sent_issuer: str = ""
    status: str = ""  # IN PROGRESS, COMPLETED, DISCONTINUED (PS3.3 C.4.14), see ris.states
    station: str = ""
    started_at: str = ""
    ended_at: str = ""
    series: int = 0
    instances: int = 0
    message_id: int = 0  # the last request that changed it
    modality: str = ""
    reason_code: str = ""  # Discontinuation Reason Code Sequence (0040,0281): Code Value, Coding Scheme Designator, what it means here
    reason_scheme: str = ""
    reason: str = ""
    outcome: str = ""  # of a discontinued one: discontinue, or reschedule when the step was begun by mistake


@dataclass(frozen=True, slots=True)
class PerformedItem:
    """One item of an MPPS's Scheduled Step Attributes Sequence (0040,0270): what it performs, and the exam where that belongs."""

    id: int = 0
    performed_id: int = 0
    exam_id: int | None = None
    accession: str = ""  # this, the next three: as the modality sent them
    study_uid: str = ""
    sps_id: str = ""
    requested_procedure_id: str = ""


@dataclass(frozen=True, slots=True)
class PerformedSeries:
    """One item of an MPPS's Performed Series Sequence (0040,0340)."""

    id: int = 0
    performed_id: int = 0
    series_uid: str = ""
    instances: int = 0  # that it references


@dataclass(frozen=True, slots=True)
class PerformedDataset:
    """The attributes of an MPPS as its N-CREATE and all N-SETs have left them, explicit VR little endian."""

    id: int = 0
    performed_id: int = 0
    attributes: bytes = b""


@dataclass(frozen=True, slots=True)
class Dose:
    """What a dose report or an MPPS says of ionising radiation, in one irradiation event or altogether; None is not said."""

    id: int = 0
    exam_id: int | None = None
    source: str = ""  # RDSR, MPPS
    report_uid: str = ""  # SOP Instance UID of the report, or of the MPPS
    event_uid: str = ""  # Irradiation Event UID (DCM 113769); "" of a total
    scope: str = ""  # of a total: the UID of what it accumulates over; a later total of the same scope takes its place
    study_uid: str = ""
    accession: str = ""
    modality: str = ""
    at: str = ""  # YYYYMMDDHHMMSS as the source wrote it
    ctdivol: float | None = None  # mGy, of an event its mean, of a total the largest
    phantom: str = ""  # code of the CTDI phantom: 113690 head, 113691 body (DCM)
    dlp: float | None = None  # mGy.cm
    dap: float | None = None  # Gy.m2
    entrance: float | None = None  # mGy, at the reference point or the skin
    glandular: float | None = None  # mGy, average glandular dose
    exposures: int | None = None  # irradiation events or exposures
    message_id: int = 0


@dataclass(frozen=True, slots=True)
class Instance:
    """One SOP instance that was received."""

    id: int = 0
    uid: str = ""
    series_uid: str = ""
    study_uid: str = ""
    exam_id: int | None = None
    accession: str = ""  # as sent by the modality
    sent_patient_id: str = ""  # (0010,0020) as sent
    sent_issuer: str = ""  # (0010,0021) as sent
    sop_class: str = ""
    modality: str = ""
    station: str = ""  # calling AE title
    spool: str = ""
    size: int = 0
    digest: str = ""
    message_id: int = 0
    reissue: str = ""  # what the UIDs of its corrected copies are made from; "" while it goes under its own
    released: int = 0  # 1: a person sends it on though it has no exam


@dataclass(frozen=True, slots=True)
class Completeness:
    """Whether an exam's images are all here (`broker.ris.completeness`); there is one from the first image on."""

    id: int = 0
    exam_id: int = 0
    state: str = ""  # open, complete, incomplete
    reason: str = ""
    at: float = 0.0  # when it became so; this and the next three: seconds since the epoch, 0 for never
    heard_at: float = 0.0  # when the last image came
    closed_at: float = 0.0  # when the sender last ended an association
    due_at: float = 0.0  # when to look again: at an open one, or at the deliveries of a complete one
    named: int = 0  # the most instances that any evidence names
    images: int = 0  # how many there were when it became so
    available_at: float = 0.0  # when an archive said that it has them
    available: str = ""  # ONLINE, NEARLINE … (PS3.3 C.4.23): the least available of its instances
    retrieve_ae: str = ""  # where they can be retrieved
    delivered: tuple[str, ...] = ()  # destinations that have all of them


@dataclass(frozen=True, slots=True)
class Evidence:
    """What somebody says of how many images an exam has."""

    id: int = 0
    exam_id: int = 0
    source: str = ""  # commitment, query
    subject: str = ""  # transaction UID, AE title
    named: int = 0
    missing: tuple[str, ...] = ()  # SOP Instance UIDs that were named and were not here then
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """One version of a radiology report."""

    id: int = 0
    exam_id: int | None = None
    accession: str = ""
    placer_number: str = ""
    study_uid: str = ""
    sent_patient_id: str = ""
    sent_issuer: str = ""
    version: int = 0  # 1, 2, … per exam
    status: str = ""  # see ris.states
    text: str = ""
    author: Composite = EMPTY  # XCN, OBR-32
    diagnoses: tuple[str, ...] = ()
    reported_at: str = ""
    message_id: int = 0


@dataclass(frozen=True, slots=True)
class Charge:
    """A charge posted for an exam, once."""

    id: int = 0
    exam_id: int = 0
    cpt: str = ""
    modifiers: tuple[str, ...] = ()
    diagnoses: tuple[str, ...] = ()
    quantity: int = 1
    charged_at: str = ""


@dataclass(frozen=True, slots=True)
class Unmatched:
    """Something that named no known exam, or was done and not charged: an entry of the reconciliation list."""

    id: int = 0
    kind: str = ""  # images, performed, report, charge
    key: str = ""  # Study Instance UID, MPPS UID or accession number
    accession: str = ""
    reason: str = ""
    message_id: int = 0
    first_at: float = 0.0
    resolved_at: float | None = None
    exam_id: int | None = None  # where it belonged in the end
    patient_id: str = ""  # of images: the identifier of their patient, when that may name their exam
    issuer: str = ""
    modality: str = ""
    taken_at: str = ""
    window: int = 0  # minutes; 0: a patient alone names no exam
    corrected: int = 0  # 1: a person has said which accession number or patient it is, whatever the images say


@dataclass(frozen=True, slots=True)
class Correction:
    """What a person has said about images: where they belong, or that they go on as they are."""

    id: int = 0
    what: str = ""  # linked, corrected, released, moved
    entry_id: int | None = None  # of the reconciliation list
    study_uid: str = ""
    exam_id: int | None = None  # where they were tied to
    from_exam_id: int | None = None  # where they were before
    instances: tuple[str, ...] = ()  # the ids of their records
    before: tuple[str, ...] = ()  # accession number, patient identifier and issuer that the entry had
    author: str = ""
    why: str = ""
    at: float = 0.0
    undone_at: float | None = None


@dataclass(frozen=True, slots=True)
class Booked:
    """A station has no free gap of `minutes` between `since` and `until`, so a search for a slot need not look there."""

    id: int = 0
    station: str = ""
    hours: str = ""  # the opening hours this was found with, HHMM-HHMM
    minutes: int = 0
    since: str = ""  # YYYYMMDDHHMM
    until: str = ""  # YYYYMMDDHHMM


Entity = (
    Patient
    | PatientIdentifier
    | Order
    | Exam
    | Step
    | Performed
    | PerformedItem
    | PerformedSeries
    | PerformedDataset
    | Dose
    | Instance
    | Completeness
    | Evidence
    | Report
    | Charge
    | Unmatched
    | Correction
    | Booked
)
KINDS: tuple[type, ...] = Entity.__args__
