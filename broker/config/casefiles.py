"""The files of cases that routes name: do they say what can be tried, and are their samples there?"""

from __future__ import annotations

import os
from pathlib import Path

from broker.config.files import read_document
from broker.config.models import Channel
from broker.config.session import Session
from broker.errors import Problem
from broker.pipeline.cases import read_cases
from broker.pipeline.shape import Mistakes


def check_cases(session: Session, channels: tuple[Channel, ...]) -> None:
    """Note every mistake in the files of cases; whether the cases hold is the matter of `broker test`."""
    for path in {channel.cases: None for channel in channels if channel.cases and channel.cases.is_file()}:
        document = read_document(path, session.file(os.path.relpath(path, session.folder)), session.environment)
        mistakes = Mistakes()
        found = read_cases(document.value, mistakes, file=document.file, line=document.line)
        for case in found:
            for sample in dict.fromkeys(one.file for one in (*case.before, case.given) if one.file):
                if not Path(session.folder / sample).is_file():
                    instead = "name a sample from the folder of channels.yaml"
                    session.add(Problem(document.file, case.line, "", f"there is no file {sample}", instead))
        session.add(*document.problems)
        session.take(document, mistakes)
