"""Configurations that were applied, kept as files and read back."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from broker.config import versions as module
from broker.config.check import check_config
from broker.config.models import Config
from broker.config.sources import differing
from broker.config.versions import Version, Versions
from broker.errors import BrokerError
from tests.config.conftest import REGISTRY, Check


@pytest.fixture
def config(check: Check) -> Config:
    found = check(("routes/orders.yaml", "accept:", "cases: ../cases/orders.yaml\naccept:"), files={"cases/orders.yaml": "[]\n"}).config
    assert found is not None
    return found


def keep(versions: Versions, config: Config, number: int, digest: str = "", of: int | None = None) -> Version:
    staged = versions.stage(config, Version(number, digest or config.digest, 1000.0 + number, "ann", "because", of))
    versions.commit(staged)
    return staged.version


def test_a_version_is_a_folder_that_can_be_run(config: Config, tmp_path: Path) -> None:
    versions = Versions(tmp_path / "data")
    assert versions.latest() is None
    assert versions.next_number() == 1
    kept = keep(versions, config, 1)
    assert versions.all() == [kept] == [versions.latest()]
    again = check_config(versions.channels(kept), {}, REGISTRY).config
    assert again is not None
    assert again.digest == config.digest == kept.digest
    assert {source.name: source.text for source in versions.sources(kept)} == {source.name: source.text for source in config.sources}
    assert differing(versions.channels(kept), config.sources) == {}


def test_a_version_that_counts_is_durable(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut the folder of a rolled-back configuration would run again."""
    happened: list[str] = []
    fsync, rename = os.fsync, os.rename

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        happened.append(os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), tmp_path / "data"))

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", lambda *paths: (happened.append("rename"), rename(*paths))[1])
    versions = Versions(tmp_path / "data")
    staged = versions.stage(config, Version(1, config.digest, 1000.0, "ann"))
    assert {"configurations/.0001", "configurations/.0001/files", "configurations/.0001/files/routes"} <= set(happened)
    happened.clear()
    versions.commit(staged)
    assert happened == ["rename", "configurations"]


def test_files_outside_of_the_folder_stay_inside_of_the_version(check: Check, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    for name in ("routes", "tables"):
        (tmp_path / name).mkdir(exist_ok=True)
    check()
    text = (tmp_path / "channels.yaml").read_text().replace("routes/", "../routes/").replace("tables: tables/", "tables: ../tables/")
    (folder / "channels.yaml").write_text(text)
    config = check_config(folder / "channels.yaml", {}, REGISTRY).config
    assert config is not None
    versions = Versions(tmp_path / "data")
    kept = keep(versions, config, 1)
    again = check_config(versions.channels(kept), {}, REGISTRY).config
    assert again is not None
    assert again.digest == config.digest
    assert all((tmp_path / "data/configurations/0001") in path.parents for path in (tmp_path / "data").rglob("*.csv"))


def test_no_secret_is_kept_and_nobody_else_may_read(check: Check, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    config = check(("channels.yaml", "authority: HOSP", f"authority: HOSP\n  name: ${{file:{secret}}}")).config
    assert config is not None
    versions = Versions(tmp_path / "data")
    keep(versions, config, 1)
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert files
    assert not any(b"s3cret" in path.read_bytes() for path in files)
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "data/configurations").stat().st_mode) == 0o700


def test_what_was_staged_and_not_committed_never_ran(config: Config, tmp_path: Path) -> None:
    versions = Versions(tmp_path / "data")
    staged = versions.stage(config, Version(1, config.digest, 1.0, "ann"))
    assert versions.all() == []
    versions.discard(staged)
    assert list((tmp_path / "data/configurations").iterdir()) == []


def test_the_version_before_is_the_last_one_with_other_files_and_goes_further_back_each_time(config: Config, tmp_path: Path) -> None:
    versions = Versions(tmp_path / "data")
    kept = [keep(versions, config, number, digest) for number, digest in enumerate(("a", "b", "b", "c"), 1)]
    assert versions.before(kept[3]).number == 3
    again = keep(versions, config, 5, "b", of=3)
    assert versions.before(again).number == 1
    with pytest.raises(BrokerError, match="nothing is kept that ran before version 6"):
        versions.before(keep(versions, config, 6, "a", of=1))
    with pytest.raises(BrokerError, match="there is no version 9: kept are 1 to 6"):
        versions.get(9)


def test_the_oldest_go_and_damaged_ones_are_passed_over(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    versions = Versions(tmp_path / "data")
    for number in (1, 2, 3, 4):
        keep(versions, config, number)
    assert [version.number for version in versions.all()] == [3, 4]
    (tmp_path / "data/configurations/0003/version.json").write_text("{")
    assert [version.number for version in versions.all()] == [4]


def test_a_folder_that_cannot_be_written_is_named(config: Config, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(BrokerError, match="data"):
        Versions(tmp_path / "data").stage(config, Version(1, "", 1.0, "ann"))


def test_the_data_folder_is_found_in_a_channels_file_that_is_not_in_order(tmp_path: Path) -> None:
    (tmp_path / "channels.yaml").write_text(f"data: {tmp_path}/here\nlisteners: 5\n")
    versions = Versions.of(tmp_path / "channels.yaml", {}, REGISTRY)
    assert versions._folder == tmp_path / "here" / "configurations"
