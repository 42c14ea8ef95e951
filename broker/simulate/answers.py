"""Reading and answering HL7 the way a simple receiver does: by splitting, without `broker.hl7`."""

from __future__ import annotations


def field(raw: bytes, segment: str, number: int) -> str:
    """Return a field of the first such segment as text, "" when it is absent; MSH is numbered as the standard does."""
    separator = raw[3:4] or b"|"
    head = segment.encode() + separator
    for line in raw.replace(b"\n", b"\r").split(b"\r"):
        if line.startswith(head):
            fields = line.split(separator)
            at = number - 1 if segment == "MSH" else number
            return fields[at].decode("utf-8", "replace") if at < len(fields) else ""
    return ""


def control_id(raw: bytes) -> str:
    """Return MSH-10."""
    return field(raw, "MSH", 10)


def kind(raw: bytes) -> str:
    """Return message type and trigger event, "ORM^O01"."""
    return "^".join(field(raw, "MSH", 9).split("^")[:2])


def code(answer: bytes) -> str:
    """Return the acknowledgment code of an answer (MSA-1)."""
    return field(answer, "MSA", 1)


def answered(answer: bytes) -> str:
    """Return the control id that an answer is for (MSA-2)."""
    return field(answer, "MSA", 2)


def acknowledge(raw: bytes, answer_code: str, why: str = "") -> bytes:
    """Return an unframed ACK of a message with this code, and ERR-8 when there is a reason."""
    event = field(raw, "MSH", 9).partition("^")[2].partition("^")[0]
    version = field(raw, "MSH", 12) or "2.5.1"
    msh = f"MSH|^~\\&|{field(raw, 'MSH', 5)}|{field(raw, 'MSH', 6)}|{field(raw, 'MSH', 3)}|{field(raw, 'MSH', 4)}|{field(raw, 'MSH', 7)}"
    lines = [f"{msh}||ACK^{event}|A{control_id(raw)}|P|{version}", f"MSA|{answer_code}|{control_id(raw)}"]
    if why:
        lines.append(f"ERR|||207|E||||{why}")
    return ("\r".join(lines) + "\r").encode()
