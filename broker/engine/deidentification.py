"""Objects for a destination that may not know the patient: made in a pixel worker, their pseudonyms kept before they leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from twisted.internet.defer import Deferred

from broker.dicom.storerequest import encode_request
from broker.engine.pixels import Pixels
from broker.model import StoreRequest
from broker.store import pseudonyms
from broker.store.database import Database


class Deidentifier:
    """The de-identification of one destination."""

    def __init__(
        self, destination: str, system: str, key: str, rules: Mapping[str, Any], pixels: Pixels, db: Database, now: Callable[[], float]
    ) -> None:
        """`rules`: as `dicom.derive.rules_of` reads them; `system` is named in Original Attributes Sequence."""
        self._destination, self._system, self._key, self._rules = destination, system, key.strip(), rules
        self._pixels, self._db, self._now = pixels, db, now

    def deidentified(self, path: str, request: StoreRequest) -> Deferred[tuple[str, StoreRequest]]:
        """Fire with the path of the de-identified object, which is the caller's, and what to send of it; fails with MessageError."""
        settings = {
            "request": encode_request(request).decode(),
            "system": self._system,
            "now": datetime.fromtimestamp(self._now(), UTC).strftime("%Y%m%d%H%M%S.%f+0000"),
            "key": self._key,
            "rules": self._rules,
        }
        return self._pixels.deidentify(path, settings).addCallback(self._keep, request)

    def _keep(self, made: dict[str, Any], request: StoreRequest) -> Deferred[tuple[str, StoreRequest]]:
        spooled = replace(request.spooled, sop_instance=made["sop_instance"], transfer_syntax=made["syntax"])
        kept = self._db.run("pseudonyms.keep", pseudonyms.keep, self._destination, made["given"], self._now())
        return kept.addCallback(lambda _: (made["path"], StoreRequest(spooled)))
