"""Text: a grid of T symbols, each a code word of C signs. Files .txt, one text each, or rows of a table.

raw is uint8 (C, T): the UTF-8 of each symbol, filled up with zeros, so that it knows no vocabulary. What x sees are
the code words (`symbols.py`) of the symbols of the train part alone (`fit`); a symbol that only held-out samples
have is 0 in all channels, as far from each word as from its opposite.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Any, BinaryIO, ClassVar

import numpy as np
import torch

from ..errors import NumericalError
from .choices import Choice, choice
from .lettering import drawn
from .reading import MOST_SYMBOLS, count_pairs, likeliest, transitions
from .symbols import as_bytes, as_keys, cleaned, code_words, cut, normalised, opened, split
from .usage import from_text, signs, to_text

__all__ = ["Text"]

MOST_LENGTH = 128  # symbols that are chosen without being asked for
LEAST_CODE, MOST_CODE = 16, 128  # C
LONG = 48  # symbols from which near-duplicates are told by what they share, not by what they are
_SHINGLE = 4  # symbols
_ALIKE = 0.8  # of the shingles of both are shared
_CELLS = 8_000_000  # numbers at a time


class Text:
    """A text modality with all its choices made.

    width       C, signs of a code word, and the most bytes of a symbol
    length      T, symbols; longer texts are cut, shorter ones end with the code word of the end
    vocabulary  the symbols that x knows, the most frequent first
    newline     whether a file ends with a line break
    pairs       [a, b, count] of neighbours in the train part: numbers of the vocabulary from 1, and 0 for start and end
    """

    name = "text"
    suffixes = (".txt",)
    suffix = ".txt"
    noun = "text"
    flat = "one symbol"
    axes = "symbols"
    largest = 4096
    nearness = "the same but for case, width and spaces; long ones share 80 % of their pieces"
    suggests: ClassVar[dict[str, dict[str, tuple[Any, str]]]] = {
        "vae": {
            "latent": (64, "a short text holds some 60 bits, each of which is seen when it is wrong"),
            "width": (64, "a grid of symbols is small, and each step cheap"),
            "learning_rate": (
                5e-3,
                "more than twice the usual rate: it learns in time what a picture shows sooner",
            ),
            "beta": (0.3, "a blend of two texts is no text: codes matter more than that they fill the prior"),
            "prior": (
                "local",
                "between two words there is no word: many small components, each of near texts",
            ),
            "components": (40, "of the local prior; 14 texts each, or more"),
            "texture": (0.0, "a text is read from its grid, and grain makes misprints"),
        },
    }
    any_length = True  # two samples of one set may have different sizes
    dtype = np.uint8

    def __init__(
        self,
        width: int = 32,
        length: int = 0,
        vocabulary: Sequence[str] = (),
        newline: bool = True,
        pairs: Sequence[Sequence[int]] = (),
        usage: Sequence[str] = (),
    ) -> None:
        self.width, self.length, self.newline = width, length, newline
        self.vocabulary = list(vocabulary)
        self.pairs = [list(pair) for pair in pairs]
        self.usage = list(usage)

    @property
    def shape(self) -> tuple[int, int]:
        """(C, T)."""
        return self.width, self.length

    def to_json(self) -> dict[str, Any]:
        """All arguments."""
        arguments = {name: getattr(self, name) for name in ("width", "length", "newline")}
        return {
            "name": self.name,
            **arguments,
            "vocabulary": list(self.vocabulary),
            "pairs": self.pairs,
            "usage": self.usage,
        }

    @staticmethod
    def claims(array: np.ndarray) -> bool:
        """Whether an array is a string."""
        return array.dtype.kind in "US" and array.ndim == 0

    # ---- looking, before anything is decoded --------------------------------------------------

    def look(self, source: bytes | BinaryIO | np.ndarray) -> dict[str, Any]:
        """Length and symbols. A text has no header: it is read. Raises BadSample."""
        text, encoding = opened(source)
        symbols = split(text, MOST_CODE)
        return {"size": (len(symbols),), "mode": encoding, "symbols": tuple(sorted(set(symbols)))}

    @classmethod
    def choose(
        cls, looks: Sequence[dict[str, Any]], *, size: int | None, most: int
    ) -> tuple[Text, list[Choice]]:
        """Length and width from all texts, with the reason of each choice.

        looks  what `look` returned for each readable text
        size   symbols; None = what nearly all texts have, at most 128
        most   of pictures; not used
        """
        choices: list[Choice] = []
        length = _length([look["size"][0] for look in looks], size, choices)
        counts = Counter(symbol for look in looks for symbol in look["symbols"])
        known = sorted(counts, key=lambda symbol: (-counts[symbol], symbol))
        longest = max(len(symbol.encode()) for symbol in known)
        # Six times the bits that number the symbols: half of the signs say how a symbol is used, and words of the
        # other half differ in a quarter of it or more.
        wanted = max(LEAST_CODE, 6 * math.log2(len(known) + 1), longest)
        width = min(MOST_CODE, math.ceil(wanted / 4) * 4)
        why = f"{len(known)} symbols in all texts, six times the bits that number them"
        choices.append(choice("code", f"{width} signs a symbol", why))
        modes = Counter(look["mode"] for look in looks)
        if set(modes) != {"utf-8"}:
            shown = ", ".join(f"{count:,} {mode}" for mode, count in modes.most_common())
            choices.append(choice("encoding", "UTF-8 is written", f"there are {shown}, as their marks say"))
        return cls(width, length, known), choices

    # ---- bytes <-> raw -----------------------------------------------------------------------

    def decode(self, source: bytes | np.ndarray) -> np.ndarray:
        """Bytes of a file, or a string -> raw (C, T). Raises BadSample."""
        return self._raw(opened(source)[0])

    def _raw(self, text: str) -> np.ndarray:
        """Clean text -> raw (C, T)."""
        symbols = cut(split(text, self.width), self.length)
        raw = np.zeros((self.width, self.length), np.uint8)
        raw[:, : len(symbols)] = as_bytes(symbols, self.width).T
        return raw

    def texts(self, raw: np.ndarray) -> list[str]:
        """Raw (N, C, T) -> N texts."""
        return [b"".join(row).decode() for row in as_keys(raw).tolist()]

    def encode(self, raw: np.ndarray) -> bytes:
        """Raw (C, T) -> the bytes of a file, in UTF-8."""
        return (self.texts(raw[None])[0] + "\n" * self.newline).encode()

    def array(self, raw: np.ndarray) -> np.ndarray:
        """Raw (C, T) -> a string, as array formats keep it."""
        return np.array(self.texts(raw[None])[0])

    # ---- after decoding ----------------------------------------------------------------------

    def refine(self, raw: np.ndarray, rows: np.ndarray) -> tuple[Text, list[Choice]]:
        """Nothing is left to decide."""
        return self, []

    def convert(self, raw: np.ndarray, target: Text) -> np.ndarray:
        """Raw of this modality is raw of what `refine` gave."""
        return raw

    def fit(self, raw: np.ndarray, rows: np.ndarray) -> tuple[Text, list[Choice]]:
        """The same with the vocabulary of these rows, the train part."""
        counts: Counter[bytes] = Counter()
        for start in range(0, len(rows), 4096):
            counts.update(as_keys(np.asarray(raw[rows[start : start + 4096]])).ravel().tolist())
        counts.pop(b"", None)
        known = sorted(counts, key=lambda key: (-counts[key], key))
        vocabulary = [key.decode() for key in known]
        made = Text(self.width, self.length, vocabulary, self.newline)
        if len(known) < MOST_SYMBOLS:
            numbers = made._numbers(np.asarray(raw[rows]))
            usage = to_text(signs(numbers, len(known) + 1, self.width // 2))
            made = Text(self.width, self.length, vocabulary, self.newline, count_pairs(numbers), usage)
        shown = " ".join(repr(symbol)[1:-1] for symbol in made.vocabulary[:12])
        unseen = len(set(self.vocabulary) - set(made.vocabulary))
        why = f"of the train part, the most frequent: {shown}"
        if unseen:
            why += f"; {unseen} more are in held-out samples alone, and unknown"
        return made, [choice("vocabulary", f"{len(known)} symbols", why)]

    # ---- raw <-> x ---------------------------------------------------------------------------

    @cached_property
    def _words(self) -> np.ndarray:
        """(V + 2, C): the code words of the end and of each symbol; and 0 for what is unknown."""
        alike = from_text(self.usage, self.width // 2)
        words = code_words(len(self.vocabulary) + 1, self.width - (len(alike) > 0) * alike.shape[1])
        words = np.concatenate([alike, words], 1) if len(alike) else words
        return np.concatenate([words, np.zeros((1, self.width), np.float32)])

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        """(keys in order, the row of `_words` of each)."""
        keys = np.array([b"", *(symbol.encode() for symbol in self.vocabulary)], f"S{self.width}")
        order = np.argsort(keys)
        return keys[order], order

    @cached_property
    def _after(self) -> torch.Tensor:
        """(V + 1, V + 1) how likely each symbol is after each."""
        count = len(self.vocabulary) + 1
        return transitions(self.pairs, count) if self.pairs else torch.zeros(1, 1).expand(count, count)

    @cached_property
    def _barred(self) -> np.ndarray:
        """Rows of `_words` that a text cannot begin with: the end, and spaces."""
        spaces = [i for i, symbol in enumerate(self.vocabulary, 1) if symbol.isspace()]
        return np.array([0, *spaces])

    def _numbers(self, raw: np.ndarray) -> np.ndarray:
        """Raw (N, C, T) -> rows of `_words` (N, T)."""
        keys, rows = self._sorted
        wanted = as_keys(raw)
        at = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
        numbers: np.ndarray = np.where(keys[at] == wanted, rows[at], len(self._words) - 1)
        return numbers

    def to_x(self, raw: np.ndarray) -> torch.Tensor:
        """Raw (N, C, T) -> float32 (N, C, T) of -1 and 1, and 0 for a symbol that the train part does not have."""
        words = self._words[self._numbers(raw)]  # (N, T, C)
        return torch.from_numpy(np.ascontiguousarray(words.transpose(0, 2, 1)))

    def to_raw(self, x: torch.Tensor) -> np.ndarray:
        """float32 (N, C, T) -> raw: the likeliest symbols (`reading.py`), up to the first end.

        Never empty: a text begins with the nearest symbol that is no space. Raises NumericalError.
        """
        if not torch.isfinite(x).all():
            raise NumericalError("A generated sample holds values that are not finite; nothing was written.")
        words, barred = torch.from_numpy(self._words[:-1]), torch.from_numpy(self._barred)
        out = np.zeros((len(x), *self.shape), np.uint8)
        step = max(1, _CELLS // (len(words) * self.length))
        for start in range(0, len(x), step):
            read = likeliest(x[start : start + step].float().cpu(), words, self._after, barred)
            for i, numbers in enumerate(read.tolist(), start):
                end = numbers.index(0) if 0 in numbers else len(numbers)
                out[i] = self._raw(cleaned("".join(self.vocabulary[number - 1] for number in numbers[:end])))
        return out

    def augment(self, x: torch.Tensor, strength: float, rng: torch.Generator) -> torch.Tensor:
        """Leaves out, exchanges with the next, or hides a few symbols: at strength 1 each meets 3 % of them.

        x  float32 (N, C, T) in [-1, 1]; strength 0 changes nothing. Nothing is ever reversed.
        """
        if strength <= 0:
            return x
        n, _, length = x.shape
        rate = 0.03 * strength
        order = torch.arange(length).expand(n, length).clone()  # (N, T)
        first = torch.rand(n, length - 1, generator=rng) < rate
        first[:, 1:] &= ~first[:, :-1]  # of three in a row none moves twice
        rows, at = first.nonzero(as_tuple=True)
        order[rows, at], order[rows, at + 1] = at + 1, at
        gone = torch.rand(n, length, generator=rng) < rate
        gone[:, 0] = False  # something stays
        order = order.gather(1, gone.long().argsort(dim=1, stable=True))
        moved = x.gather(2, order[:, None].expand_as(x))
        ended = torch.arange(length)[None] >= (length - gone.sum(1))[:, None]  # (N, T)
        end = torch.from_numpy(self._words[0])[None, :, None].to(x)
        moved = torch.where(ended[:, None], end, moved)
        hidden = torch.rand(n, 1, length, generator=rng) < rate
        return torch.where(hidden, 0.0, moved)

    # ---- telling texts apart -----------------------------------------------------------------

    def fingerprints(self, raw: np.ndarray) -> list[int]:
        """64 bits of each text (N, C, T), whatever case, width and spaces are.

        Short texts repeat by nature, and one symbol is a difference: theirs are equal or have nothing in common.
        From 48 symbols on it is a similarity hash (Charikar 2002) of the pieces of four symbols.
        """
        return [_fingerprint(normalised(text)) for text in self.texts(raw)]

    def alike(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """(N,) whether two texts (N, C, T) are one but for case, width and spaces, or share 80 % of their pieces."""
        pairs = zip(map(normalised, self.texts(a)), map(normalised, self.texts(b)), strict=True)
        return np.array([_alike(one, other) for one, other in pairs], bool)

    def preview(self, raw: np.ndarray) -> np.ndarray:
        """Raw (N, C, T) -> uint8 (N, H, W, 3): the texts, drawn."""
        return drawn(self.texts(raw), self.length)


def _length(lengths: list[int], size: int | None, choices: list[Choice]) -> int:
    """Symbols of a text."""
    longest, own = max(lengths), int(np.percentile(lengths, 99, method="higher"))
    why = f"the longest of {len(lengths)} texts has {longest}"
    if size is not None:
        length = size
        why += f"; asked for {size}"
    else:
        length = min(MOST_LENGTH, max(8, math.ceil(own / 4) * 4))
        if own > MOST_LENGTH:
            why += f"; at most {MOST_LENGTH} without --size, because the time grows with it"
        elif length < longest:
            why += f", 99 of 100 have at most {own}"
    choices.append(choice("length", f"{length} symbols", why))
    cuts = sum(one > length for one in lengths)
    if cuts:
        choices.append(
            choice("longer texts", "are cut", f"{cuts:,} of {len(lengths):,}, at a space if it lies near")
        )
    return length


def _pieces(text: str) -> Counter[str]:
    return Counter(text[i : i + _SHINGLE] for i in range(max(1, len(text) - _SHINGLE + 1)))


def _hashed(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _fingerprint(text: str) -> int:
    if len(text) < LONG:
        return _hashed(text)
    hashes = np.array([_hashed(piece) for piece in _pieces(text)], ">u8")
    votes = np.unpackbits(hashes.view(np.uint8).reshape(-1, 8), axis=1).mean(0) > 0.5
    return int.from_bytes(np.packbits(votes).tobytes(), "big")


def _alike(one: str, other: str) -> bool:
    if one == other or min(len(one), len(other)) < LONG:
        return one == other
    a, b = _pieces(one), _pieces(other)
    return (a & b).total() >= _ALIKE * (a | b).total()
