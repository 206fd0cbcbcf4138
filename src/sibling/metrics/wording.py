"""Are made texts texts? Novelty, distinct pieces, distance and perplexity of n-grams, and a linear recogniser.

Not metrics of features: they see the texts themselves. Each has its floor, what real test texts get in the place
of the made ones.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Literal

import numpy as np

from ..types import Score
from .intervals import Z95, share_of

__all__ = ["distinct", "linear_accuracy", "ngram_distance", "perplexity", "wording_scores"]

ORDER = 3  # of the n-grams, in characters
DRAWS = 40  # bootstrap samples for an interval
_START, _END = "\x02", "\x03"
SPACE = "characters"
_Measure = tuple[str, Literal["max", "min"], Callable[[Sequence[str]], float], Sequence[str], str]
LEAST = 10  # texts a side
LEAST_LEARNED = 20  # to learn a recogniser from


def wording_scores(
    *,
    train: Sequence[str],
    test: Sequence[str],
    fake: Sequence[str],
    train_y: Sequence[str],
    test_y: Sequence[str],
    fake_y: Sequence[str],
    rng: np.random.Generator,
) -> list[Score]:
    """All scores of made texts; empty where a side has fewer than 10.

    train, test  real texts
    fake         made ones
    *_y          the class of each
    rng          of the intervals, and of which training texts stand for made ones in the floors
    """
    if min(map(len, (train, test, fake))) < LEAST:
        return []
    counts = {"real": len(test), "fake": len(fake)}
    # What depends on how many texts there are is compared at the same number.
    size = min(len(test), len(fake), len(train))
    like_test, like_train, real = (
        [texts[i] for i in rng.permutation(len(texts))[:size]] for texts in (fake, train, test)
    )
    scores = [_novelty(train, test, fake)]
    for name, goal, of, usual, meaning in _measures(real, like_train):
        value = of(like_test)
        low, high = _interval([of(part) for part in _draws(like_test, rng)], value)
        scores.append(Score(name, value, low, high, goal, of(usual), SPACE, counts, meaning=meaning))
    if len(set(fake_y)) > 1 and len(set(train_y)) > 1 and min(len(fake), len(train)) >= LEAST_LEARNED:
        own = linear_accuracy(texts=fake, y=fake_y, test=test, test_y=test_y)
        rows = rng.permutation(len(train))[: len(fake)]
        floor = float("nan")  # so few of a very uneven set may be of one class, which teaches nothing
        if len({train_y[i] for i in rows}) > 1:
            floor = linear_accuracy(
                texts=[train[i] for i in rows], y=[train_y[i] for i in rows], test=test, test_y=test_y
            )
        share = share_of(round(own * len(test)), len(test))
        scores.append(
            Score(
                "linear_accuracy", own, share.low, share.high, "max", floor, SPACE, counts,
                meaning="A second opinion: a linear recogniser of pieces of 1 to 3 characters that learned from the "
                "synthetic texts alone, on the test texts; the floor learned from as many real ones.",
            )
        )  # fmt: skip
    return scores


def _novelty(train: Sequence[str], test: Sequence[str], fake: Sequence[str]) -> Score:
    known = set(train)
    novel = share_of(sum(text not in known for text in fake), len(fake))
    return Score(
        "novelty", novel.value, novel.low, novel.high, "max", float(np.mean([t not in known for t in test])), SPACE,
        {"real": len(train), "fake": len(fake)},
        meaning="Share of the synthetic texts that are no training text; below the floor they are copied.",
    )  # fmt: skip


def _measures(real: Sequence[str], like_train: Sequence[str]) -> list[_Measure]:
    """(name, goal, measure of texts, the texts that give its floor, meaning): all at one number of texts."""
    return [
        *(
            (f"distinct_{n}", "max", partial(distinct, n=n), real,
             f"Different pieces of {n} characters, as a share of all such pieces, in as many texts.")
            for n in (1, 2, 3)
        ),
        ("ngram_distance", "min", lambda texts: ngram_distance(real=real, fake=texts), like_train,
         "Jensen-Shannon distance (0 to 1) of the pieces of 3 characters from those of the test texts."),
        ("perplexity", "min", lambda texts: perplexity(held=real, texts=texts), like_train,
         "How many characters a model of the test texts, which sees two back, hesitates between; much below "
         "the floor the texts are too plain."),
    ]  # fmt: skip


def _draws(texts: Sequence[str], rng: np.random.Generator) -> Iterator[list[str]]:
    for _ in range(DRAWS):
        yield [texts[i] for i in rng.integers(0, len(texts), len(texts))]


def _interval(values: Sequence[float], value: float) -> tuple[float, float]:
    """95 % around the value; resampled texts repeat themselves, so their own centre lies elsewhere."""
    reach = Z95 * float(np.std(values))
    return max(0.0, value - reach), value + reach


def _pieces(texts: Sequence[str], n: int) -> Counter[str]:
    padded = (_START * (n - 1) + text + _END for text in texts)
    return Counter(line[i : i + n] for line in padded for i in range(len(line) - n + 1))


def distinct(texts: Sequence[str], n: int) -> float:
    """Different n-grams over all n-grams, in [0, 1] (Li et al. 2016, "distinct-n"); 0 where there are none."""
    pieces = Counter(text[i : i + n] for text in texts for i in range(len(text) - n + 1))
    return len(pieces) / pieces.total() if pieces else 0.0


def ngram_distance(*, real: Sequence[str], fake: Sequence[str], n: int = ORDER) -> float:
    """Square root of the Jensen-Shannon divergence, in bits, of the n-grams of two sets of texts: 0 to 1."""
    a, b = _pieces(real, n), _pieces(fake, n)
    names = list(a | b)
    p, q = (np.array([pieces[name] for name in names], np.float64) / pieces.total() for pieces in (a, b))
    middle = (p + q) / 2

    def bits(one: np.ndarray) -> float:
        inside = one > 0
        return float((one[inside] * np.log2(one[inside] / middle[inside])).sum())

    return math.sqrt(max(0.0, (bits(p) + bits(q)) / 2))


def perplexity(*, held: Sequence[str], texts: Sequence[str], n: int = ORDER) -> float:
    """exp of the mean negative logarithm of the probability of each character under an n-gram model of `held`.

    Witten-Bell smoothing (1991): an n-gram backs off to the shorter one as often as its beginning was followed by
    something new; at the end of the line all characters of both sets are equally likely.
    """
    counts = [_pieces([_START * (n - k) + text for text in held], k) for k in range(1, n + 1)]
    alphabet = len({c for text in [*held, *texts] for c in text}) + 1
    begun: list[Counter[str]] = [Counter() for _ in range(n)]
    kinds: list[Counter[str]] = [Counter() for _ in range(n)]
    for k, pieces in enumerate(counts):
        for piece, times in pieces.items():
            if piece[-1] != _START:
                begun[k][piece[:-1]] += times
                kinds[k][piece[:-1]] += 1
    total, length = 0.0, 0
    for text in texts:
        line = _START * (n - 1) + text + _END
        for i in range(n - 1, len(line)):
            probability = 1 / alphabet
            for k in range(n):
                piece = line[i - k : i + 1]
                times, new = begun[k][piece[:-1]], kinds[k][piece[:-1]]
                if times:
                    probability = (counts[k][piece] + new * probability) / (times + new)
            total -= math.log(probability)
            length += 1
    return math.exp(total / max(1, length))


def linear_accuracy(
    *, texts: Sequence[str], y: Sequence[str], test: Sequence[str], test_y: Sequence[str]
) -> float:
    """Accuracy on test texts of logistic regression on weighted pieces of 1 to 3 characters."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    pieces = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), lowercase=False, sublinear_tf=True)
    learned = LogisticRegression(C=10, max_iter=200).fit(pieces.fit_transform(texts), list(y))
    return float(learned.score(pieces.transform(test), list(test_y)))
