"""Command sets, beside pynetdicom's as the oracle."""

from __future__ import annotations

from io import BytesIO

import pytest
from pynetdicom.dimse_messages import C_FIND_RSP, C_STORE_RQ, N_CREATE_RQ, N_CREATE_RSP, N_SET_RQ
from pynetdicom.dimse_primitives import C_FIND, C_STORE, N_CREATE, N_SET
from pynetdicom.dsutils import decode, encode

from broker.dicom import dimse
from broker.dicom.dimse import Command, Field
from broker.errors import RemoteProtocolError

CT, MPPS = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.3.1.2.3.3"


def theirs(message: object) -> bytes:
    return encode(message.command_set, True, True)  # type: ignore[attr-defined, no-any-return]


def primitive(kind: type, **fields: object) -> object:
    made = kind()
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def of(message_kind: type, made: object) -> object:
    message = message_kind()
    message.primitive_to_message(made)
    return message


def test_a_store_request_of_pynetdicom_is_read() -> None:
    made = primitive(C_STORE, MessageID=9, AffectedSOPClassUID=CT, AffectedSOPInstanceUID="1.2.3", Priority=2, DataSet=BytesIO(b"x"))
    assert dimse.parse(theirs(of(C_STORE_RQ, made))) == Command(Field.C_STORE, 9, True, CT, "1.2.3", priority=2)


def test_a_set_request_of_pynetdicom_is_read() -> None:
    made = primitive(N_SET, MessageID=9, RequestedSOPClassUID=MPPS, RequestedSOPInstanceUID="1.2.3", ModificationList=BytesIO(b"x"))
    assert dimse.parse(theirs(of(N_SET_RQ, made))) == Command(Field.N_SET, 9, True, MPPS, "1.2.3")


def test_a_create_request_without_an_instance_is_read() -> None:
    made = primitive(N_CREATE, MessageID=9, AffectedSOPClassUID=MPPS, AttributeList=BytesIO(b"x"))
    assert dimse.parse(theirs(of(N_CREATE_RQ, made))) == Command(Field.N_CREATE, 9, True, MPPS, "")


@pytest.mark.parametrize("field", [Field.C_STORE, Field.C_FIND, Field.C_ECHO, Field.N_CREATE, Field.N_SET])
def test_requests_come_back_as_they_were_made(field: Field) -> None:
    instance = "" if field in (Field.C_FIND, Field.C_ECHO) else "1.2.3.45"
    parsed = dimse.parse(dimse.request(field, 513, CT, instance))
    assert parsed == Command(field, 513, field is not Field.C_ECHO, CT, instance)
    assert not parsed.is_response


def test_requests_are_what_pynetdicom_expects() -> None:
    made = decode(BytesIO(dimse.request(Field.N_SET, 5, MPPS, "1.2.3")), True, True)
    assert (made.RequestedSOPClassUID, made.RequestedSOPInstanceUID, made.CommandField, made.MessageID) == (MPPS, "1.2.3", 0x0120, 5)
    assert made.CommandGroupLength == len(dimse.request(Field.N_SET, 5, MPPS, "1.2.3")) - 12


@pytest.mark.parametrize(("field", "expected"), [(Field.C_FIND, C_FIND_RSP), (Field.N_CREATE, N_CREATE_RSP)])
def test_responses_are_what_pynetdicom_reads(field: Field, expected: type) -> None:
    command = Command(field, 77, True, CT, "1.2.3")
    made = decode(BytesIO(dimse.response(command, 0xFF00, with_dataset=True, comment="x" * 70)), True, True)
    assert (made.CommandField, made.MessageIDBeingRespondedTo, made.Status) == (field | 0x8000, 77, 0xFF00)
    assert made.CommandDataSetType != 0x0101
    assert len(made.ErrorComment) == 64
    assert ("AffectedSOPInstanceUID" in made) == (field is not Field.C_FIND)
    tags = list(made.keys())
    assert tags == sorted(tags)
    message = expected()
    message.command_set = made
    assert type(message.message_to_primitive()) in (C_FIND, N_CREATE)


def test_a_cancel_names_the_request_it_cancels() -> None:
    assert dimse.parse(dimse.cancel(33)) == Command(Field.C_CANCEL, 33, False)


def test_a_response_names_what_was_created() -> None:
    command = Command(Field.N_CREATE, 1, True, MPPS, "")
    assert dimse.parse(dimse.response(command, 0, instance="1.2.9")).sop_instance == "1.2.9"


GOOD = dimse.request(Field.C_STORE, 1, CT, "1.2.3")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 7,
        GOOD[:-1],
        GOOD + b"\0\0\0\1",
        b"\x08" + GOOD[1:],
        GOOD.replace(b"\0\0\0\x01\x02\0\0\0", b"\0\0\0\x01\xff\xff\xff\xff"),
        GOOD.replace(b"\0\0\0\x01\x02\0\0\0", b"\0\0\1\x01\x02\0\0\0"),
        GOOD.replace(b"1.2.3", b"1.\xe9.3"),
    ],
)
def test_damaged_command_sets_are_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        dimse.parse(data)


def test_elements_of_another_group_at_the_end_are_passed_over() -> None:
    # what Orthanc appends to a C-GET response that tells of a failure: Failed SOP Instance UID List
    assert dimse.parse(GOOD + b"\x08\0\x58\0\x04\0\0\x001.2\0") == dimse.parse(GOOD)


@pytest.mark.parametrize(
    ("status", "warning", "later"), [(0, False, False), (0xB000, True, False), (0xB006, True, False), (0xA700, False, True)]
)
def test_storage_statuses(status: int, warning: bool, later: bool) -> None:
    assert (dimse.is_warning(status), dimse.is_refusal_for_now(status)) == (warning, later)


def test_a_comment_with_other_letters_is_still_one() -> None:
    command = Command(Field.C_FIND, 7, True, CT)
    made = decode(BytesIO(dimse.response(command, 0xC001, comment="no answer from Südarchiv")), True, True)
    assert made.ErrorComment == "no answer from S?darchiv"
