"""What comes into the RIS (requests) and what it tells (events)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from broker.ris.entities import EMPTY, Composite


@dataclass(frozen=True, slots=True)
class Identifier:
    """A patient identifier with its assigning authority and type (CX-1, -4.1, -5)."""

    value: str
    authority: str = ""
    type: str = ""


@dataclass(frozen=True, slots=True)
class PatientData:
    """What a message says of a patient; an empty text says nothing, so it changes nothing."""

    identifiers: tuple[Identifier, ...]
    family: str = ""
    given: str = ""
    middle: str = ""
    prefix: str = ""
    suffix: str = ""
    birth_date: str = ""
    sex: str = ""
    address: Composite = EMPTY
    phone: Composite = EMPTY
    account: Composite = EMPTY
    allergies: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RegisterPatient:
    """ADT^A01/A04/A08/A31: create the patient or bring it up to date."""

    patient: PatientData


@dataclass(frozen=True, slots=True)
class MergePatients:
    """ADT^A40: the patients named by `retired` become the one named by `survivor`."""

    survivor: PatientData
    retired: tuple[Identifier, ...]


@dataclass(frozen=True, slots=True)
class Procedure:
    """What an order code means in this department, one row of the procedures table."""

    code: str
    name: str
    modality: str
    duration: int = 15  # minutes
    cpt: str = ""
    modifiers: tuple[str, ...] = ()
    steps: tuple[tuple[str, str], ...] = ()  # (protocol code, protocol name), one scheduled step each; empty: one
    contrast: str = ""  # agent that it is usually done with


OrderAction = Literal["new", "cancel", "discontinue", "change", "hold", "release", "arrive"]  # arrive: the patient is here


@dataclass(frozen=True, slots=True)
class PlaceOrder:
    """ORM^O01, OMG^O19, OMI^O23: one ORC group. `action` is what the sender's order control means."""

    action: OrderAction
    patient: PatientData
    placer_number: str
    placer_authority: str = ""
    filler_number: str = ""
    filler_authority: str = ""
    group_number: str = ""
    accession: str = ""  # generated when empty
    accession_issuer: str = ""  # "": this site
    requested_procedure_id: str = ""  # generated when empty
    study_uid: str = ""  # generated when empty
    procedure: Procedure | None = None  # always there for action "new"
    priority: str = ""
    ordered_at: str = ""
    requested_at: str = ""
    station: str = ""  # asked-for station AE title
    provider: Composite = EMPTY
    copies_to: Composite = EMPTY
    reason: str = ""
    diagnoses: tuple[str, ...] = ()
    patient_class: str = ""
    location: Composite = EMPTY
    visit: Composite = EMPTY
    weight: str = ""  # kg
    size: str = ""  # m
    pregnancy: str = ""  # as DICOM has it, (0010,21C0)
    patient_state: str = ""
    special_needs: str = ""
    transport: str = ""
    contrast: str = ""
    confidentiality: str = ""
    vip: str = ""
    history: str = ""
    performer: Composite = EMPTY


@dataclass(frozen=True, slots=True)
class ScheduledItem:
    """What an MPPS says it performs: one item of its Scheduled Step Attributes Sequence; all empty but for the study: unscheduled."""

    accession: str = ""
    study_uid: str = ""
    sps_id: str = ""
    requested_procedure_id: str = ""


@dataclass(frozen=True, slots=True)
class SeriesMade:
    """One series of an MPPS, and how many instances it references."""

    uid: str
    instances: int = 0


@dataclass(frozen=True, slots=True)
class DoseReading:
    """A dose as a source states it, by the units of `broker.ris.entities.Dose`; `event_uid` is "" of a total."""

    event_uid: str = ""
    scope: str = ""
    modality: str = ""
    at: str = ""
    ctdivol: float | None = None
    phantom: str = ""
    dlp: float | None = None
    dap: float | None = None
    entrance: float | None = None
    glandular: float | None = None
    exposures: int | None = None


Outcome = Literal["", "discontinue", "reschedule"]  # what a discontinuation reason means: given up, or begun by mistake


