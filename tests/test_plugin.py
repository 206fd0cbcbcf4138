"""A new model, format, condition, modality or metric is one new file and one line in a table."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import blobs, dataset

import sibling
from sibling.conditions import CONDITIONS
from sibling.dataset import Dataset
from sibling.errors import UsageError
from sibling.formats import FORMATS
from sibling.metrics import METRICS
from sibling.modalities import MODALITIES
from sibling.models import MODELS
from sibling.registry import lookup, names, suggest
from sibling.snapshot import Snapshot


@pytest.fixture
def plug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a module and add its line to a table."""

    def add(table: dict[str, str], name: str, attribute: str, text: str) -> None:
        module = f"plugin_{attribute.lower()}"
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(text))
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setitem(table, name, f"{module}:{attribute}")

    return add


def easy() -> Dataset:
    return dataset(*blobs(60))


MEAN = """
    import torch

    class Mean:
        '''The mean of each class, with a little noise.'''
        generating = ("net",)

        def __init__(self, noise=0.1):
            self.noise = noise

        @staticmethod
        def derive(n, classes, shape):
            return [("noise", 0.05, "because")]

        def arguments(self):
            return {"noise": self.noise}

        def build(self, shape, condition, rng):
            self.shape = tuple(shape)
            size = int(torch.tensor(shape).prod())
            self.networks = {"net": torch.nn.Linear(max(1, condition.width), size)}
            self.optimizers = {"sgd": torch.optim.SGD(self.networks["net"].parameters(), 0.5, momentum=0.5)}

        def _out(self, cond):
            vec = cond.vec if cond.vec.shape[1] else torch.ones(len(cond), 1)
            return self.networks["net"](vec).reshape(-1, *self.shape)

        def step(self, batch):
            loss = (self._out(batch.cond) - batch.x).square().flatten(1).sum(1).mean()
            self.optimizers["sgd"].zero_grad()
            loss.backward()
            self.optimizers["sgd"].step()
            return {"loss/total": float(loss.detach())}

        def validate(self, batch):
            return float((self._out(batch.cond) - batch.x).square().sum().detach()), len(batch.x)

        def settle(self, batches, rng):
            assert sum(len(classes) for _, classes in batches()) > 0

        def sample(self, cond, y, seeds):
            noise = [torch.randn(self.shape, generator=torch.Generator().manual_seed(s)) for s in seeds]
            return (self._out(cond) + self.noise * torch.stack(noise)).clamp(-1, 1).detach()

        def state(self):
            return {k: v.detach() for k, v in self.networks["net"].state_dict().items()}

        def load(self, state):
            self.networks["net"].load_state_dict(dict(state))
"""


def test_a_new_model_is_fitted_sampled_and_judged(plug: Any, tmp_path: Path) -> None:
    plug(MODELS, "mean", "Mean", MEAN)
    run = sibling.fit(easy(), out=tmp_path / "run", model="mean", steps=60, tensorboard=False)
    assert run.run["arguments"] == {"noise": 0.05}
    made = sibling.sample(Snapshot(run.folder), want=20)
    left = made.raw[[name == "left" for name in made.table["y"]]]
    assert left[..., :4].mean() > left[..., 4:].mean() + 50
    assert sibling.verify(run.folder) == []
    assert sibling.evaluate(made, against=run, lift=False).score("label_agreement").value == 1.0


LINES = """
    import base64, json
    from sibling.files import write_bytes
    from sibling.types import Record

    class Lines:
        '''A folder with samples.txt: one sample a line, as JSON with the file in base64.'''
        as_files = True

        def matches(self, path):
            return (path / "samples.txt").is_file()

        def read(self, path, suffixes):
            for line in (path / "samples.txt").read_text().splitlines():
                row = json.loads(line)
                yield Record(row["key"], base64.b64decode(row["bytes"]), row["y"], split=row["split"])

        def write(self, folder, records, suffix):
            rows = [
                {"key": r.key, "y": r.y, "split": r.split, "bytes": base64.b64encode(r.source).decode()}
                for r in records
            ]
            write_bytes(folder / "samples.txt", "\\n".join(map(json.dumps, rows)).encode())
            return [{"origin": "real"} for _ in rows]
"""


def test_a_new_format_is_written_and_read(plug: Any, tmp_path: Path) -> None:
    plug(FORMATS, "lines", "Lines", LINES)
    data = easy()
    out = sibling.write(data, out=tmp_path / "set", format="lines")
    again = sibling.read(out)
    assert again.found["format"] == "lines"
    assert np.array_equal(np.asarray(again.raw), data.raw)
    assert again.table["y"] == data.table["y"]


SIDE = """
    from sibling.conditions.label import Label

    class Side(Label):
        '''A label that is told as one number.'''
        name = "side"
        width = 1

        def fit(self, y):
            known = super().fit(y)
            return Side(known.classes, known.counts)

        def encode(self, y, spatial):
            import torch
            from sibling.types import Cond
            vec = torch.tensor([[2.0 * self.index(v) - 1] for v in y])
            return Cond(vec, torch.zeros(len(y), 0, *spatial))

        def null(self, n, spatial):
            import torch
            from sibling.types import Cond
            return Cond(torch.zeros(n, 1), torch.zeros(n, 0, *spatial))
"""


