"""De-identification by the Basic Application Confidentiality Profile of PS3.15 annex E and its options."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pydicom.datadict import dictionary_has_tag, repeater_has_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from broker.dicom.confidentiality import BASIC, OPTIONS, Choice, profile_of
from broker.dicom.pseudonyms import Pseudonyms
from broker.errors import MessageError

METHOD = "PS3.15 annex E"
_PRIVATE_CREATORS = range(0x10, 0x100)
# A value that says nothing, by VR; of those that are not here the dummy is no value.
_DUMMIES = {
    **dict.fromkeys(("AE", "LO", "LT", "PN", "SH", "ST", "UC", "UT"), "REMOVED"),
    "CS": "REMOVED",
    "AS": "000Y",
    "DA": "19000101",
    "DT": "19000101000000",
    "TM": "000000",
    "DS": "0",
    "IS": "0",
    **dict.fromkeys(("US", "SS", "UL", "SL", "UV", "SV"), 0),
    **dict.fromkeys(("FL", "FD"), 0.0),
}
_TEXT_VALUE = 0x0040A160  # of a content item: the table leaves it to the cleaning of the content around it
_DATES = ("DA", "DT")


@dataclass(frozen=True, slots=True)
class Deidentification:
    """What a destination may know: the options taken, and what is safe by the site's own lists."""

    options: frozenset[str] = frozenset()
    descriptions: Mapping[str, str] = field(default_factory=dict)  # texts known to be safe, and what they become
    private: Collection[tuple[str, int]] = ()  # safe private attributes: creator, element with its block as 00


def deidentify(dataset: Dataset, by: Deidentification, pseudonyms: Pseudonyms, *, cleaned_pixels: bool = False) -> None:
    """De-identify a whole dataset in place, and say so in it; raises MessageError for what cannot be.

    The patient's identifier becomes a pseudonym, and so does the name. UIDs are replaced consistently. `cleaned_pixels`: the burned-in
    annotations are gone.
    """
    if "EncapsulatedDocument" in dataset:
        raise MessageError("EncapsulatedDocument", "a document cannot be de-identified", 103)
    patient, issuer = str(dataset.get("PatientID") or ""), str(dataset.get("IssuerOfPatientID") or "")
    _Cleaner(by, pseudonyms, pseudonyms.days(patient, issuer)).clean(dataset)
    dataset.PatientID = dataset.PatientName = pseudonyms.patient(patient, issuer)
    dataset.PatientIdentityRemoved = "YES"
    dataset.LongitudinalTemporalInformationModified = _dates(by.options)
    if cleaned_pixels:
        dataset.BurnedInAnnotation = "NO"
    taken = [BASIC, *(choice for name, choice in OPTIONS.items() if name in by.options and (name != "clean_pixel_data" or cleaned_pixels))]
    dataset.DeidentificationMethod = METHOD
    dataset.DeidentificationMethodCodeSequence = Sequence(map(_code, taken))


def _dates(options: Collection[str]) -> str:
    if "retain_full_dates" in options:
        return "UNMODIFIED"
    return "MODIFIED" if "retain_modified_dates" in options else "REMOVED"


def _code(choice: Choice) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = choice.code, "DCM", choice.meaning
    return code


class _Cleaner:
    """Applies the table to a dataset and everything below it."""

    def __init__(self, by: Deidentification, pseudonyms: Pseudonyms, days: int) -> None:
        self._by, self._pseudonyms, self._days = by, pseudonyms, days
        self._profile = profile_of(by.options)
        self._acts: dict[str, Callable[[Dataset, DataElement], None]] = {
            "X": self._remove,
            "Z": _empty,
            "D": self._replace,
            "U": self._rename,
            "C": self._clean,
            "K": self._keep,
            "": self._keep,
        }

    def clean(self, dataset: Dataset) -> None:
        """Change the dataset in place."""
        safe = self._safe_private(dataset)
        for element in list(dataset):
            if element.tag.is_private:
                if element.tag not in safe:
                    del dataset[element.tag]
            elif not dictionary_has_tag(element.tag) and not repeater_has_tag(element.tag):
                del dataset[element.tag]  # nobody knows what it says
            elif element.tag == _TEXT_VALUE:
                element.value = self._by.descriptions.get(str(element.value or "").strip(), _DUMMIES["UT"])
            else:
                self._acts[self._profile.action(element.tag)](dataset, element)

    def _safe_private(self, dataset: Dataset) -> set[BaseTag]:
        """Return the private attributes that stay, with the creators of their blocks."""
        if "retain_safe_private" not in self._by.options:
            return set()
        creators = {
            (e.tag.group, e.tag.element): str(e.value).strip() for e in dataset if e.tag.is_private and e.tag.element in _PRIVATE_CREATORS
        }
        safe: set[BaseTag] = set()
        for element in dataset:
            block = (element.tag.group, element.tag.element >> 8)
            name = (element.tag.group << 16) | (element.tag.element & 0xFF)
            if element.tag.is_private and (creators.get(block, ""), name) in self._by.private and element.VR != "SQ":
                safe |= {element.tag, BaseTag(block[0] << 16 | block[1])}
        return safe

    def _remove(self, dataset: Dataset, element: DataElement) -> None:
        del dataset[element.tag]

    def _replace(self, dataset: Dataset, element: DataElement) -> None:
        if element.VR == "SQ":
            element.value = Sequence()
        elif element.VR == "UI":
            self._rename(dataset, element)
        elif element.VR in _DUMMIES:
            element.value = _DUMMIES[element.VR]
        else:
            _empty(dataset, element)

    def _rename(self, dataset: Dataset, element: DataElement) -> None:
        if element.VR == "SQ":
            self._keep(dataset, element)
        elif element.VR == "UI" and element.value:
            many = [element.value] if isinstance(element.value, str) else list(element.value)
            new = [self._pseudonyms.uid(str(uid)) for uid in many]
            element.value = new if len(new) > 1 else new[0]

    def _keep(self, dataset: Dataset, element: DataElement) -> None:
        if element.VR == "SQ":
            for item in element.value:
                self.clean(item)

    def _clean(self, dataset: Dataset, element: DataElement) -> None:
        if element.VR == "SQ":
            self._keep(dataset, element)
        elif self._profile.shifted and element.VR in _DATES:
            self._shift(dataset, element)
        elif self._profile.shifted and element.VR == "TM":
            return  # a date alone tells a day
        else:
            self._replace_text(dataset, element)

    def _replace_text(self, dataset: Dataset, element: DataElement) -> None:
        """Keep a text only when the site has listed it as safe."""
        said = self._by.descriptions.get(str(element.value or "").strip())
        if said:
            element.value = said
        else:
            del dataset[element.tag]

    def _shift(self, dataset: Dataset, element: DataElement) -> None:
        values = list(element.value) if isinstance(element.value, MultiValue) else [element.value]
        try:
            moved = [self._moved(str(value)) for value in values if value]
        except (ValueError, OverflowError):  # no date: nobody knows what it says
            moved = []
        element.value = moved if len(moved) != 1 else moved[0]

    def _moved(self, text: str) -> str:
        """Return a date or date time moved by the patient's days; a range or a year alone is none."""
        day = datetime.strptime(text[:8], "%Y%m%d") + timedelta(days=self._days)
        return day.strftime("%Y%m%d") + text[8:]


def _empty(_: Dataset, element: DataElement) -> None:
    element.value = Sequence() if element.VR == "SQ" else None