@dataclass(frozen=True, slots=True)
class PerformStep:
    """MPPS N-CREATE or N-SET, with the attributes that the MPPS has by then."""

    uid: str
    create: bool
    status: str  # IN PROGRESS, COMPLETED, DISCONTINUED
    accession: str = ""
    study_uid: str = ""
    sps_id: str = ""
    station: str = ""
    started_at: str = ""
    ended_at: str = ""
    series: int = 0
    instances: int = 0
    patient_id: str = ""  # (0010,0020)
    issuer: str = ""  # (0010,0021)
    modality: str = ""
    items: tuple[ScheduledItem, ...] = ()  # empty: the one that accession, study and step name
    made: tuple[SeriesMade, ...] = ()
    reason_code: str = ""  # of a discontinued one
    reason_scheme: str = ""
    reason: str = ""
    outcome: Outcome = ""  # of a discontinued one
    dose: DoseReading | None = None
    dose_fault: str = ""  # why what it says of the dose is not taken
    attributes: bytes = b""  # all of them, explicit VR little endian


@dataclass(frozen=True, slots=True)
class StoreInstance:
    """C-STORE of one SOP instance that is already durable in the spool."""

    uid: str
    series_uid: str
    study_uid: str
    accession: str
    sop_class: str
    modality: str
    station: str
    spool: str
    size: int
    digest: str
    patient_id: str = ""  # (0010,0020)
    issuer: str = ""  # (0010,0021)
    doses: tuple[DoseReading, ...] = ()  # of a dose report
    dose_fault: str = ""  # why the dose report is not taken
    accession_issuer: str = ""  # (0008,0051), local namespace
    taken_at: str = ""  # YYYYMMDDHHMM[SS], the modality's clock
    by: tuple[str, ...] = ("StudyInstanceUID", "AccessionNumber")  # how its exam is found, see `ris.images`
    window: int = 720  # minutes between its time and the exam's, when it is found by its patient


@dataclass(frozen=True, slots=True)
class CountImages:
    """Somebody says which instances a study has, or how many: a storage commitment request, the answer of a sender."""

    source: str  # commitment, query
    subject: str  # transaction UID, AE title
    study_uid: str = ""
    instances: tuple[str, ...] = ()  # SOP Instance UIDs
    count: int = 0


@dataclass(frozen=True, slots=True)
class EndSending:
    """A sender has released the association over which it stored images of these studies."""

    study_uids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LookForImages:
    """Time has passed since the last image of the exam."""

    exam_id: int


@dataclass(frozen=True, slots=True)
class Deliver:
    """How far the images of a complete exam have come: each destination, and whether it has taken all of them."""

    exam_id: int
    destinations: tuple[tuple[str, bool], ...]


@dataclass(frozen=True, slots=True)
class Available:
    """An archive says that it has instances (Instance Availability Notification, PS3.4 annex R)."""

    study_uid: str
    instances: tuple[tuple[str, str], ...]  # SOP Instance UID, availability
    retrieve_ae: str
    uid: str = ""  # SOP Instance UID of the notification


@dataclass(frozen=True, slots=True)
class ReceiveReport:
    """ORU^R01: one version of a report. `status` is preliminary, final, corrected or cancelled."""

    status: str
    accession: str = ""
    placer_number: str = ""
    study_uid: str = ""
    text: str = ""
    author: Composite = EMPTY
    diagnoses: tuple[str, ...] = ()
    reported_at: str = ""
    identifiers: tuple[Identifier, ...] = ()  # of the patient, when the message names one: must be the exam's


Request = (
    RegisterPatient
    | MergePatients
    | PlaceOrder
    | PerformStep
    | StoreInstance
    | ReceiveReport
    | CountImages
    | EndSending
    | LookForImages
    | Available
    | Deliver
)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened in the department; a channel may listen to it.

    Names: patient.created, patient.updated, patient.merged, order.placed, order.cancelled, order.changed, order.held, order.released,
    exam.scheduled, exam.arrived, exam.changed, exam.cancelled, exam.started, exam.completed, exam.discontinued, exam.reopened,
    exam.replaced, study.stored, study.complete, study.more, study.incomplete, study.delivered, study.available, study.unavailable,
    study.moved, dose.recorded, report.preliminary, report.final, report.corrected, report.cancelled, charge.posted, unmatched.listed,
    unmatched.resolved.
    """

    name: str
    patient_id: int | None = None
    order_id: int | None = None
    exam_id: int | None = None
    report_id: int | None = None
    charge_id: int | None = None
    performed_id: int | None = None
    accession: str = ""
    reason: str = ""
