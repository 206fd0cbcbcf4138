"""The same numbers as other people's implementations."""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Any

import pytest
import torch
from sklearn.metrics.pairwise import polynomial_kernel
from sklearn.neighbors import NearestNeighbors

from sibling.metrics.coverage import Coverage, Density, Precision, Recall
from sibling.metrics.distance import FrechetDistance, KernelDistance
from sibling.metrics.memorisation import nearest
from sibling.metrics.points import nearest_radii

pytestmark = pytest.mark.reference


def points(n: int, f: int, seed: int) -> torch.Tensor:
    return torch.randn(n, f, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def quietly(name: str, attribute: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what their imports warn of is not ours to mend
        return getattr(__import__(name, fromlist=[attribute]), attribute)


@pytest.mark.parametrize(("n", "m", "shift"), [(120, 90, 0.0), (90, 150, 0.7), (40, 40, 2.0)])
def test_prdc(n: int, m: int, shift: float) -> None:
    compute = quietly("prdc", "compute_prdc")
    real, fake = points(n, 6, 1), points(m, 6, 2) * 0.9 + shift
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = compute(real_features=real.numpy(), fake_features=fake.numpy(), nearest_k=5)
    for kind in (Precision, Recall, Density, Coverage):
        assert kind()(real=real, fake=fake) == pytest.approx(theirs[kind.name], abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_torchmetrics_kernel_distance(shift: float) -> None:
    poly_mmd = quietly("torchmetrics.image.kid", "poly_mmd")
    real, fake = points(80, 16, 1), points(80, 16, 2) + shift
    theirs = float(poly_mmd(real, fake, degree=3, gamma=None, coef=1.0))
    assert KernelDistance()(real=real, fake=fake) == pytest.approx(theirs, rel=1e-9)


def test_scikit_learn_kernel_with_unequal_sizes() -> None:
    real, fake = points(70, 10, 1), points(30, 10, 2) + 0.3
    a, b = real.numpy(), fake.numpy()
    k_aa, k_bb, k_ab = (
        polynomial_kernel(x, y, degree=3, gamma=1 / 10, coef0=1) for x, y in ((a, a), (b, b), (a, b))
    )
    want = (k_aa.sum() - k_aa.trace()) / (70 * 69) + (k_bb.sum() - k_bb.trace()) / (30 * 29) - 2 * k_ab.mean()
    assert KernelDistance()(real=real, fake=fake) == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize(("n", "m"), [(200, 150), (12, 200)])
def test_torchmetrics_frechet_distance(n: int, m: int) -> None:
    """Through their public class, with a feature network that changes nothing."""
    kind = quietly("torchmetrics.image.fid", "FrechetInceptionDistance")

    class Identity(torch.nn.Module):
        num_features = 12

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)

    real, fake = points(n, 12, 1).sigmoid(), (points(m, 12, 2) * 0.7 + 0.4).sigmoid()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = kind(feature=Identity(), normalize=True, input_img_size=(3, 2, 2)).set_dtype(torch.float64)
        theirs.update(real.view(-1, 3, 2, 2), real=True)
        theirs.update(fake.view(-1, 3, 2, 2), real=False)
        want = float(theirs.compute())
    assert FrechetDistance()(real=real, fake=fake) == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("k", [1, 5])
def test_scikit_learn_neighbours(k: int) -> None:
    data = points(150, 5, 1)
    distances, _ = NearestNeighbors(n_neighbors=k + 1).fit(data.numpy()).kneighbors(data.numpy())
    mine = nearest_radii(data, k, chunk=40).sqrt()
    assert torch.allclose(mine, torch.from_numpy(distances[:, k]), rtol=1e-6)


def test_scikit_learn_nearest_pictures() -> None:
    """Without flips and shifts the nearest sample of near copies is the plain nearest neighbour."""
    g = torch.Generator().manual_seed(0)
    small = torch.randn(200, 1, 5, 5, generator=g)
    train = torch.nn.functional.interpolate(small, size=16, mode="bilinear").tanh()
    fake = (train[:60] + 0.1 * torch.randn(60, 1, 16, 16, generator=g)).clamp(-1, 1)
    theirs = NearestNeighbors(n_neighbors=1).fit(train.flatten(1).numpy())
    distance, index = theirs.kneighbors(fake.flatten(1).numpy())
    found = nearest(train=train, fake=fake, flips=False, shifts=0)
    assert found.index.tolist() == index[:, 0].tolist()
    # alignment, contrast and brightness can only bring a pair nearer, and hardly do for a mere copy
    plain = torch.from_numpy(distance[:, 0] / 16).float()
    assert (found.distance <= plain + 1e-5).all()
    assert (found.distance > 0.8 * plain).all()
