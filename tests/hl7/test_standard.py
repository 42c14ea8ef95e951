"""What the standard says of a path, in every version."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from broker.hl7 import standard
from broker.hl7.standard import VERSIONS, Field, describe

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("path", "name", "datatype", "table", "length"),
    [
        ("PID", "Patient Identification", "", "", None),
        ("PID-3", "Patient Identifier List", "CX", "", None),
        ("PID-3[2].4.2", "Patient Identifier List / Assigning Authority / Universal ID", "ST", "", 199),
        ("PID-3[*].5", "Patient Identifier List / Identifier Type Code", "ID", "0203", 5),
        ("PID-7.1", "Date/Time of Birth / Time", "DTM", "", 24),
        ("PID-8", "Administrative Sex", "IS", "0001", 20),
        ("PID-8.1", "Administrative Sex", "IS", "0001", 20),  # a primitive is its own first component
        ("PID-20.1", "Driver's License Number Patient / License Number", "ST", "", 199),
        ("MSH-9.1", "Message Type / Message Code", "ID", "0076", 3),
        ("MSH-10", "Message Control ID", "ST", "", 20),
        ("ORC[2]>OBR-4.1", "Universal Service Identifier / Identifier", "ST", "", 20),
        ("ORC-7.6", "Quantity Timing / Priority", "ST", "", 6),
        ("OBX[*]-5", "Observation Value", "", "", None),  # its type is in OBX-2
        ("OBX-5.4.9", "Observation Value", "", "", None),
        ("IPC-1", "Accession Identifier", "EI", "", None),
        ("DG1-3.1", "Diagnosis Code DG1 / Identifier", "ST", "", 20),
    ],
)
def test_a_path_has_a_name_a_type_a_table_and_a_length(path: str, name: str, datatype: str, table: str, length: int | None) -> None:
    found = describe(path)
    assert found is not None
    assert (found.name, found.datatype, found.table, found.length) == (name, datatype, table, length)
    assert found.version == "2.5.1"


@pytest.mark.parametrize("path", ["ZDS", "ZDS-1", "OBZ-1", "PID-99", "PID-8.2", "PID-8.1.2", "PID-5.99", "PID-3.4.9"])
def test_what_the_standard_does_not_have_is_none(path: str) -> None:
    assert describe(path) is None


def test_what_repeats_what_must_be_there_and_whose_table_it_is() -> None:
    assert describe("PID-3") == Field("Patient Identifier List", "CX", "", False, True, True, None, "2.5.1")
    sex, control = describe("PID-8"), describe("ORC-1")
    assert sex is not None
    assert control is not None
    assert (sex.defined, sex.repeats, sex.required) == (False, False, False)  # table 0001 is the user's to extend
    assert (control.defined, control.required) == (True, True)


def test_versions_differ() -> None:
    assert standard.versions_of("IPC-1") == ("2.5", "2.5.1", "2.6", "2.7", "2.8", "2.8.1", "2.8.2")
    assert standard.versions_of("ORC-1") == VERSIONS
    assert standard.versions_of("OBR-27.6")[-1] == "2.6"  # timing moved to TQ1
    assert standard.versions_of("ZDS-1") == ()
    assert (standard.fields("PID", "2.1"), standard.fields("PID"), standard.fields("ZZZ")) == (20, 39, 0)
    old = describe("PID-3", "2.1")
    assert old is not None
    assert old.name == "Patient ID Internal ID"


def test_tables_are_those_of_the_version_or_the_next_that_lists_them() -> None:
    assert {"NW", "CA", "XO"} <= set(standard.values("0119"))
    assert standard.values("0119", "2.1") == standard.values("0119", "2.3.1")
    assert "UNICODE UTF-8" in standard.values("0211")
    assert standard.values("9999") == ()
    for table in ("0001", "0003", "0038", "0076", "0085", "0103", "0119", "0125", "0211"):
        assert standard.values(table), table


def test_the_segments_of_a_message() -> None:
    assert {"PID", "ORC", "OBR", "IPC"} <= standard.structure("OMI^O23^OMI_O23")
    assert standard.structure("OMI^O23") == standard.structure("OMI_O23")
    assert "OBR" not in standard.structure("ADT^A04^ADT_A01")
    assert standard.structure("XXX^Y01") == frozenset()


def test_a_name_is_that_of_the_nearest_place() -> None:
    assert standard.name_of("PID-3.4") == "Patient Identifier List / Assigning Authority"
    assert standard.name_of("PID-3.99") == "Patient Identifier List"
    assert standard.name_of("PID-99") == "Patient Identification"
    assert standard.name_of("ZPI-3") == ""


def test_every_place_of_every_version_can_be_described() -> None:
    for version in VERSIONS:
        for segment in standard.segments(version):
            for number in range(1, standard.fields(segment, version) + 1):
                for part in ("", ".1", ".2", ".1.1", ".1.2"):
                    found = describe(f"{segment}-{number}{part}", version)
                    assert found is None or found.name.strip(), (version, segment, number, part)


def test_wrong_words_are_errors_that_say_so() -> None:
    with pytest.raises(LookupError, match=r"no HL7 version 2\.9"):
        describe("PID-3", "2.9")
    with pytest.raises(ValueError, match="not an HL7 path"):
        describe("PID3")


def test_the_tables_are_loaded_when_they_are_asked_for() -> None:
    program = "import sys; from broker.config.load import load; from broker.connectors import registry; load('channels.yaml', {}, registry)"
    program += "; print('hl7apy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"
