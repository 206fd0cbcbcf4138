"""The prior of a trained VAE, fitted on its codes: one Gaussian mixture a class.

Sampling z from N(0, I) meets places where no code lies. A mixture on the codes of each class does not,
makes any VAE class-conditional, and cannot collapse (Ghosh et al. 2020, RAE, "ex-post density
estimation"). A class with few samples gets ways between its samples, see `_between`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy.spatial.distance import cdist
from sklearn.covariance import ledoit_wolf
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

__all__ = ["fit_local", "fit_mixture", "shapes_of_mixture", "way"]

LOCAL = 14  # samples a component of the local prior, at least
NEIGHBOURS = 5  # of a code, to each of which a way leads
END = 0.3  # share of a way at each end that is left out: there a sample is all but the one that stands there
AROUND = 0.1  # how far from such a way samples lie, in deviations within the classes
ALONE = 0.5  # how far from the only sample of a class
_ROUNDS = 30  # of k-means


def shapes_of_mixture(groups: int, components: int, latent: int, *, few: bool) -> dict[str, tuple[int, ...]]:
    """Name -> shape of what `fit_mixture` gives for these classes; without `few`, of what `fit_local` gives."""
    shapes: dict[str, tuple[int, ...]] = {
        "weights": (groups, components), "means": (groups, components, latent),
        "cholesky": (groups, components, latent, latent),
    }  # fmt: skip
    room = (groups, _ways(latent), latent)
    own = {"starts": room, "spans": room, "around": (latent, latent), "counts": (groups,)}
    return shapes | own if few else shapes


def _ways(latent: int) -> int:
    """How many ways between two of its samples a class has room for: one for each, where it has few."""
    return 2 * _enough(latent)


def _enough(latent: int) -> int:
    """Samples that a component of the mixture needs."""
    return max(25, 3 * latent)


def fit_mixture(
    codes: np.ndarray,
    classes: Sequence[str],
    names: Sequence[str],
    *,
    components: int,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Fit the mixtures.

    codes       (N, Z) drawn codes of the train part
    classes     (N,) the class of each
    names       (G,) the classes in the order of the result
    components  k, the most mixture components of a class
    Returns weights (G, k), means (G, k, Z) and cholesky (G, k, Z, Z), float32; and for classes with few samples, which have
    weights of 0, ways from `starts` (G, W, Z) along `spans` (G, W, Z), `counts` (G,) of them, with noise of the root
    `around` (Z, Z) beside them. A class without a sample gets what all have together.
    """
    codes = np.asarray(codes, np.float64)
    labels = np.asarray(classes)
    width = codes.shape[1]
    shared = _shared_covariance(codes, labels)
    weights = np.zeros((len(names), components))
    means = np.zeros((len(names), components, width))
    starts, spans = (np.zeros((len(names), _ways(width), width)) for _ in range(2))
    counts = np.zeros(len(names), np.int64)
    cholesky = np.tile(np.eye(width), (len(names), components, 1, 1))
    for g, name in enumerate(names):
        own = codes[labels == name]
        own = codes if len(own) == 0 else own
        if len(own) < 2 * _enough(width):
            start, span = _between(own, rng)
            counts[g] = len(start)
            starts[g, : len(start)], spans[g, : len(start)] = start, span
            continue
        w, m, c, n = _components(own, int(np.clip(len(own) // _enough(width), 1, components)), rng)
        # As many pseudo-samples of the shared covariance as it has dimensions: what few samples leave open
        # comes from the other classes.
        trust = (n / (n + width))[:, None, None]
        covariance = trust * c + (1 - trust) * shared
        k = len(w)
        weights[g, :k], means[g, :k] = w, m
        cholesky[g, :k] = np.linalg.cholesky(covariance + 1e-6 * np.eye(width))
    found: dict[str, np.ndarray] = {
        "weights": weights,
        "means": means,
        "cholesky": cholesky,
        "starts": starts,
        "spans": spans,
    }
    found["around"] = np.linalg.cholesky(shared + 1e-6 * np.eye(width))
    return {**{name: value.astype(np.float32) for name, value in found.items()}, "counts": counts}


def fit_local(
    codes: np.ndarray,
    classes: Sequence[str],
    names: Sequence[str],
    *,
    components: int,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Many small components a class, all with one covariance: what is left within them, of all classes together.

    Arguments and result as for `fit_mixture`. A component has 14 samples or more: between neighbours, and no
    nearer to one of them than they are to each other. Where a class is many separate things, such as words, what
    lies between far ones is nothing; a wide component is full of that.
    """
    codes = np.asarray(codes, np.float64)
    labels = np.asarray(classes)
    width = codes.shape[1]
    weights = np.zeros((len(names), components))
    means = np.zeros((len(names), components, width))
    residuals, used = [], 0
    for g, name in enumerate(names):
        own = codes[labels == name]
        known = len(own) > 0
        own = own if known else codes
        k = int(np.clip(len(own) // LOCAL, 1, components))
        centres, member = _k_means(own, k, rng)
        weights[g, :k], means[g, :k] = np.bincount(member, minlength=k) / len(own), centres
        if known:
            residuals.append(own - centres[member])
            used += k
    left = np.concatenate(residuals)
    freedom = len(left) / max(1, len(left) - used)  # each centre has come nearer to its own samples
    covariance = np.eye(width) if len(left) <= used else ledoit_wolf(left, assume_centered=True)[0] * freedom
    root = np.linalg.cholesky(covariance + 1e-6 * np.eye(width))
    return {
        "weights": weights.astype(np.float32),
        "means": means.astype(np.float32),
        "cholesky": np.tile(root, (len(names), components, 1, 1)).astype(np.float32),
    }


def _k_means(points: np.ndarray, k: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(centres (k, Z), the centre of each point (n,)) (Lloyd 1982). In one thread: a resumed run ends the same."""
    centres = points[np.sort(rng.permutation(len(points))[:k])].copy()
    member = np.zeros(len(points), np.int64)
    for turn in range(_ROUNDS):
        distance = np.square(centres).sum(1) - 2 * points @ centres.T
        now = distance.argmin(1)
        if turn and (now == member).all():
            break
        member = now
        for c in range(k):
            if (member == c).any():
                centres[c] = points[member == c].mean(0)
    return centres, member


def _shared_covariance(codes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The covariance within classes, pooled and shrunk by Ledoit and Wolf (2004)."""
    centred = np.concatenate(
        [codes[labels == name] - codes[labels == name].mean(0) for name in np.unique(labels)]
    )
    alone = len(centred) <= len(np.unique(labels))
    if alone or not centred.any():
        return np.eye(codes.shape[1])
    covariance: np.ndarray = ledoit_wolf(centred, assume_centered=True)[0]
    return covariance + 1e-4 * np.eye(codes.shape[1])


def _components(
    codes: np.ndarray, k: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(weights (k,), means (k, Z), covariances (k, Z, Z), samples a component (k,))."""
    mixture = GaussianMixture(k, reg_covar=1e-3, max_iter=100, random_state=int(rng.integers(2**31)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 100 rounds are near enough to sample from
        mixture.fit(codes)
    return mixture.weights_, mixture.means_, mixture.covariances_, mixture.weights_ * len(codes)


def _between(codes: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Ways between neighbours: where they start (k, Z), and where they lead from there (k, Z).

    With fewer samples than a covariance needs, one Gaussian a class is mostly the covariance of the other classes, and
    most of it lies where their samples are. What is between two samples of a class is nearly always of that class.
    Each sample has a way to each of its five nearest, or, where that is more than there is room for, to some of them;
    all samples have equally many. Source: interpolation between neighbours, Chawla et al. 2002 (SMOTE), in codes:
    Dablain, Krawczyk and Chawla 2021 (DeepSMOTE).
    """
    n = len(codes)
    if n == 1:
        return codes, np.zeros_like(codes)
    distance = cdist(codes, codes, "sqeuclidean")  # (n, n)
    np.fill_diagonal(distance, np.inf)  # not "the nearest one": that may be another with the same code
    order = distance.argsort(1, kind="stable")[:, : min(NEIGHBOURS, n - 1)]
    order = rng.permuted(order, axis=1)
    turns = int(np.clip(_ways(codes.shape[1]) // n, 1, order.shape[1]))
    ends = order[:, :turns].T.ravel()  # (n, turns) -> (turns n,)
    starts = np.tile(np.arange(n), turns)
    return codes[starts], codes[ends] - codes[starts]


def way(
    fitted: Mapping[str, torch.Tensor], g: int, u: torch.Tensor, noise: torch.Tensor, psi: float
) -> torch.Tensor:
    """A code (Z,) on one of the ways of class g, with noise beside it.

    u      (2,) in [0, 1): which way, and how far along it
    noise  (Z,) standard normal
    psi    how far from the middle of the way: 1 all of it but its ends, 0 the middle itself
    """
    n = int(fitted["counts"][g])
    k = min(int(u[0] * n), n - 1)
    start, span = fitted["starts"][g, k], fitted["spans"][g, k]
    wide = ALONE if n == 1 else AROUND
    return start + span / 2 + psi * ((1 - 2 * END) * (u[1] - 0.5) * span + wide * fitted["around"] @ noise)
