"""The application: what builds a node, and what runs it as a process."""

from broker.app.node import Broker
from broker.app.process import run, welcome

__all__ = ["Broker", "run", "welcome"]
