"""What is doubtful about a message's character set is counted, and the message is taken all the same."""

from pathlib import Path

import pytest

from tests.engine.house import House

ADT = (
    "MSH|^~\\&|EHR|GENHOSP|BROKER|RAD|20260302080000||ADT^A04^ADT_A01|B1|P|2.5.1||||||{charset}\r"
    "EVN||20260302080000\rPID|1||4711^^^GENHOSP^MR||{name}^JANE||19610615|F\rPV1|1|O|RAD\r"
)


@pytest.mark.parametrize(
    ("charset", "name", "why"),
    [
        ("KLINGON", b"DOE", "unknown"),
        ("UNICODE UTF-8", b"D\xd6E", "undecodable"),
        ("8859/1", b"D\x8aE", "mislabelled"),
        ("8859/1", b"D\xd6E", ""),
        ("", b"DOE", ""),
    ],
)
def test_doubts_are_counted(tmp_path: Path, charset: str, name: bytes, why: str) -> None:
    house = House(tmp_path)
    assert "MSA|AA|B1" in house.say(ADT.format(charset=charset, name="@").encode().replace(b"@", name))
    counted = {
        one: house.count("broker_hl7_charset_doubts_total", listener="hospital", why=one) or 0
        for one in ("unknown", "undecodable", "mislabelled")
    }
    assert counted == {one: int(one == why) for one in counted}
