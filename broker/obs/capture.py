"""What Twisted, other libraries and Python itself have to say, told through the broker's log as safely as its own events.

Their texts may quote a message (pydicom's warnings do), so only the kind and the place of what they say gets out.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable
from typing import Any, TextIO

from twisted.logger import ILogObserver, LogEvent, LogLevel
from twisted.python.failure import Failure
from zope.interface import implementer

from broker.obs.log import Log, describe


@implementer(ILogObserver)
class TwistedObserver:
    """A Twisted log observer: unexpected errors and warnings go to the broker's log, without their texts."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def __call__(self, event: LogEvent) -> None:
        level = event.get("log_level", LogLevel.info)
        failure = event.get("log_failure")
        namespace = _module(str(event.get("log_namespace", "")))
        if isinstance(failure, Failure):
            self._log.error("unexpected error", name=namespace, **describe(failure))
        elif level >= LogLevel.warn:
            self._log.warning("library warning", name=namespace)


class LoggingHandler(logging.Handler):
    """A handler of the standard library's logging (pydicom, pynetdicom): module, place and exception type only."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record's kind and place."""
        fields: dict[str, Any] = {"name": _module(record.name), "at": f"{_file(record.pathname)}:{record.lineno}"}
        if record.exc_info and record.exc_info[1] is not None:
            fields |= {"type": type(record.exc_info[1]).__name__}
        self._log.warning("library warning", **fields)


def capture(log: Log) -> Callable[[], None]:
    """Send the standard library's logging and Python's warnings through `log`; returns what undoes it."""
    handler, shown = LoggingHandler(log), warnings.showwarning

    def show(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None, line: str | None = None
    ) -> None:
        log.warning("library warning", type=category.__name__, at=f"{_file(filename)}:{lineno}")

    logging.getLogger().addHandler(handler)
    warnings.showwarning = show

    def undo() -> None:
        logging.getLogger().removeHandler(handler)
        warnings.showwarning = shown

    return undo


def _module(name: str) -> str:
    return re.sub(r"[^\w.]", "", name, flags=re.ASCII)[:64]


def _file(path: str) -> str:
    return re.sub(r"[^\w./-]", "", "/".join(path.split("/")[-3:]))
