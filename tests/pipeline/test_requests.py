"""HL7 and DICOM as requests to the RIS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broker.dicom.dataset import dataset_of
from broker.dicom.performedstep import EMPTY
from broker.errors import MessageError
from broker.hl7.message import Message
from broker.model import Spooled
from broker.pipeline import performed, requests
from broker.pipeline.fields import DICOM_FIELDS, HL7_FIELDS, TABLES
from broker.pipeline.header import Header
from broker.pipeline.tables import read_table
from broker.ris.entities import Composite, Performed
from broker.ris.events import Identifier, MergePatients, PlaceOrder, Procedure, ReceiveReport, RegisterPatient, ScheduledItem, SeriesMade

ROOT = Path(__file__).parents[2]
SHIPPED = {path.stem: read_table(path.stem, path.read_text())[0] for path in (ROOT / "mappings").glob("*.csv")}


def request(kind: str, message: str | Message, **changes: str) -> Any:
    if isinstance(message, str):
        message = Message.parse((ROOT / f"samples/{message}.hl7").read_bytes())
    for path, value in changes.items():
        message.set_raw(path.replace("_", "-", 1).replace("_", "."), value)
    return requests.MAKERS[kind](message, HL7_FIELDS[kind], {name: SHIPPED[name] for name in TABLES[kind]})


def error(kind: str, message: str, **changes: str) -> tuple[str, str, int]:
    with pytest.raises(MessageError) as caught:
        request(kind, message, **changes)
    return caught.value.path, caught.value.why, caught.value.code


def test_a_registration_names_every_identifier_with_its_authority() -> None:
    made = request("patient", "adt_a04", PID_5="DOE&VAN^JANE^Q^Jr^Mrs", PID_8="Female")
    assert isinstance(made, RegisterPatient)
    patient = made.patient
    assert patient.identifiers == (Identifier("4711", "GENHOSP", "MR"), Identifier("19610615-11", "NATIONAL", "NI"))
    assert (patient.family, patient.given, patient.middle, patient.suffix, patient.prefix) == ("DOE", "JANE", "Q", "Jr", "Mrs")
    assert (patient.birth_date, patient.sex) == ("19610615", "F")
    assert patient.address == Composite("12 HIGH ST^^SPRINGFIELD^IL^62701^USA")
    assert isinstance(patient.address, Composite)


def test_the_hl7_null_reaches_the_ris_and_nothing_else_is_made_up() -> None:
    patient = request("patient", "adt_a04", PID_7='""', PID_8='""', PID_11='""', PID_5='""').patient
    assert (patient.birth_date, patient.sex, patient.address, patient.family) == ('""', '""', '""', '""')
    patient = request("patient", "adt_a04", PID_7="", PID_8="", PID_11="").patient
    assert (patient.birth_date, patient.sex, patient.address) == ("", "", "")


def test_a_merge_names_both_sides() -> None:
    made = request("merge", "adt_a40")
    assert isinstance(made, MergePatients)
    assert made.survivor.identifiers == (Identifier("4711", "GENHOSP", "MR"),)
    assert made.retired == (Identifier("4812", "GENHOSP", "MR"),)
    assert error("merge", "adt_a40", MRG_1="") == ("MRG-1.1", "required field is empty", 101)


def test_an_order_of_hl7_2_3_1() -> None:
    made = request("order", "orm_ct")
    assert isinstance(made, PlaceOrder)
    assert (made.action, made.placer_number, made.placer_authority, made.priority) == ("new", "P1", "EHR", "ROUTINE")
    assert (made.requested_at, made.ordered_at, made.diagnoses, made.reason) == ("202603021000", "20260302080000", ("R05",), "COUGH")
    assert made.procedure == Procedure("CTCHEST", "CT chest with contrast", "CT", 20, "71260")
    assert made.provider == Composite("1234^WELBY^MARCUS^^^DR")
    assert made.location == Composite("RAD^^^GENHOSP")


def test_an_order_of_hl7_2_5_1() -> None:
    made = request("order", "omg_mr")
    assert (made.priority, made.requested_at, made.diagnoses, made.patient_class) == ("STAT", "202603021100", ("G43.909",), "I")


def test_imaging_procedure_control_counts_before_the_order_detail() -> None:
    made = request("order", "omi_ct_abdomen", OBR_18="OTHER")
    assert (made.accession, made.study_uid) == ("ACC30001", "1.2.840.99999.3.1")
    assert made.procedure.steps == (("CTABD-N", "Unenhanced"), ("CTABD-C", "Portal venous phase"))
    assert request("order", "orm_ct", OBR_18="A7", ZDS_1="1.2.3^X^Application^DICOM").study_uid == "1.2.3"


@pytest.mark.parametrize("code", list(SHIPPED["order_control"].rows))
def test_every_order_control_of_the_table_is_an_action(code: str) -> None:
    assert request("order", "orm_ct", ORC_1=code).action == SHIPPED["order_control"].lookup(code)


def test_the_procedures_of_the_department_are_known() -> None:
    wanted = {"CTCHEST", "CTHEAD", "CTABD", "MRBRAIN", "MRKNEE", "XRCHEST", "XRHAND", "USABD", "MGSCREEN"}
    assert wanted <= set(SHIPPED["procedures"].rows)
    modalities = {row["modality"] for row in SHIPPED["stations"].rows.values()}
    for code, row in SHIPPED["procedures"].rows.items():
        made = requests.procedure(code, row)
        assert made.modality in modalities
        assert made.duration > 0
        assert len(made.cpt) == 5
    assert set(SHIPPED["stations"].rows) == {"CT1", "CT2", "MR1", "XR1", "US1", "MG1"}


def test_what_no_table_knows_is_an_error_at_its_field() -> None:
    assert error("order", "orm_ct", OBR_4="NOSUCH") == ("OBR-4.1", "not in table procedures", 103)
    assert error("order", "orm_ct", ORC_1="ZZ") == ("ORC-1.1", "not in table order_control", 103)
    assert error("order", "orm_ct", ORC_7_6="ZZ") == ("ORC-7.6", "not in table priority", 103)
    assert error("order", "orm_ct", PID_8="Q") == ("PID-8.1", "not in table sex", 103)
    assert error("report", "oru_final", OBR_25="Q") == ("OBR-25.1", "not in table report_status", 103)


def test_what_must_not_be_empty_is_an_error_at_its_field() -> None:
    assert error("order", "orm_ct", PID_3="") == ("PID-3.1", "required field is empty", 101)
    assert error("order", "orm_ct", ORC_1="") == ("ORC-1.1", "required field is empty", 101)
    assert error("report", "oru_final", OBR_25="", OBX_11="") == ("OBR-25.1", "required field is empty", 101)


def test_a_cancel_needs_no_procedure() -> None:
    assert request("order", "orm_ct_cancel", OBR_4="").procedure is None


def test_free_text_in_a_coded_field_is_no_diagnosis() -> None:
    assert request("order", "orm_ct", OBR_31="cough").diagnoses == ()
    assert request("order", "orm_ct", OBR_31="R05.1^x~786.2~shadow").diagnoses == ("R05.1", "786.2")


def test_a_report_keeps_its_text_lines_and_leaves_out_what_is_no_text() -> None:
    made = request("report", "oru_final")
    assert isinstance(made, ReceiveReport)
    assert (made.status, made.accession, made.placer_number, made.diagnoses) == ("final", "A00000001", "P1", ("J18.9",))
    assert made.text == "CT of the chest with contrast.\nNo pulmonary embolism."
    assert made.identifiers == (Identifier("4711", "GENHOSP", "MR"),)
    raw = (
        b"MSH|^~\\&|D|H|B|R|2026||ORU^R01|9|P|2.5.1\rPID|1||4711\rOBR|1|P1|A9|X\rOBX|1|TX|a||one~two||||||P\rOBX|2|ED|b||^application^pdf"
        b"\rOBX|3|TX|a||three\r"
    )
    made = request("report", Message.parse(raw))
    assert (made.status, made.accession, made.text) == ("preliminary", "A9", "one\ntwo\nthree")


def test_an_mpps_is_a_performed_step() -> None:
    attributes = {
        "PerformedProcedureStepStatus": "COMPLETED",
        "PerformedProcedureStepStartDate": "20260302",
        "PerformedProcedureStepStartTime": "100500.123",
        "PerformedProcedureStepEndDate": "20260302",
        "ScheduledStepAttributesSequence.AccessionNumber": "A1",
        "ScheduledStepAttributesSequence.StudyInstanceUID": "1.2",
        "ScheduledStepAttributesSequence.ScheduledProcedureStepID": "S1",
        "PerformedSeriesSequence.SeriesInstanceUID": "1.2.1",
        "PerformedSeriesSequence.ReferencedImageSequence.ReferencedSOPInstanceUID": "1.2.1.1",
    }
    header = Header({}, dataset_of(attributes), kind="N-SET", sender="CT1", uid="5.1")
    made = performed.perform_step(header, DICOM_FIELDS["performed"], lambda uid: None, None)
    assert (made.uid, made.create, made.status, made.accession, made.study_uid, made.sps_id) == (
        "5.1",
        False,
        "COMPLETED",
        "A1",
        "1.2",
        "S1",
    )
    assert (made.station, made.started_at, made.ended_at, made.series, made.instances) == ("CT1", "20260302100500", "20260302", 1, 1)
    assert made.made == (SeriesMade("1.2.1", 1),)


def test_an_n_create_says_its_status() -> None:
    with pytest.raises(MessageError) as caught:
        performed.perform_step(
            Header({}, dataset_of({}), kind="N-CREATE"), DICOM_FIELDS["performed"], lambda uid: None, None, complete=False
        )
    assert (caught.value.path, caught.value.code) == ("PerformedProcedureStepStatus", EMPTY)


def test_what_was_begun_under_an_earlier_broker_is_ended_as_it_comes() -> None:
    header = Header({}, dataset_of({"PatientID": "4711", "PerformedProcedureStepStatus": "COMPLETED"}), kind="N-SET", uid="5.1")
    made = performed.perform_step(header, DICOM_FIELDS["performed"], lambda uid: (Performed(status="IN PROGRESS"), b""), None)
    assert (made.status, made.patient_id) == ("COMPLETED", "4711")


REASONS, _ = read_table("discontinuation", "code,scheme,action,meaning\n110514,DCM,reschedule,Wrong entry\nX,,discontinue,Own\n")


@pytest.mark.parametrize(
    ("code", "scheme", "expected"),
    [
        ("110514", "DCM", ("110514", "DCM", "Wrong entry", "reschedule")),
        ("110514", "99OTHER", ("110514", "99OTHER", "", "discontinue")),
        ("X", "99LOCAL", ("X", "99LOCAL", "Own", "discontinue")),
        ("NEW", "DCM", ("NEW", "DCM", "", "discontinue")),
        ("", "", ("", "", "", "discontinue")),
    ],
)
def test_a_discontinuation_means_what_the_table_says(code: str, scheme: str, expected: tuple[str, ...]) -> None:
    reason = "PerformedProcedureStepDiscontinuationReasonCodeSequence"
    attributes = {"PerformedProcedureStepStatus": "DISCONTINUED"}
    attributes |= {f"{reason}.CodeValue": code, f"{reason}.CodingSchemeDesignator": scheme} if code else {}
    header = Header({}, dataset_of(attributes), kind="N-SET", uid="5.1")
    made = performed.perform_step(header, DICOM_FIELDS["performed"], lambda uid: None, REASONS)
    assert (made.reason_code, made.reason_scheme, made.reason, made.outcome) == expected


def test_every_item_of_an_mpps_says_what_is_performed() -> None:
    attributes = dataset_of({"ScheduledStepAttributesSequence.AccessionNumber": "A1", "PerformedProcedureStepStatus": "IN PROGRESS"})
    second = dataset_of(
        {"AccessionNumber": "A2", "ScheduledProcedureStepID": "S2", "RequestedProcedureID": "R2", "StudyInstanceUID": "1.2"}
    )
    attributes.ScheduledStepAttributesSequence = [*attributes.ScheduledStepAttributesSequence, second]
    header = Header({}, attributes, kind="N-CREATE", uid="5.1")
    made = performed.perform_step(header, DICOM_FIELDS["performed"], lambda uid: None, None, complete=False)
    assert made.items == (ScheduledItem("A1"), ScheduledItem("A2", "1.2", "S2", "R2"))


def test_a_stored_image_is_what_the_spool_holds() -> None:
    spooled = Spooled("s1", "1.2.840.10008.5.1.4.1.1.2", "1.1", "1.2.840.10008.1.2.1", 10, "d")
    header = Header({"StudyInstanceUID": "1.2", "PatientID": "4711", "Modality": "CT"}, sender="CT1")
    made = performed.store_instance(header, DICOM_FIELDS["image"], spooled)
    assert (made.uid, made.study_uid, made.patient_id, made.modality, made.station) == ("1.1", "1.2", "4711", "CT", "CT1")
    assert (made.spool, made.size, made.digest, made.accession) == ("s1", 10, "d", "")
    with pytest.raises(MessageError):
        performed.store_instance(header, DICOM_FIELDS["image"], None)
