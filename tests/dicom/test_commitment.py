"""What the datasets of storage commitment say, both ways."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from broker.dicom.commitment import FailureReason, Reference, Report, meaning, read_report, read_request, report, request
from broker.dicom.dataset import EXPLICIT_LITTLE, IMPLICIT_LITTLE, decode, encode
from broker.errors import MessageError

CT = "1.2.840.10008.5.1.4.1.1.2"
ONE, TWO = Reference(CT, "1.2.3"), Reference(CT, "1.2.4")


def test_a_request_is_read_as_it_was_written() -> None:
    for syntax in (EXPLICIT_LITTLE, IMPLICIT_LITTLE):
        assert read_request(decode(encode(request("2.25.1", [ONE, TWO]), syntax), syntax)) == ("2.25.1", (ONE, TWO))


@pytest.mark.parametrize(
    "said",
    [
        Report("2.25.1", (ONE, TWO)),
        Report("2.25.1", (ONE,), (Reference(CT, "1.2.4", FailureReason.NO_SUCH_INSTANCE),)),
        Report("2.25.1", (), (Reference(CT, "1.2.4", 0x0110),)),
    ],
)
def test_a_report_is_read_as_it_was_written(said: Report) -> None:
    written = report(said)
    assert read_report(decode(encode(written, EXPLICIT_LITTLE), EXPLICIT_LITTLE)) == said
    assert said.event_type == (2 if said.failed else 1)
    assert ("FailedSOPSequence" in written, "ReferencedSOPSequence" in written) == (bool(said.failed), bool(said.committed))


def test_an_instance_that_is_named_twice_is_one() -> None:
    assert read_request(request("2.25.1", [ONE, ONE]))[1] == (ONE,)


def changed(keyword: str, value: object) -> Dataset:
    dataset = request("2.25.1", [ONE])
    if value is None:
        delattr(dataset, keyword)
    else:
        setattr(dataset, keyword, value)
    return dataset


def spoiled(vr: str, value: object, keyword: str = "ReferencedSOPSequence") -> Dataset:
    dataset = request("2.25.1", [ONE])
    dataset.add_new(keyword, vr, value)
    return dataset


def item(uid: str) -> Dataset:
    dataset = Dataset()
    dataset.ReferencedSOPClassUID = CT
    dataset.add_new("ReferencedSOPInstanceUID", "LO", uid)
    return dataset


@pytest.mark.parametrize("reason", ["text", [1, 2]])
def test_a_failure_reason_that_is_no_number_is_refused(reason: object) -> None:
    dataset = report(Report("2.25.1", (), (Reference(CT, "1.2.4", 0x0110),)))
    dataset.FailedSOPSequence[0].add_new("FailureReason", "LO" if isinstance(reason, str) else "US", reason)
    with pytest.raises(MessageError, match="not a number"):
        read_report(dataset)


@pytest.mark.parametrize(
    ("dataset", "path"),
    [
        (changed("TransactionUID", None), "TransactionUID"),
        (changed("TransactionUID", ""), "TransactionUID"),
        (spoiled("LO", "../../etc", "TransactionUID"), "TransactionUID"),
        (changed("TransactionUID", ["1.2", "1.3"]), "TransactionUID"),
        (changed("ReferencedSOPSequence", None), "ReferencedSOPSequence"),
        (changed("ReferencedSOPSequence", []), "ReferencedSOPSequence"),
        (changed("ReferencedSOPSequence", [Dataset()]), "ReferencedSOPSequence"),
        (Dataset(), "ReferencedSOPSequence"),
        (spoiled("SQ", [item("1.2/3")]), "ReferencedSOPSequence"),
        (request("2.25.1", [Reference("", "1.2.3")]), "ReferencedSOPSequence"),
        (spoiled("LO", "text"), "ReferencedSOPSequence"),
        (spoiled("US", 7), "ReferencedSOPSequence"),
    ],
)
def test_a_request_without_what_it_needs_is_refused_with_its_place(dataset: Dataset, path: str) -> None:
    with pytest.raises(MessageError) as caught:
        read_request(dataset)
    assert caught.value.path == path


def test_a_reason_is_told_in_words() -> None:
    assert meaning(0x0112) == "no such object instance (0x0112)"
    assert meaning(0x9999) == "unknown reason (0x9999)"
