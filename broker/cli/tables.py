"""Plain tables for people; what programs read is JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Table

PIPED = 240  # columns when nobody looks


def show(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """Print a table; None is shown as nothing."""
    table = Table(*columns, box=None, header_style="bold", pad_edge=False, title=title or None, title_justify="left")
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        table.add_row(*("" if cell is None else escape(str(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else PIPED).print(table)


def clock(at: float) -> str:
    """Return seconds since the epoch as local time."""
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
