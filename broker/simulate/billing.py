"""The billing system: a sink for charges."""

from __future__ import annotations

from broker.simulate import answers
from broker.simulate.mllp import MllpSink


class Billing(MllpSink):
    """An MLLP sink that reads the charges it took."""

    @property
    def charges(self) -> list[bytes]:
        """Return the DFT^P03 that were taken, once each."""
        return self.of_kind("DFT^P03")

    @property
    def codes(self) -> list[str]:
        """Return the procedure code (FT1-25.1) of each charge."""
        return [answers.field(raw, "FT1", 25).split("^")[0] for raw in self.charges]
