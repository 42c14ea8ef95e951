"""The Attribute Confidentiality Profiles of PS3.15 table E.1-1 (`confidentiality.csv`): what happens to each attribute, by options."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydicom.tag import BaseTag

TABLE = Path(__file__).with_suffix(".csv")


@dataclass(frozen=True, slots=True)
class Choice:
    """One option of the profile: its column of the table, its code (PS3.16 CID 7050) and what it says in a method."""

    column: str
    code: str
    meaning: str


BASIC = Choice("basic", "113100", "Basic Application Confidentiality Profile")
OPTIONS: Mapping[str, Choice] = {
    "clean_pixel_data": Choice("", "113101", "Clean Pixel Data Option"),
    "clean_structured_content": Choice("clean_structured", "113104", "Clean Structured Content Option"),
    "clean_descriptors": Choice("clean_descriptors", "113105", "Clean Descriptors Option"),
    "retain_full_dates": Choice("retain_dates", "113106", "Retain Longitudinal Temporal Information Full Dates Option"),
    "retain_modified_dates": Choice("retain_dates", "113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    "retain_patient_characteristics": Choice("retain_patient", "113108", "Retain Patient Characteristics Option"),
    "retain_device_identity": Choice("retain_device", "113109", "Retain Device Identity Option"),
    "retain_uids": Choice("retain_uids", "113110", "Retain UIDs Option"),
    "retain_safe_private": Choice("", "113111", "Retain Safe Private Option"),
    "retain_institution": Choice("retain_institution", "113112", "Retain Institution Identity Option"),
}
# Where the profile leaves a choice, for it depends on the type of the attribute in its IOD: what fits every type.
_STRICTEST = {"X/Z": "Z", "X/D": "D", "X/Z/D": "D", "Z/D": "D", "X/Z/U*": "U"}


@cache
def profile_of(options: frozenset[str]) -> Profile:
    """Return the profile with these options; the table is read once for each set of them."""
    return Profile(options)


class Profile:
    """The basic profile with some options; gives the action on each attribute.

    D a dummy value, Z no value, X no attribute, K kept, C cleaned, U a UID replaced by another. `shifted`: dates move instead of staying.
    """

    def __init__(self, options: Collection[str]) -> None:
        self.shifted = "retain_modified_dates" in options
        self._columns = [OPTIONS[option].column for option in options if OPTIONS[option].column]
        with TABLE.open(encoding="utf-8", newline="") as file:
            self._actions = {row["tag"]: self._action(row) for row in csv.DictReader(file)}

    def _action(self, row: Mapping[str, str]) -> str:
        for column in self._columns:
            if row[column]:
                return "C" if self.shifted and column == "retain_dates" else row[column]
        return _STRICTEST.get(row["basic"], row["basic"])

    def action(self, tag: BaseTag) -> str:
        """Return what the profile says of a standard attribute; "" when it says nothing, and the attribute stays."""
        name = f"{int(tag):08X}"
        repeated = {"50": "50xxxxxx", "60": f"60xx{name[4:]}"}.get(name[:2], name)  # curves and overlays
        return self._actions.get(repeated, "")
