"""What a destination that may not know patients is told: the settings of de-identification."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from broker.dicom.confidentiality import OPTIONS
from broker.dicom.pseudonyms import LEAST_KEY
from broker.spec import Option

DEIDENTIFY = Option(
    "deidentify",
    "mapping",
    "De-identify every object by the Basic Application Confidentiality Profile of PS3.15 annex E; nothing else is sent then. "
    "What each pseudonym stands for is kept: `broker reidentify`.",
    default=None,
    example={"key": "${file:secrets/research.key}", "options": ["retain_modified_dates", "clean_pixel_data"], "regions": "regions"},
    options=(
        Option(
            "key",
            "text",
            f"Secret that pseudonyms are made with, {LEAST_KEY} bytes at least, in a file of its own.",
            example="${file:secrets/research.key}",
        ),
        Option("options", "texts", "Options of the profile.", default=["clean_pixel_data"], choices=tuple(OPTIONS)),
        Option(
            "descriptions",
            "text",
            "Code table of the texts that `clean_descriptors` keeps, and what they become.",
            default="",
            example="safe_descriptions",
        ),
        Option("private", "text", "Code table of the private attributes that `retain_safe_private` keeps.", "", example="safe_private"),
        Option("regions", "text", "Code table of where devices burn text into images, for `clean_pixel_data`.", "", example="regions"),
    ),
)
_ALONE = ("retain_full_dates", "retain_modified_dates")


def check_confidential(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (key, what) that the schema cannot say of de-identification."""
    given = settings.get("deidentify")
    if not given:
        return
    if len(given["key"].strip().encode()) < LEAST_KEY:
        yield "deidentify", f"the key is shorter than {LEAST_KEY} bytes: head -c 32 /dev/urandom | base64 > the file that it names"
    if set(_ALONE) <= set(given["options"]):
        yield "deidentify", "dates are kept or moved, not both"
    for table, option in (("descriptions", "clean_descriptors"), ("private", "retain_safe_private"), ("regions", "clean_pixel_data")):
        if given[table] and option not in given["options"]:
            yield "deidentify", f"{table} is used by the option {option}, which is not taken"
