"""What a DICOM listener's settings say of services that it does not offer, and of stations that nobody can book."""

from __future__ import annotations

from pathlib import Path

from broker.config.check import check_config
from broker.connectors import registry

TEXT = """version: 1
site: {authority: HOSP}
listeners:
  modalities:
    dicom:
      port: 11112
      services: [%s]
      commitment: {by: spool}
      worklist: {most: 50}
      retrieve: {spool: true}
      peers:
        CT1: {worklist: {stations: [CT1, CTX]}}
        CT2: {worklist: {stations: CT1}}
channels:
  images: {from: modalities, route: images.yaml}
"""
ROUTE = "description: Nothing leaves.\naccept: kind = C-STORE\nsteps:\n  - require: StudyInstanceUID\n"
TABLE = "ae_title,modality,room,opens,closes\nCT1,CT,Room 1,0000,2400\n"


def warned(folder: Path, services: str, table: str = TABLE) -> list[tuple[int, str]]:
    (folder / "mappings").mkdir(exist_ok=True)
    (folder / "mappings" / "stations.csv").write_text(table)
    (folder / "images.yaml").write_text(ROUTE)
    (folder / "channels.yaml").write_text(TEXT % services)
    found = check_config(folder / "channels.yaml", {}, registry)
    assert found.problems == []
    return [(one.line, one.what) for one in found.warnings if "services" in one.what or "booked" in one.what]


def test_settings_of_a_service_that_is_not_offered(tmp_path: Path) -> None:
    assert warned(tmp_path, "store") == [
        (8, "commitment is not among the services of this listener"),
        (9, "worklist is not among the services of this listener"),
        (10, "neither query nor retrieve is among the services of this listener"),
        (12, "CTX is no modality that can be booked"),
    ]


def test_settings_of_services_that_are_offered(tmp_path: Path) -> None:
    assert warned(tmp_path, "store, worklist, commitment, query", TABLE + "CTX,CT,Room 2,0000,2400\n") == []
