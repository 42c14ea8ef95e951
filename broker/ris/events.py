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


@dataclass(frozen=True, slots=True)
class PerformStep:
    """MPPS N-CREATE or N-SET."""

    uid: str
    create: bool
    status: str  # IN PROGRESS, COMPLETED, DISCONTINUED
    accession: str = ""
    study_uid: str = ""
    sps_id: str = ""  # several steps under one MPPS are separated by a backslash
    station: str = ""
    started_at: str = ""
    ended_at: str = ""
    series: int = 0
    instances: int = 0
    patient_id: str = ""  # (0010,0020)
    issuer: str = ""  # (0010,0021)


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


Request = RegisterPatient | MergePatients | PlaceOrder | PerformStep | StoreInstance | ReceiveReport


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened in the department; a channel may listen to it.

    Names: patient.created, patient.updated, patient.merged, order.placed, order.cancelled, order.changed, order.held, order.released,
    exam.scheduled, exam.arrived, exam.changed, exam.cancelled, exam.started, exam.completed, exam.discontinued, study.stored,
    report.preliminary, report.final, report.corrected, report.cancelled, charge.posted, unmatched.listed, unmatched.resolved.
    """

    name: str
    patient_id: int | None = None
    order_id: int | None = None
    exam_id: int | None = None
    report_id: int | None = None
    charge_id: int | None = None
    accession: str = ""
    reason: str = ""
