"""The likeliest symbols behind a grid of numbers: near each position's code word, and likely after the one before.

What a generator makes is a code word where it is sure, and a blend of several where it is not; the word nearest to
a blend may be any. So each grid is read as through a noisy channel: a hidden Markov model whose states are the
symbols, with the pairs of the train part as its transitions (Viterbi 1967). The noise is that of the grid itself, the
distance to its nearest words: a grid of exact code words is read exactly, whatever the pairs are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

__all__ = ["count_pairs", "likeliest", "transitions"]

MOST_PAIRS = 20_000
MOST_SYMBOLS = 3_000  # above that the table of transitions would be too large
_CANDIDATES = 16  # symbols a position
_DISCOUNT = 0.75
_SIGNS = 32.0  # a longer code repeats itself: so many of its signs are believed
_LEAST_NOISE = 1e-4


def count_pairs(numbers: np.ndarray) -> list[list[int]]:
    """Symbols (N, T), 0 = the end -> [first, second, count] of neighbours, the most frequent first.

    0 before a symbol is the start of a text.
    """
    n, _ = numbers.shape
    padded = np.concatenate([np.zeros((n, 1), numbers.dtype), numbers, np.zeros((n, 1), numbers.dtype)], 1)
    pairs = np.stack([padded[:, :-1].ravel(), padded[:, 1:].ravel()], 1)
    counts = Counter(map(tuple, pairs[pairs.any(1)].tolist()))
    listed = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_PAIRS]
    return [[a, b, count] for (a, b), count in listed]


def transitions(pairs: Sequence[Sequence[int]], count: int) -> torch.Tensor:
    """Logarithms (count, count) of the probability of each symbol after each; row 0 is the start of a text.

    pairs  as `count_pairs` gives them
    count  of symbols, the end included

    Absolute discounting, backed off to how frequent a symbol is (Ney, Essen and Kneser 1994).
    """
    table = np.zeros((count, count))
    for a, b, times in pairs:
        table[a, b] = times
    frequent = (table.sum(0) + 0.5) / (table.sum() + 0.5 * count)
    total = np.maximum(table.sum(1, keepdims=True), 1)
    kinds = (table > 0).sum(1, keepdims=True)
    spared = np.where(table.sum(1, keepdims=True) > 0, _DISCOUNT * kinds / total, 1.0)
    probability = np.maximum(table - _DISCOUNT, 0) / total + spared * frequent
    return torch.from_numpy(np.log(probability)).float()


def likeliest(
    x: torch.Tensor, words: torch.Tensor, after: torch.Tensor, barred: torch.Tensor
) -> torch.Tensor:
    """The likeliest symbols (N, T) of grids x (N, C, T); 0 = the end, and nothing follows it.

    words   (V, C) code words, all of one length; the first is the end
    after   (V, V) logarithms of transition probabilities
    barred  symbols that no text begins with
    """
    n, width, length = x.shape
    product = torch.einsum("vc,nct->ntv", words, x)  # (N, T, V)
    distance = (x.square().sum(1)[:, :, None] + width - 2 * product) / width
    noise = distance.amin(2).mean(1).clamp(min=_LEAST_NOISE)  # (N,)
    near = -0.5 * min(_SIGNS, width) * distance / noise[:, None, None]
    near[:, 0, barred] = -torch.inf
    count = min(_CANDIDATES, len(words))
    shown, symbols = near.topk(count, 2)  # (N, T, K)
    # The end is always looked at: it takes the place of the last candidate.
    ends = ~(symbols == 0).any(2) & (torch.arange(length) > 0)
    symbols[..., -1] = torch.where(ends, 0, symbols[..., -1])
    shown[..., -1] = torch.where(ends, near[..., 0], shown[..., -1])
    score = shown[:, 0] + after[0, symbols[:, 0]]
    back = torch.zeros(n, length, count, dtype=torch.long)
    for t in range(1, length):
        before, now = symbols[:, t - 1, :, None], symbols[:, t, None, :]  # (N, K, 1), (N, 1, K)
        step = after[before, now]
        # After the end there is the end alone.
        step = torch.where(before == 0, torch.where(now == 0, 0.0, -torch.inf), step)
        best, back[:, t] = (score[:, :, None] + step).max(1)
        score = best + shown[:, t]
    out = torch.empty(n, length, dtype=torch.long)
    at = score.argmax(1)
    for t in reversed(range(length)):
        out[:, t] = symbols[:, t].gather(1, at[:, None])[:, 0]
        at = back[:, t].gather(1, at[:, None])[:, 0]
    return out
