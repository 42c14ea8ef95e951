"""`convert`: a message as another version of HL7 v2 writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.errors import MessageError
from broker.hl7.convert import VERSIONS, convert
from broker.pipeline.compilation import Compilation, StepType
from broker.pipeline.context import Step, Work
from broker.spec import Option, Spec

SPEC = Spec(
    name="convert",
    kind="step",
    summary="Writes the message as another version of HL7 has it: ORM^O01 as OMG^O19 or OMI^O23 and back, the timing of ORC-7 and OBR-27 "
    "as TQ1, OBR-18 to 24 and ZDS as IPC, PID-2, 9 and 19, ERR, MSH-9 and MSH-12.",
    options=(
        Option("to", "text", "The version.", choices=VERSIONS, example="2.3.1"),
        Option("orders", "text", "What ORM becomes in 2.5 and later.", default="OMG", choices=("OMG", "OMI", "ORM")),
        Option(
            "left_over",
            "text",
            "What happens to fields and segments that the version has no place for: `keep` leaves them where they are, `refuse` answers AE "
            "and names the first.",
            default="keep",
            choices=("keep", "refuse"),
        ),
    ),
    example="convert: {to: 2.5.1, orders: OMI, left_over: refuse}",
    short="to",
)


def _compile(settings: Mapping[str, Any], compilation: Compilation) -> Step:
    version, order, refuse = settings["to"], settings["orders"], settings["left_over"] == "refuse"

    def convert_(work: Work) -> None:
        left = convert(work.subject, version, order)
        if left and refuse:
            more = f", and {len(left) - 1} more" if len(left) > 1 else ""
            raise MessageError(left[0], f"HL7 {version} has no place for it{more}", 203)

    return convert_


CONVERT = StepType(SPEC, _compile, ("hl7",), changes=True)
