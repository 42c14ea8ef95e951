"""A mistake inside of a nested option is told at its own line."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config.check import check_config
from broker.connectors import registry

TEXT = """version: 1
site: {authority: HOSP}
listeners:
  modalities:
    dicom:
      port: 11112
      peers:
        CT1: {}
        "CT.2":
          charset: latin1
        A_TITLE_THAT_IS_TOO_LONG: {}
        "*":
          from:
            - 10.1.3.0/40
      tls:
        authorities: nowhere.pem
"""


@pytest.mark.parametrize(
    ("line", "where", "what"),
    [
        (10, "listeners.modalities.dicom.peers.CT.2.charset", "write defined terms of Specific Character Set"),
        (11, "listeners.modalities.dicom.peers.A_TITLE_THAT_IS_TOO_LONG", "an AE title has 1 to 16 characters"),
        (13, "listeners.modalities.dicom.peers.*.from", "write addresses or networks"),
        (15, "listeners.modalities.dicom.tls", "certificate: who accepts connections needs one"),
        (16, "listeners.modalities.dicom.tls.authorities", "nowhere.pem: No such file"),
    ],
)
def test_the_line_of_what_is_wrong(tmp_path: Path, line: int, where: str, what: str) -> None:
    (tmp_path / "channels.yaml").write_text(TEXT)
    found = check_config(tmp_path / "channels.yaml", {}, registry).problems
    assert [one.what.startswith(what) for one in found if (one.line, one.where) == (line, where)] == [True]
