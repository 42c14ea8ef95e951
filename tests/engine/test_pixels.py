"""Real worker processes, real files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import JPEGLSLossless

from broker.engine.pixels import Worker
from broker.errors import MessageError

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


def test_what_kills_a_fresh_process_is_at_fault(worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("sys.executable", "/bin/false")
        with pytest.raises(MessageError, match="ends its process"):
            worker.run(job(tmp_path / "made"))
    assert worker.run(job(tmp_path / "made")) == {}
