"""Alert rules, scrape configuration and dashboard: valid for promtool, right in behaviour, built on metrics that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram

from broker.obs.metrics import Metrics

TOP = Path(__file__).parents[2]
RULES = TOP / "deploy/prometheus/rules.yml"
DASHBOARD = TOP / "deploy/grafana/dashboard.json"

# Metrics that Prometheus itself adds to every scrape, and labels that it or PromQL adds to every series.
OWN = {"up": {"job", "instance"}, "ALERTS": {"alertname", "alertstate", "severity"}}
ADDED_LABELS = {"job", "instance", "le"}

KEYWORDS = {"by", "on", "or", "and", "unless", "offset", "without", "ignoring", "bool", "group_left", "group_right"}
SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*\{([^{}]*)\}")
GROUPING = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^()]*)\)")
NAME = re.compile(r"[a-zA-Z_:][\w:]*")


def exported() -> dict[str, set[str]]:
    """Return every series name the broker can export, with its labels."""
    metrics = Metrics()
    suffixes: dict[type, tuple[str, ...]] = {Counter: ("_total",), Histogram: ("_bucket", "_sum", "_count"), Gauge: ("",)}
    own = [metric for metric in vars(metrics).values() if isinstance(metric, tuple(suffixes))]
    names = {metric._name + suffix: set(metric._labelnames) for metric in own for suffix in suffixes[type(metric)]}
    process = {sample.name: set(sample.labels) for family in metrics.registry.collect() for sample in family.samples}
    return {name: labels for name, labels in {**process, **names}.items() if not name.endswith("_created")}


def used(expression: str) -> tuple[set[str], list[tuple[str, set[str]]], set[str]]:
    """Return what a PromQL expression uses: the metrics, the labels each selector names, and the labels it groups by."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    bare = re.sub(r"\[[^\]]*\]", "", bare)
    selectors = [
        (name, {re.split("[=!]", part)[0].strip() for part in labels.split(",") if part.strip()}) for name, labels in SELECTOR.findall(bare)
    ]
    grouped = {label.strip() for labels in GROUPING.findall(bare) for label in labels.split(",")}
    rest = re.sub(r"\{[^}]*\}", "", GROUPING.sub("", bare))
    rest = re.sub(r"\boffset\s+\w+", "", rest)
    rest = re.sub(r"(?<![\w:])[\d.]+(?:e\d+)?\b", "", rest)
    names = {match[0] for match in NAME.finditer(rest) if not rest[match.end() :].lstrip().startswith("(")}
    return names - KEYWORDS, selectors, grouped


def rule_expressions() -> Iterator[tuple[str, str]]:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


def dashboard_expressions() -> Iterator[tuple[str, str]]:
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]
    for variable in dashboard["templating"]["list"]:
        if found := re.fullmatch(r"label_values\((.+), *(\w+)\)", variable["query"]):
            yield variable["name"], f"sum by ({found[2]}) ({found[1]})"


@pytest.mark.parametrize(
    ("expression", "names", "selectors", "grouped"),
    [
        ('up{job="a,b"} == 0', {"up"}, [("up", {"job"})], set()),
        ("sum by (le, x) (rate(a_bucket[5m])) > 0.5", {"a_bucket"}, [], {"le", "x"}),
        ('a - on (i) b{x!~"c|d", y="e"} offset 15m', {"a", "b"}, [("b", {"x", "y"})], {"i"}),
        ("(a unless a offset 1h) or vector(0)", {"a"}, [], set()),
    ],
)
def test_an_expression_is_taken_apart(expression: str, names: set[str], selectors: list[tuple[str, set[str]]], grouped: set[str]) -> None:
    assert used(expression) == (names, selectors, grouped)


@pytest.mark.parametrize(("where", "expression"), [*rule_expressions(), *dashboard_expressions()])
def test_every_metric_and_label_named_exists(where: str, expression: str) -> None:
    known = exported() | OWN
    names, selectors, grouped = used(expression)
    assert names, where
    assert names <= set(known)
    for name, labels in selectors:
        assert labels <= known[name] | ADDED_LABELS, name
    assert grouped <= ADDED_LABELS.union(*(known[name] for name in names))


def test_a_counter_is_used_as_one_and_a_gauge_as_one() -> None:
    for where, expression in [*rule_expressions(), *dashboard_expressions()]:
        for name in re.findall(r"\b(?:rate|increase)\(\s*([\w:]+)", expression):
            assert name.endswith(("_total", "_bucket", "_sum", "_count")), where


def test_every_metric_of_the_broker_is_shown_on_the_dashboard_or_watched_by_a_rule() -> None:
    seen = set().union(*(used(expression)[0] for _, expression in [*rule_expressions(), *dashboard_expressions()]))
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported() if name.startswith("broker_")}
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in seen}
    assert families <= shown


def test_every_alert_tells_what_is_wrong_and_what_to_do() -> None:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in {"page", "ticket"}, rule["alert"]
            assert set(rule["annotations"]) == {"summary", "action"}, rule["alert"]


def test_the_conditions_an_operator_must_hear_of_have_an_alert() -> None:
    assert {alert for alert, _ in rule_expressions()} == {
        "BrokerDown", "BrokerStoreDown", "BrokerDiskNearlyFull", "BrokerStoreCommitSlow", "BrokerAckSlow", "BrokerSilence", "BrokerRejects",
        "BrokerProtocolErrors", "BrokerDestinationDown", "BrokerQueueOld", "BrokerQueueGrowing", "BrokerParked", "BrokerUnmatched",
        "BrokerCertificateExpires",
        "BrokerConfigurationDrift",
        "BrokerPeerDown",
        "BrokerPriorsLate",
        "BrokerSpoolFull",
        "BrokerNotCommitted",
    }  # fmt: skip


def promtool(*arguments: str | Path) -> str:
    program = shutil.which("promtool")
    assert program, "promtool is missing; on Debian and Ubuntu it is in the package prometheus (see scripts/peers)"
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_the_rules_and_the_scrape_configuration() -> None:
    assert f"{len(list(rule_expressions()))} rules found" in promtool("check", "rules", RULES)
    assert "SUCCESS" in promtool("check", "config", TOP / "deploy/prometheus/prometheus.yml")


def test_the_alerts_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    cases = tmp_path / "rules_test.yml"
    cases.write_text((Path(__file__).parent / "rules_test.yml").read_text().replace("RULES", str(RULES)))
    assert "SUCCESS" in promtool("test", "rules", cases)


def test_the_panels_of_the_dashboard_do_not_overlap_and_have_their_own_ids() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for at in (panel["gridPos"] for panel in panels)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