def test_a_new_condition_goes_through_fit_and_sample(plug: Any, tmp_path: Path) -> None:
    plug(CONDITIONS, "side", "Side", SIDE)
    data = easy()
    data.condition = lookup(CONDITIONS, "sibling.conditions", "side")().fit(data.table["y"])
    small = {"width": 8, "latent": 4}
    run = sibling.fit(data, out=tmp_path / "run", steps=20, arguments=small, tensorboard=False)
    assert type(Snapshot(run.folder).condition).__name__ == "Side"
    assert sibling.sample(Snapshot(run.folder), want=2).table["y"] == ["left", "left", "right", "right"]


WAVE = """
    import numpy as np, torch
    from sibling.errors import BadSample, NumericalError

    class Wave:
        '''32 numbers in a row, as bytes.'''
        name = "wave"
        suffixes = (".wave",)
        suffix = ".wave"
        dtype = np.uint8
        shape = (1, 32)

        @classmethod
        def choose(cls, looks, *, size, most):
            return cls(), []

        def look(self, source):
            content = source if isinstance(source, bytes) else source.read()
            if len(content) != 32:
                raise BadSample("has not 32 bytes")
            return {"size": (1, 32), "mode": "wave", "channels": 1}

        def decode(self, source):
            return np.frombuffer(source, np.uint8)[None]

        def encode(self, raw):
            return raw.tobytes()

        def refine(self, raw, rows):
            return self, []

        def fingerprints(self, raw):
            return [int.from_bytes(np.packbits(r[0, ::4] > 127).tobytes(), "big") for r in raw]

        def to_x(self, raw):
            return torch.from_numpy(raw.astype(np.float32) / 127.5 - 1)

        def to_raw(self, x):
            if not torch.isfinite(x).all():
                raise NumericalError("not finite")
            return ((x.clamp(-1, 1) + 1) * 127.5).round().numpy().astype(np.uint8)

        def augment(self, x, strength, rng):
            return x + 0.02 * strength * torch.randn(x.shape, generator=rng) if strength else x

        def preview(self, raw):
            return np.repeat(np.repeat(raw[:, :, None, :], 8, 2).transpose(0, 2, 3, 1), 3, 3)

        def to_json(self):
            return {"name": self.name}
"""


def test_a_new_modality_goes_the_whole_way(plug: Any, tmp_path: Path) -> None:
    """One spatial axis instead of two: what no stage may assume."""
    plug(MODALITIES, "wave", "Wave", WAVE)
    rng = np.random.default_rng(0)
    for name in ("low", "high"):
        (tmp_path / "waves" / name).mkdir(parents=True)
        for i in range(60):
            level = rng.integers(0, 120, 32) + (130 if name == "high" else 0)
            (tmp_path / "waves" / name / f"{i}.wave").write_bytes(level.astype(np.uint8).tobytes())
    data = sibling.read(tmp_path / "waves", modality="wave")
    assert data.shape == (1, 32)
    small = {"width": 8, "latent": 4}
    run = sibling.fit(data, out=tmp_path / "run", steps=60, arguments=small, tensorboard=False)
    kept = sibling.curate(sibling.sample(run, want=10), against=run, rounds=1)
    judged = sibling.evaluate(kept, against=run, seeds=1, steps=10, quick=True)
    assert judged.verdict.arms["real"]["mean"] > 0.6
    out = sibling.write(data, kept, out=tmp_path / "larger", against=run)
    assert len(list(out.rglob("*.wave"))) == len(data) + len(kept)
    assert sibling.verify(out) == []


GAP = """
    class MeanGap:
        '''The distance of the means.'''
        name = "mean_gap"
        goal = "min"
        range = (0.0, float("inf"))
        meaning = "How far the means lie apart."

        def __call__(self, *, real, fake):
            if min(len(real), len(fake)) < 2:
                return float("nan")
            return float((real.mean(0) - fake.mean(0)).norm())
"""


def test_a_new_metric_appears_in_the_evaluation(plug: Any, own_run: Snapshot) -> None:
    plug(METRICS, "mean_gap", "MeanGap", GAP)
    scores = sibling.evaluate(sibling.sample(own_run, want=10), against=own_run, lift=False).scores
    found = [score for score in scores if score.name == "mean_gap"]
    assert len(found) == 2  # one a feature space
    assert all(math.isfinite(score.floor) for score in found)


@pytest.mark.parametrize(
    ("table", "group", "typo", "meant"),
    [
        (MODELS, "sibling.models", "vea", "vae"),
        (FORMATS, "sibling.formats", "foldr", "folder"),
        (CONDITIONS, "sibling.conditions", "lable", "label"),
        (MODALITIES, "sibling.modalities", "imge", "image"),
        (METRICS, "sibling.metrics", "covrage", "coverage"),
    ],
)
def test_an_unknown_name_gives_did_you_mean(table: dict[str, str], group: str, typo: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"Did you mean '{meant}'"):
        lookup(table, group, typo)
    with pytest.raises(UsageError, match="Known: ") as caught:
        lookup(table, group, "qqqqqqqq")
    assert "Did you mean" not in str(caught.value)
    assert meant in names(table, group)


def test_a_missing_optional_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "flow", "sibling_flow_that_is_not_there:Flow")
    with pytest.raises(UsageError, match="needs the package 'sibling_flow_that_is_not_there'"):
        lookup(MODELS, "sibling.models", "flow")


def test_many_known_names_are_cut_short() -> None:
    assert suggest("x", [f"name{i}" for i in range(30)]).endswith("and 10 more.")
