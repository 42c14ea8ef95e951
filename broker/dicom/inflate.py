"""Deflated datasets read as far as asked for, whatever they claim to hold."""

from __future__ import annotations

import zlib
from typing import BinaryIO

from broker.errors import MessageError

_READ = 1 << 16


class Inflating:
    """The inflated bytes of an open file, from where it stands."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._rest = b""

    def read(self, size: int) -> bytes:
        """Return the next bytes, fewer at the end; raises MessageError when they are no deflated dataset."""
        parts, wanted = [], size
        try:
            while wanted > 0 and not self._inflate.eof:
                data = self._rest or self._file.read(_READ)
                part = self._inflate.decompress(data, wanted)
                self._rest = self._inflate.unconsumed_tail
                parts.append(part)
                wanted -= len(part)
                if not data and not part:
                    break  # cut off; what is missing shows itself
        except zlib.error as error:
            raise MessageError("", "the deflated dataset is damaged", 102) from error
        return b"".join(parts)
