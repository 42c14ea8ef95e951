"""Which files a configuration was read from, and what has become of them since."""

from __future__ import annotations

from pathlib import Path

from broker.config.sources import Source, differing, digest
from tests.config.conftest import Check


def test_every_file_is_known_with_its_part_in_it(check: Check, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    found = check(
        ("channels.yaml", "authority: HOSP", f"authority: HOSP\n  name: ${{file:{tmp_path / 'secret'}}}"),
        ("routes/orders.yaml", "accept:", "cases: cases.yaml\naccept:"),
        files={"routes/cases.yaml": "[]\n"},
    )
    assert found.config is not None
    assert {source.name: source.role for source in found.config.sources} == {
        "channels.yaml": "runs",
        str(tmp_path / "secret"): "secret",
        "tables/sex.csv": "runs",
        "tables/stations.csv": "runs",
        "routes/orders.yaml": "runs",
        "routes/cases.yaml": "cases",
        "routes/images.yaml": "runs",
    }


def test_the_digest_is_that_of_what_runs_and_tells_nothing_of_a_secret() -> None:
    run = Source("channels.yaml", "version: 1\n")
    whole = digest([run])
    assert len(whole) == 12
    assert digest([run, Source("tests.yaml", "[]", "cases"), Source("/run/key", "abc", "secret")]) == whole
    assert digest([Source("channels.yaml", "version: 1")]) != whole
    assert digest([Source("other.yaml", "version: 1\n")]) != whole
    assert Source("/run/key", "abc", "secret").digest == ""


def test_what_is_other_on_disk_is_named(check: Check, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("one")
    config = check(("channels.yaml", "authority: HOSP", f"authority: HOSP\n  name: ${{file:{secret}}}")).config
    assert config is not None
    channels = tmp_path / "channels.yaml"
    assert differing(channels, config.sources) == {}
    (tmp_path / "routes" / "orders.yaml").write_text("description: other\n")
    (tmp_path / "routes" / "images.yaml").unlink()
    (tmp_path / "tables" / "new.csv").write_text("a,b\n1,2\n")
    secret.write_text("two")
    found = differing(channels, config.sources)
    assert sorted(found) == sorted(["routes/images.yaml", "routes/orders.yaml", str(secret), "tables/new.csv"])
    assert found["routes/images.yaml"] == ""
    assert found["routes/orders.yaml"] != found["tables/new.csv"] != ""


def test_the_channels_file_may_have_any_name(check: Check, tmp_path: Path) -> None:
    config = check().config
    assert config is not None
    (tmp_path / "channels.yaml").rename(tmp_path / "mine.yaml")
    assert differing(tmp_path / "mine.yaml", config.sources) == {}
