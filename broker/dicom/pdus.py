"""The heads and the fixed PDUs of PS3.8, and how large PDUs may be."""

from __future__ import annotations

import struct
from dataclasses import dataclass

PDU = struct.Struct(">BxI")
PDV = struct.Struct(">IBB")
DATA_HEAD = struct.Struct(">BxIIBB")
HEAD = 6  # bytes of a PDU header, and of a PDV header
RELEASE_RQ = PDU.pack(5, 4) + bytes(4)
RELEASE_RP = PDU.pack(6, 4) + bytes(4)

# source and reasons of A-ABORT, PS3.8 table 9-26
AS_USER, AS_PROVIDER = 0, 2
NOT_SPECIFIED, UNRECOGNISED_PDU, UNEXPECTED_PDU, UNEXPECTED_PARAMETER, INVALID_PARAMETER = 0, 1, 2, 5, 6


def abort_pdu(source: int, reason: int) -> bytes:
    """Return the A-ABORT PDU."""
    return PDU.pack(7, 4) + bytes((0, 0, source, reason))


@dataclass(frozen=True, slots=True)
class Limits:
    """What one association may take, in bytes."""

    max_pdu: int = 1 << 17  # P-DATA-TF, as told to the peer
    associate: int = 1 << 18  # A-ASSOCIATE-RQ and -AC
    command: int = 1 << 14
