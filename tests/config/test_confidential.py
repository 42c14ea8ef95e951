"""The tables that de-identification reads, and what is wrong with them."""

from __future__ import annotations

import pytest

from broker.config.confidential import rules
from broker.pipeline.tables import read_table

HEAD = "device,sop_class,manufacturer,model,rows,columns,boxes\n"
SETTINGS = {"options": (), "descriptions": "", "private": "", "regions": "regions"}


@pytest.mark.parametrize("name", ["", "Ultrasound Image Storage", "1.2.840.10008.5.1.4.1.1.6.1"])
def test_a_sop_class_by_name_or_uid(name: str) -> None:
    table, _ = read_table("regions", f"{HEAD}room 2,{name},ACME,,,,\n")
    assert [one["sop_class"] for one in rules(SETTINGS, {"regions": table})["devices"]] == [name]


def test_a_sop_class_that_there_is_not() -> None:
    table, _ = read_table("regions", f"{HEAD}room 2,Ultrasound Picture Storage,ACME,,,,\n")
    with pytest.raises(ValueError, match="did you mean Ultrasound Image Storage"):
        rules(SETTINGS, {"regions": table})
