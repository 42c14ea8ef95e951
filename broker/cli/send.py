"""`broker send`: HL7 messages over MLLP, as a sender would."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import click
import hl7

from broker.errors import MessageError
from broker.hl7 import mllp
from broker.hl7.ack import Asked, asked, read_answer
from broker.hl7.message import Message
from broker.hl7.tables import ACCEPTED


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--host", default=lambda: os.environ.get("BIND", "127.0.0.1"), show_default="BIND, or 127.0.0.1")
@click.option("--port", type=int, default=lambda: int(os.environ.get("HL7_PORT", "2575")), show_default="HL7_PORT, or 2575")
@click.option("--new-id", is_flag=True, help="Give each message a new MSH-10, so that it is not taken for a retransmission.")
@click.option("--timeout", default=30.0, show_default=True, help="Seconds to wait for an answer.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per message.")
def send(files: tuple[Path, ...], host: str, port: int, new_id: bool, timeout: float, as_json: bool) -> None:
    """Send HL7 messages (one a file) over MLLP and print the answers; exits 1 when one is not accepted."""
    accepted = True
    try:
        with socket.create_connection((host, port), timeout=timeout) as connection:
            for file in files:
                for raw in _exchange(connection, _message(file, new_id)):
                    code, control_id, text = read_answer(raw)
                    text = _said(raw) or text
                    accepted = accepted and code in ACCEPTED
                    shown = {"file": str(file), "code": code, "control_id": control_id, "text": text}
                    click.echo(json.dumps(shown) if as_json else f"{code}  {file}  {text}".rstrip())
    except OSError as error:
        raise click.ClickException(f"{host}:{port}: {error.strerror or error} (is the broker running? see `broker run`)") from error
    if not accepted:
        raise SystemExit(1)


def _message(file: Path, new_id: bool) -> bytes:
    raw = file.read_bytes().strip(b"\x0b\x1c\r\n").replace(b"\r\n", b"\r").replace(b"\n", b"\r") + b"\r"
    if not new_id:
        return raw
    message = Message.parse(raw)
    message.set("MSH-10", hl7.generate_message_control_id())
    return message.encode()


def _exchange(connection: socket.socket, raw: bytes) -> Iterator[bytes]:
    """Send a message, and yield its answers: one, or in the enhanced mode perhaps two."""
    connection.sendall(mllp.frame(raw))
    wanted = _asked(raw)
    if wanted is not None and not {*wanted} - {"", "NE"}:
        return
    framer = mllp.Framer(1 << 20)
    while data := connection.recv(65536):
        for item in framer.receive(data):
            if isinstance(item, mllp.Frame):
                yield item.raw
                if not (wanted and wanted.application == "AL" and read_answer(item.raw).code == "CA"):
                    return
    raise OSError("the connection was closed without an answer")


def _asked(raw: bytes) -> Asked | None:
    try:
        return asked(Message.parse(raw))
    except MessageError:
        return None  # what is no HL7 gets an answer as well


def _said(raw: bytes) -> str:
    """Return what an answer says of an error to a person: the place, and ERR-8, ERR-3 or MSA-3."""
    answer = Message.parse(raw)
    return next((text for path in ("ERR-8", "ERR-3.2", "MSA-3") if (text := answer.get(path))), "")
