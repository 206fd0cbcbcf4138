"""Bytes -> text -> symbols -> code words, with one declared policy for each oddity.

A symbol is what a reader takes for one character: a letter with the marks that combine with it. Each has a code
word of C signs (+1 or -1), as in "analog bits" (Chen, Zhang and Hinton 2022): what a generator of continuous numbers
makes is read as the nearest code word. Theirs are binary numbers, in which two symbols may differ in one bit; ours
are chosen far apart, the frequent ones first.
"""

from __future__ import annotations

import codecs
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, BinaryIO

import numpy as np

from ..errors import BadSample

__all__ = [
    "MOST_BYTES",
    "as_bytes",
    "as_keys",
    "cleaned",
    "code_words",
    "cut",
    "normalised",
    "opened",
    "split",
]

MOST_BYTES = 16 * 2**20  # of one text
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # begins like the mark of UTF-16
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_LINES = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f]")
_JOINER = "\u200d"
_TRIES = 64  # code words that are tried for each symbol


def opened(source: bytes | BinaryIO | np.ndarray) -> tuple[str, str]:
    """(clean text, how it was encoded). Raises BadSample where this is no text.

    A byte order mark says what the encoding is; without one it is UTF-8. Nothing is guessed: Latin-1 would make
    text of any bytes.
    """
    if isinstance(source, np.ndarray):
        if source.dtype.kind not in "US" or source.ndim:
            raise BadSample(f"is an array {source.shape} of {source.dtype}; a text is one string")
        value = source.item()
        content = value if isinstance(value, bytes) else _encoded(value)
    else:
        content = source if isinstance(source, bytes) else source.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise BadSample(f"has more than {MOST_BYTES // 2**20} MiB")
    name = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(name)
    except UnicodeDecodeError as error:
        if name in ("utf-8", "utf-8-sig"):
            byte = f"byte 0x{content[error.start]:02x} at {error.start:,}"
            raise BadSample(f"is not UTF-8 ({byte}); save it as UTF-8") from error
        raise BadSample(f"begins like {name.upper()}, and is none ({error.reason})") from error
    if held := _CONTROL.search(text):
        raise BadSample(f"holds the control character U+{ord(held.group()):04X}, which no text has")
    text = cleaned(text)
    if not text:
        raise BadSample("is empty")
    return text, name.removesuffix("-sig")


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:  # JSON can spell them
        raise BadSample("holds half of a surrogate pair, which no text has") from error


def cleaned(text: str) -> str:
    """Composed (NFC), with one kind of line break, without a mark of byte order, and without space around it."""
    return unicodedata.normalize("NFC", _LINES.sub("\n", text).replace("\ufeff", "")).strip()


def split(text: str, most_bytes: int) -> list[str]:
    """A text as symbols; their concatenation is the text.

    most_bytes  of a symbol in UTF-8, at least 4; marks beyond that begin a symbol of their own
    """
    symbols: list[str] = []
    for character in text:
        joins = symbols and (_combines(character) or symbols[-1].endswith(_JOINER))
        if joins and len((symbols[-1] + character).encode()) <= most_bytes:
            symbols[-1] += character
        else:
            symbols.append(character)
    return symbols


@lru_cache(maxsize=65_536)
def _combines(character: str) -> bool:
    """Marks, joiners, variation selectors and skin tones: they change the character before them."""
    return (
        unicodedata.category(character) in ("Mn", "Me", "Mc")
        or character == _JOINER
        or "\U0001f3fb" <= character <= "\U0001f3ff"
    )


def cut(symbols: Sequence[str], length: int) -> list[str]:
    """At most so many symbols: up to the last space in their second half, where there is one."""
    kept = list(symbols[:length])
    if len(symbols) > length:
        spaces = [i for i, symbol in enumerate(kept) if symbol.isspace()]
        if not symbols[length].isspace() and spaces and spaces[-1] > length // 2:
            kept = kept[: spaces[-1]]
    while kept and kept[-1].isspace():
        kept.pop()
    return kept


def normalised(text: str) -> str:
    """What two texts share that only differ in case, in width or in spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


@lru_cache(maxsize=8)
def code_words(count: int, width: int) -> np.ndarray:
    """float32 (count, width) of +1 and -1: the first lie farthest apart. The same on every machine.

    count  of symbols, the most frequent first
    width  C, signs of a code word; 2^C must be more than twice the count

    One after the other: of 64 random words (16 beyond the thousandth) that whose nearest earlier one is farthest.
    """
    words = np.zeros((count, width), np.float32)
    for i in range(count):
        tries = _TRIES if i < 1_000 else _TRIES // 4
        drawn = hashlib.shake_256(f"{width} {i}".encode()).digest(-(-tries * width // 8))
        bits = np.unpackbits(np.frombuffer(drawn, np.uint8))[: tries * width]
        candidates = bits.reshape(tries, width) * np.float32(2) - 1
        nearest = (candidates @ words[:i].T).max(1) if i else np.zeros(tries)
        words[i] = candidates[int(nearest.argmin())]
    words.flags.writeable = False
    return words


def as_bytes(symbols: Iterable[str], width: int) -> np.ndarray:
    """Symbols -> uint8 (n, width): their UTF-8, filled up with zeros."""
    array = np.array([symbol.encode() for symbol in symbols], f"S{width}")
    return array.view(np.uint8).reshape(-1, width)


def as_keys(raw: np.ndarray) -> Any:
    """uint8 (N, C, T) -> bytes (N, T): the UTF-8 of each symbol."""
    n, width, length = raw.shape
    return np.ascontiguousarray(raw.transpose(0, 2, 1)).view(f"S{width}").reshape(n, length)
