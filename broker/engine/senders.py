"""Modalities that answer queries are asked how many instances a study has."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed

from broker.config.models import Config, Destination
from broker.connectors.dicom_retrieval import Task
from broker.engine.priorsearch import PriorSearch
from broker.engine.retrieval import Retrievals
from broker.obs.log import Log

PATIENCE = 30.0  # seconds


class Senders:
    """Asks by C-FIND, study root, at the level of the study (`engine.completion.Ask`)."""

    def __init__(self, retrievals: Retrievals, config: Callable[[], Config], log: Log) -> None:
        self._retrievals, self._config, self._log = retrievals, config, log

    def ask(self, station: str, study: str) -> Deferred[int | None]:
        """Fire with the number, None when this one cannot be asked or does not say."""
        destination = self._destination(station)
        if destination is None or not study:
            return succeed(None)
        search = PriorSearch((), None, "", Task(), self._log)
        return Deferred.fromCoroutine(search.count(self._retrievals.archive(destination, PATIENCE), study))

    def _destination(self, station: str) -> Destination | None:
        config = self._config()
        name = config.senders.get(station)
        return next((one for one in config.destinations if one.name == name), None)
