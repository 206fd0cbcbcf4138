"""The whole way, as a person goes it: example, enlarge, report, verify."""

from __future__ import annotations

import inspect
import json
import subprocess
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

import sibling
from sibling import files
from sibling.cli import main
from sibling.errors import Stopped, UsageError
from sibling.snapshot import Snapshot

Cli = Callable[..., subprocess.CompletedProcess[str]]


def test_the_whole_way_from_the_command_line(cli: Cli, tmp_path: Path) -> None:
    photos, larger, run = (tmp_path / name for name in ("photos", "larger", "larger-run"))
    assert main(["example", str(photos), "--per-class", "6"]) == 0
    before = files.hash_file(photos / "MANIFEST.json")
    done = cli("enlarge", photos, larger, "--minutes", 0.02, "--want", 3, "--quick")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert f"data set  {larger}" in done.stdout
    assert f"report    {run / 'report.html'}" in done.stdout
    assert done.stdout.startswith(("The synthetic", "There is no evidence", "Nobody can tell"))
    assert "--write-anyway" in done.stdout + done.stderr or "help" in done.stdout
    assert "<html" in (run / "report.html").read_text()
    rows = files.read_jsonl(larger / "metadata.jsonl")
    origins = [row["origin"] for row in rows]
    assert origins.count("real") == 60
    verdict = files.read_json(run / "evaluation" / "verdict.json")
    assert origins.count("synthetic") == sum(verdict["advice"].get("amount", {}).values())
    recipe = files.read_json(larger / "augmentation.json")
    assert recipe["written"] == verdict["advice"].get("write", "nothing")
    assert recipe["reason"]
    assert files.hash_file(photos / "MANIFEST.json") == before
    assert sibling.verify(photos) == []
    for folder in (larger, run):
        assert main(["verify", str(folder)]) == 0
    assert main(["enlarge", str(photos), str(larger)]) == 2  # what is finished is not overwritten unasked
    json.loads((run / "evaluation" / "verdict.json").read_text())


def test_the_page_calls_the_six_stages_and_nothing_else() -> None:
    module = import_module("sibling.enlarge")
    code = "".join(inspect.getsource(module).split('"""')[::2])  # without the texts for people
    assert len([line for line in code.splitlines() if line]) <= 60
    body = inspect.getsource(module.enlarge).split('"""')[2]
    calls = [body.index(f" {stage}(") for stage in ("read", "fit", "sample", "curate", "evaluate", "write")]
    assert calls == sorted(calls)


@pytest.mark.parametrize("out", ["photos", "photos/larger", "."])
def test_the_larger_set_may_not_lie_in_the_small_one(out: str, digits: Path) -> None:
    with pytest.raises(UsageError):
        sibling.enlarge(digits, digits.parent / out.replace("photos", digits.name))


def test_run_and_set_may_not_lie_in_each_other(digits: Path, tmp_path: Path) -> None:
    for run in (tmp_path / "larger", tmp_path / "larger" / "run"):
        with pytest.raises(UsageError):
            sibling.enlarge(digits, tmp_path / "larger", run=run)
    with pytest.raises(UsageError):
        sibling.enlarge(digits, tmp_path / "larger", run=digits / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_enlarge_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in training; a second call needs to be told, and then ends like a whole one."""
    photos = sibling.example(tmp_path / "photos", per_class=10)
    module = import_module("sibling.training")
    monkeypatch.setattr("sibling.plan._seconds_a_step", lambda *_: 0.05)
    monkeypatch.setattr("sibling.judge.steps_for", lambda n: 20)
    monkeypatch.setattr(import_module("sibling.lift.compare"), "steps_for", lambda n: 5)
    original = module.batch_at

    def stop(data: object, rows: object, step: int, *rest: object, **more: object) -> object:
        if step == 7:
            raise Stopped("stopped", 2)
        return original(data, rows, step, *rest, **more)

    common: dict[str, object] = {"want": 2, "minutes": 0.02, "quick": True, "write_anyway": True}
    monkeypatch.setattr(module, "batch_at", stop)
    with pytest.raises(Stopped):
        sibling.enlarge(photos, tmp_path / "larger", **common)
    monkeypatch.setattr(module, "batch_at", original)
    with pytest.raises(UsageError, match="--resume"):
        sibling.enlarge(photos, tmp_path / "larger", **common)
    sibling.enlarge(photos, tmp_path / "larger", resume=True, **common)
    judged = sibling.enlarge(photos, tmp_path / "whole", **common)
    assert judged.verdict.arms
    assert judged.verdict.sentence.split(":")[0] in sibling.report(tmp_path / "whole-run").read_text()
    assert Snapshot(tmp_path / "larger-run").hash == Snapshot(tmp_path / "whole-run").hash
    manifests = [files.read_json(tmp_path / name / "MANIFEST.json")["files"] for name in ("larger", "whole")]
    for manifest in manifests:  # the cards bear the name of the folder
        assert all(manifest.pop(card) for card in files.CARDS)
    assert manifests[0] == manifests[1]
    rows = files.read_jsonl(tmp_path / "larger" / "metadata.jsonl")
    assert (
        sum(row["origin"] == "synthetic" for row in rows)
        == files.read_json(tmp_path / "larger-run" / "curation.json")["kept"]
    )
