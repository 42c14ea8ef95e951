r"""Text in several character sets, switched by the escape sequences of ISO 2022, or by HL7's own `\C..\` and `\M..\` (2.7.2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_TO_RIGHT = bytes(c | 0x80 if 0x21 <= c <= 0x7E else c for c in range(256))
_TO_LEFT = bytes(c & 0x7F for c in range(256))


@dataclass(frozen=True, slots=True)
class CodeElement:
    """A set of characters that an escape sequence designates (ISO 2022): to the bytes 21 to 7E (G0), or to A0 to FF (G1)."""

    sequence: bytes  # after ESC
    codec: str  # in which it has the bytes from A0 on
    right: bool  # G1
    size: int = 1  # bytes of a character
    lead: bytes = b""  # what the codec wants before each character

    def decode(self, raw: bytes) -> str:
        """Return the text of these bytes, in G0 or G1; raises UnicodeDecodeError."""
        if self.codec == "ascii":
            return raw.decode("ascii")
        codes = raw.translate(_TO_RIGHT)
        if self.lead:
            codes = b"".join([self.lead + codes[at : at + self.size] for at in range(0, len(codes), self.size)])
        return codes.decode(self.codec)

    def encode(self, character: str) -> bytes | None:
        """Return the bytes of a character, None when it is not in this set."""
        try:
            code = character.encode(self.codec)
        except UnicodeEncodeError:
            return None
        lead, code = code[: len(self.lead)], code[len(self.lead) :]
        if lead != self.lead or len(code) != self.size or min(code) < 0xA0:
            return None
        return code if self.right else code.translate(_TO_LEFT)


_LATIN = {1: b"A", 2: b"B", 3: b"C", 4: b"D", 5: b"L", 6: b"G", 7: b"F", 8: b"H", 9: b"M", 15: b"b"}

ELEMENTS: dict[str, CodeElement] = {
    **{f"8859/{part}": CodeElement(b"-" + final, f"iso8859-{part}", True) for part, final in _LATIN.items()},
    "ISO IR166": CodeElement(b"-T", "tis_620", True),
    "ISO IR14": CodeElement(b")I", "shift_jis", True),
    "ISO IR87": CodeElement(b"$B", "euc_jp", False, 2),
    "ISO IR159": CodeElement(b"$(D", "euc_jp", False, 2, b"\x8f"),
    "KS X 1001": CodeElement(b"$)C", "euc_kr", True, 2),
}
_ASCII = CodeElement(b"(B", "ascii", False)
_ROMAJI = CodeElement(b"(J", "ascii", False)  # JIS X 0201: 5C and 7E are delimiters in HL7, whatever they show elsewhere
_BY_SEQUENCE = {element.sequence: element for element in ELEMENTS.values()} | {
    b"(B": _ASCII,
    b"(J": _ASCII,
    b"(I": CodeElement(b"(I", "shift_jis", False),
    b"$@": CodeElement(b"$@", "euc_jp", False, 2),
    b"$A": CodeElement(b"$A", "gb2312", False, 2),
    b"$)A": CodeElement(b"$)A", "gb2312", True, 2),
    b"$(C": CodeElement(b"$(C", "euc_kr", False, 2),
}
_SWITCH = re.compile(rb"\x1b([ -/]+[0-~])|\\[CM]((?:[0-9A-Fa-f]{2}){2,4})\\")
_KINDS = re.compile(rb"[\x21-\x7e]+|[\x80-\xff]+|[\x00-\x20\x7f]+")

# every byte from the designation of a G0 that is not ASCII up to the next designation: delimiters may be among them
RUN = (
    r"(?:\x1b(?:\$\(?[@-_]|\((?![BJ])[0-~])|\\M24(?:28)?[0-9A-Fa-f]{2}\\|\\C2849\\)(?:(?!\\[CM][0-9A-Fa-f]{4})[^\x1b\r\n])*"
    r"|\x1b[ -/]+[0-~]"
)

Reader = Callable[[bytes], str]


def decode(raw: bytes, home: Reader, stray: Reader) -> str:
    """Return the text of bytes that switch sets; `home` reads G1 before a set is designated to it, `stray` what no set reads."""
    found: list[str] = []
    left, right, at = _ASCII, None, 0
    for match in _SWITCH.finditer(raw):
        sequence = match[1] or bytes.fromhex(match[2].decode())
        element = _BY_SEQUENCE.get(sequence)
        if element is None:
            continue  # not known: it stays in the text
        found.append(_run(raw[at : match.start()], left, right, home, stray))
        left, right = (left, element) if element.right else (element, right)
        at = match.end()
    found.append(_run(raw[at:], left, right, home, stray))
    return "".join(found)


def _run(raw: bytes, left: CodeElement, right: CodeElement | None, home: Reader, stray: Reader) -> str:
    if not raw or (left is _ASCII and raw.isascii()):
        return raw.decode("ascii")
    found = []
    for match in _KINDS.finditer(raw):
        run = match[0]
        element = right if run[0] >= 0x80 else left if run[0] > 0x20 and left is not _ASCII else _ASCII
        found.append(_read(run, element.decode if element else home, element.size if element else len(run), stray))
    return "".join(found)


def _read(raw: bytes, read: Reader, size: int, stray: Reader) -> str:
    """Return the text of the bytes, read character by character when not all of them are characters."""
    try:
        return read(raw)
    except UnicodeDecodeError:
        if len(raw) <= size:
            return stray(raw)
        return "".join([_read(raw[at : at + size], read, size, stray) for at in range(0, len(raw), size)])


def encode(text: str, home: CodeElement | None, others: Sequence[CodeElement]) -> bytes:
    """Return the bytes of a text, back in ASCII (or JIS X 0201) and `home` at its end; raises UnicodeEncodeError for what no set has."""
    out = bytearray()
    base = _ROMAJI if home is ELEMENTS["ISO IR14"] else _ASCII
    left, right = base, home
    for at, character in enumerate(text):
        if character < "\x80":
            code, element = character.encode(), base
        else:
            code, element = _code(character, [one for one in (left, right, home) if one and one is not base], others, text, at)
        wanted = base if element.right else element  # some receivers read no G1 beside a G0 of two bytes
        if wanted is not left:
            out += b"\x1b" + wanted.sequence
            left = wanted
        if element.right and element is not right:
            out += b"\x1b" + element.sequence
            right = element
        out += code
    if left is not base:
        out += b"\x1b" + base.sequence
    if home and right is not home:
        out += b"\x1b" + home.sequence
    return bytes(out)


def _code(character: str, current: Sequence[CodeElement], others: Sequence[CodeElement], text: str, at: int) -> tuple[bytes, CodeElement]:
    for element in (*current, *others):
        code = element.encode(character)
        if code is not None:
            return code, element
    raise UnicodeEncodeError("iso2022", text, at, at + 1, "not a character of these sets")
