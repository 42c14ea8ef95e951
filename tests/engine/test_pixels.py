"""Real worker processes, real files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import JPEGLSLossless

from broker.engine.pixels import Pixels, Worker
from broker.errors import MessageError, Retry

SOURCE = str(get_testdata_file("CT_small.dcm"))


@pytest.fixture(name="worker")
def worker_() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.stop()


def job(target: Path, **settings: Any) -> dict[str, Any]:
    return {"job": "transcode", "source": SOURCE, "target": str(target), "syntax": JPEGLSLossless, **settings}


def test_a_worker_does_one_job_after_the_other(worker: Worker, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert worker.run(job(tmp_path / name)) == {}
        assert dcmread(tmp_path / name).file_meta.TransferSyntaxUID == JPEGLSLossless


def test_why_a_job_cannot_be_done_comes_back(worker: Worker, tmp_path: Path) -> None:
    with pytest.raises(MessageError, match="cannot be written in") as caught:
        worker.run(job(tmp_path / "made", syntax="1.2.840.10008.1.2.2"))
    assert (caught.value.path, caught.value.code) == ("TransferSyntaxUID", 103)
    assert worker.run(job(tmp_path / "made")) == {}


def test_a_process_that_ended_meanwhile_is_started_again(worker: Worker, tmp_path: Path) -> None:
    worker.run(job(tmp_path / "one"))
    assert worker.process is not None
    worker.process.kill()
    worker.process.wait()
    assert worker.run(job(tmp_path / "two")) == {}


def test_a_job_that_takes_too_long_ends_with_its_process(worker: Worker, tmp_path: Path) -> None:
    pipe = tmp_path / "source"
    os.mkfifo(pipe)  # nobody writes to it
    with pytest.raises(MessageError, match="takes longer than"):
        worker.run(job(tmp_path / "made", source=str(pipe)), 1.0)
    assert worker.process is None


def test_a_fresh_process_that_is_killed_gets_the_job_once_more(worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system ends processes when memory is short: no reason to give the object to a person."""
    once = tmp_path / "python"
    once.write_text(f'#!/bin/sh\n[ -e "$0.ran" ] || {{ touch "$0.ran"; kill -9 $$; }}\nexec {sys.executable} "$@"\n')
    once.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(once))
    assert worker.run(job(tmp_path / "made")) == {}


def test_what_kills_each_fresh_process_is_at_fault(worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("sys.executable", "/bin/false")
        with pytest.raises(MessageError, match="ends its process"):
            worker.run(job(tmp_path / "made"))
    assert worker.run(job(tmp_path / "made")) == {}


def test_a_job_under_way_is_not_waited_for_at_the_end(worker: Worker, tmp_path: Path) -> None:
    pipe = tmp_path / "source"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as thread:
        doing = thread.submit(worker.run, job(tmp_path / "made", source=str(pipe)))
        with pipe.open("wb"):  # once the process reads it
            worker.close()
            with pytest.raises(Retry):
                doing.result()
    with pytest.raises(Retry):
        worker.run(job(tmp_path / "made"))


def test_nothing_is_begun_after_the_end(tmp_path: Path) -> None:
    pixels = Pixels(None, tmp_path, 1)
    pixels.stop()
    with pytest.raises(Retry):
        pixels._work(job(tmp_path / "made"))
