"""What archives know of a patient's earlier studies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydicom.dataset import Dataset

from broker.connectors.dicom_archive import Archive
from broker.connectors.dicom_retrieval import Task
from broker.dicom.dimse import Status
from broker.dicom.query import SERIES, STUDY, STUDY_ROOT, values_of
from broker.errors import DeliveryError, Refused
from broker.obs.log import Log
from broker.ris.entities import Patient, PatientIdentifier
from broker.ris.priors import Relevance, Study

MOST_STUDIES = 500  # of one patient at one archive
MOST_LOOKED_INTO = 50  # studies whose description names no body part: their series may
_RETURNED = (
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "ModalitiesInStudy",
    "NumberOfStudyRelatedInstances",
    "IssuerOfPatientID",
    "PatientBirthDate",
)


@dataclass(frozen=True, slots=True)
class Found:
    """A study and the archive it is to come from."""

    study: Study
    archive: str


class PriorSearch:
    """One search. `failed` names the archives that did not answer; those that did are made use of."""

    def __init__(self, archives: Sequence[Archive], relevance: Relevance | None, authority: str, task: Task, log: Log) -> None:
        """`authority`: the assigning authority of identifiers for which an archive names none."""
        self._archives, self._relevance, self._authority, self._task, self._log = archives, relevance, authority, task, log
        self.failed: list[str] = []

    async def run(self, patient: Patient, identifiers: Sequence[PatientIdentifier], *, without: str) -> dict[str, Found]:
        """Return the studies under any of these identifiers by Study Instance UID, but the one of the exam itself.

        Of what several archives have the first one is taken.
        """
        found: dict[str, Found] = {}
        for archive in self._archives:
            try:
                async with archive:
                    await archive.open(STUDY_ROOT.find)
                    studies = [study for one in identifiers for study in await self._of(archive, patient, one)]
                    for study in await self._placed(archive, studies):
                        if study.uid != without:
                            found.setdefault(study.uid, Found(study, archive.name))
            except DeliveryError as error:
                self.failed.append(archive.name)
                self._log.warning("archive cannot be asked", destination=archive.name, reason=str(error))
        return found

    async def count(self, archive: Archive, study: str) -> int | None:
        """Return how many instances of a study an archive has, 0 when it does not count, None when it has none or cannot be asked."""
        identifier = Dataset()
        identifier.StudyInstanceUID, identifier.NumberOfStudyRelatedInstances = study, ""
        try:
            async with archive:
                await archive.open(STUDY_ROOT.find)
                entries = await self._ask(archive, STUDY, identifier)
        except DeliveryError:
            return None
        return max((_number(one, "NumberOfStudyRelatedInstances") for one in entries), default=None)

    async def _of(self, archive: Archive, patient: Patient, identifier: PatientIdentifier) -> list[Study]:
        asked = Dataset()
        asked.PatientID, asked.StudyInstanceUID = identifier.value, ""
        for keyword in _RETURNED:
            setattr(asked, keyword, "")
        entries = await self._ask(archive, STUDY, asked)
        return [self._study(one) for one in entries if self._is_of(one, patient, identifier)]

    def _is_of(self, entry: Dataset, patient: Patient, identifier: PatientIdentifier) -> bool:
        """Whether a study is this patient's: by its issuer, which is the site's where none is named, and never against the birth date."""
        if _text(entry, "PatientID") not in ("", identifier.value):
            return False
        issuer, born = _text(entry, "IssuerOfPatientID"), _text(entry, "PatientBirthDate")
        if (issuer or self._authority) != (identifier.authority or self._authority):
            return False
        return not born or not patient.birth_date or born == patient.birth_date[:8]

    def _study(self, entry: Dataset) -> Study:
        assert self._relevance is not None
        return Study(
            uid=_text(entry, "StudyInstanceUID"),
            date=_text(entry, "StudyDate"),
            time=_text(entry, "StudyTime"),
            modalities=tuple(values_of(entry, "ModalitiesInStudy")),
            body_part=self._relevance.body_part(_text(entry, "StudyDescription")),
            instances=_number(entry, "NumberOfStudyRelatedInstances"),
        )

    async def _placed(self, archive: Archive, studies: Sequence[Study]) -> list[Study]:
        """Look for modality and body part in the series of studies that do not tell them themselves, the latest first."""
        latest = sorted(studies, key=lambda one: (one.date, one.time), reverse=True)
        vague = [one for one in latest if not one.body_part or not one.modalities][:MOST_LOOKED_INTO]
        told = {one.uid: await self._looked_into(archive, one) for one in vague}
        return [told.get(one.uid, one) for one in studies if one.uid]

    async def _looked_into(self, archive: Archive, study: Study) -> Study:
        assert self._relevance is not None
        asked = Dataset()
        asked.StudyInstanceUID, asked.SeriesInstanceUID = study.uid, ""
        asked.Modality = asked.BodyPartExamined = asked.SeriesDescription = ""
        entries = await self._ask(archive, SERIES, asked)
        texts = [_text(one, keyword) for keyword in ("BodyPartExamined", "SeriesDescription") for one in entries]
        modalities = study.modalities or tuple(dict.fromkeys(value for one in entries for value in values_of(one, "Modality")))
        return replace(study, modalities=modalities, body_part=study.body_part or self._relevance.body_part(*texts))

    async def _ask(self, archive: Archive, level: str, identifier: Dataset) -> list[Dataset]:
        identifier.QueryRetrieveLevel = level
        entries: list[Dataset] = []
        asking = Task()
        forget = self._task.watch(asking.cancel)

        async def take(found: Sequence[Dataset]) -> None:
            entries.extend(found)
            if len(entries) >= MOST_STUDIES:
                asking.cancel()

        try:
            status = await archive.find(STUDY_ROOT, identifier, take, asking)
        finally:
            forget()
        if status not in (Status.SUCCESS, Status.CANCELLED):
            raise Refused(f"status 0x{status:04X}")
        return entries


def _text(entry: Dataset, keyword: str) -> str:
    return next(iter(values_of(entry, keyword)), "")


def _number(entry: Dataset, keyword: str) -> int:
    text = _text(entry, keyword)
    return int(text) if text.isdigit() else 0
