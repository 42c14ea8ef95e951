"""The list of metrics."""

from __future__ import annotations

from prometheus_client import generate_latest

from broker.obs.metrics import Metrics

FORBIDDEN = {"patient", "accession", "control_id", "name", "birth_date", "message_id", "peer"}


def test_every_metric_is_the_brokers_own_or_the_process_and_none_has_a_label_that_could_name_a_patient() -> None:
    families = list(Metrics().registry.collect())
    assert families
    for family in families:
        assert family.name.startswith(("broker_", "process_"))
        assert family.documentation
        assert not FORBIDDEN & {label for sample in family.samples for label in sample.labels}


def test_two_sets_of_metrics_share_nothing() -> None:
    one, other = Metrics(), Metrics()
    one.commits.inc()
    assert b"broker_store_commits_total 1.0" in generate_latest(one.registry)
    assert b"broker_store_commits_total 0.0" in generate_latest(other.registry)


def test_labels_are_declared_without_patient_data() -> None:
    for metric in vars(Metrics()).values():
        assert not FORBIDDEN & set(getattr(metric, "_labelnames", ()))
