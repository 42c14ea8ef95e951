"""Every metric the broker exposes, in one list; none carries patient data in a label."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

LATENCY = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """The broker's metrics on a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._of_messages(self.registry)
        self._of_the_spool(self.registry)
        self._of_the_node(self.registry)

    def _of_messages(self, registry: CollectorRegistry) -> None:
        counter, gauge = partial(_counter, registry), partial(_gauge, registry)
        # intake
        self.received = counter("messages_received", "Messages, objects and requests received", "listener", "kind")
        self.acknowledged = counter("messages_acknowledged", "Answers given, by code (AA, AE, AR or DICOM status)", "listener", "code")
        self.duplicates = counter("messages_duplicate", "Retransmissions answered from the journal", "listener")
        self.ack_seconds = Histogram(
            "broker_ack_seconds", "Time from the last byte of a message to its answer", ["listener"], buckets=LATENCY, registry=registry
        )
        self.rejected_bytes = counter(
            "protocol_errors", "Frames, PDUs or associations that broke their protocol, by fault", "listener", "fault"
        )
        self.connections = gauge("connections", "Open connections", "listener")
        self.charset_doubts = counter(
            "hl7_charset_doubts",
            "Messages whose MSH-18 names an unknown character set, or whose bytes are undecodable in it or look mislabelled",
            "listener",
            "why",
        )
        self.probes = counter("probes", "Connections that came and left without a byte, as health checks do", "listener")
        self.certificate_expires = gauge(
            "certificate_expires_seconds", "When the own TLS certificate expires, in seconds since the epoch", "where"
        )
        # routing
        self.routed = counter("messages_routed", "Messages a channel accepted", "channel")
        self.filtered = counter("messages_dropped", "Messages a channel dropped on purpose", "channel")
        self.parked = counter("messages_parked", "Messages and deliveries set aside for a person", "where")
        self.unmatched = gauge("unmatched_open", "Open entries of the reconciliation list", "kind")
        # delivery
        self.delivered = counter("deliveries_settled", "Deliveries the destination took", "destination")
        self.retried = counter("deliveries_retried", "Delivery attempts that will be repeated", "destination")
        self.queue_depth = gauge("queue_depth", "Deliveries waiting", "destination")
        self.queue_age = gauge("queue_oldest_seconds", "Age of the oldest waiting delivery", "destination")
        self.destination_up = gauge("destination_up", "1 while the last attempt reached the destination", "destination")
        self.delivery_seconds = Histogram(
            "broker_delivery_seconds", "Time from sending to the destination's answer", ["destination"], buckets=LATENCY, registry=registry
        )
        # DICOM
        self.peer_up = gauge("peer_up", "1 while the peer of a destination answers its scheduled C-ECHO", "destination")
        self.destination_associations = gauge("destination_associations", "Associations open to a destination", "destination")
        self.dicom_outcomes = counter("dicom_outcomes", "Attempts to deliver to a DICOM peer, by how they ended", "destination", "outcome")
        self.associations = gauge("associations", "Open associations", "listener")
        self.associations_total = counter("associations_accepted", "Associations accepted", "listener")
        self.associations_rejected = counter("associations_rejected", "Associations rejected, by reason", "listener", "reason")
        self.suboperations = counter("suboperations", "Sub-operations of C-MOVE and C-GET, by outcome", "listener", "outcome")
        self.archive_failures = counter("archive_requests_failed", "Queries and retrievals an archive did not answer", "destination")
        self.prefetches = counter("prefetches", "Prefetches of prior studies by how they ended: done, late, cancelled", "rule", "outcome")
        self.priors = counter("priors_moved", "Prior studies moved ahead of an exam", "rule")
        self.prefetches_waiting = gauge("prefetches_waiting", "Exams whose prior studies are still to be fetched")
        self.objects = counter("objects_received", "DICOM objects stored", "listener")
        self.object_bytes = counter("object_bytes_received", "Bytes of DICOM objects stored", "listener")

    def _of_the_spool(self, registry: CollectorRegistry) -> None:
        counter, gauge = partial(_counter, registry), partial(_gauge, registry)
        self.spool_objects = gauge("spool_objects", "Objects in the spool")
        self.spool_bytes = gauge("spool_bytes", "Bytes of the objects in the spool")
        self.spool_room = gauge("spool_room_bytes", "Bytes the spool may hold now: its budget, or less where the disk has less")
        self.spool_refusing = gauge("spool_refusing", "1 while only objects of urgent exams are taken, or none")
        self.spool_deleted = counter("spool_objects_deleted", "Objects deleted from the spool since nobody needs them any more")
        # storage commitment
        self.commitments = counter(
            "commitments", "Instances by what became of their storage commitment: committed, resent, failed", "where", "outcome"
        )
        self.commitments_open = gauge(
            "commitments_open", "Instances at a destination that are not committed, by state", "destination", "state"
        )
        self.commitments_waiting = gauge("commitments_waiting", "Requests for storage commitment that are not answered")

    def _of_the_node(self, registry: CollectorRegistry) -> None:
        counter, gauge = partial(_counter, registry), partial(_gauge, registry)
        # store
        self.store_up = gauge("store_up", "1 while the store answers")
        self.commits = counter("store_commits", "Transactions committed")
        self.commit_size = Histogram(
            "broker_store_commit_units", "Units of work in one commit", buckets=(1, 2, 4, 8, 16, 32, 64, 128), registry=registry
        )
        self.commit_seconds = Histogram("broker_store_commit_seconds", "Time of one commit", buckets=LATENCY, registry=registry)
        # RIS
        self.exams = gauge("exams", "Exams by state", "status")
        self.events = counter("ris_events", "RIS events", "event")
        # configuration
        self.configuration = gauge("configuration_info", "1, labelled with the configuration that runs", "version", "digest")
        self.configuration_drift = gauge("configuration_drift", "Files of the configuration that are other on disk than what runs")
        # the process: memory, CPU, open files
        ProcessCollector(registry=registry)
        # disk
        self.disk_free = gauge("disk_free_bytes", "Free bytes on the volume of the data folder", "folder")
        self.disk_size = gauge("disk_size_bytes", "Size of the volume of the data folder, in bytes", "folder")

    def watch_disk(self, folder: Path) -> None:
        """Show the free and whole bytes of the folder's volume at each scrape, as folder="data"."""
        self.disk_free.labels("data").set_function(lambda: shutil.disk_usage(folder).free)
        self.disk_size.labels("data").set_function(lambda: shutil.disk_usage(folder).total)


def _counter(registry: CollectorRegistry, name: str, text: str, *labels: str) -> Counter:
    return Counter(f"broker_{name}", text, labels, registry=registry)


def _gauge(registry: CollectorRegistry, name: str, text: str, *labels: str) -> Gauge:
    return Gauge(f"broker_{name}", text, labels, registry=registry)
