"""The report: whole and bare run folders, hostile names, no request, bounded size, same bytes twice."""

from __future__ import annotations

import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_run import dump, dump_lines, regression, undecided, verdict, write_evaluation, write_run
from PIL import Image
from test_game import play

from sibling.errors import BadInput, UsageError
from sibling.files import check_manifest, new_folder
from sibling.report import report

EVIL = "\"><img src=x onerror=alert(1)><script>alert(2)</script>\x1b[31m\u202ered $\\frac{ {{ 7*7 }} '--><b>"
VOID = {"meta", "img", "br", "path", "use"}


# ---------------------------------------------------------------- reading the page back


class Page(HTMLParser):
    """The elements, attributes and text of a page; fails on tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, (tag, self.open, self.getpos())

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def _read(path: Path) -> Page:
    return Page(path.read_text("utf-8"))


def _shape(page: Page) -> list[tuple[str, tuple[str, ...]]]:
    """Every element with the names of its attributes, outside the charts."""
    svg = {"svg", "g", "path", "text", "use", "defs", "clippath", "rect"}
    return [(tag, tuple(sorted(attributes))) for tag, attributes in page.tags if tag not in svg]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def page(whole: Path) -> Page:
    return _read(report(whole))


# ---------------------------------------------------------------- tests


def test_complete_run(whole: Path, page: Page) -> None:
    for words in (
        "Yes: training with the synthetic pictures helps.",
        "+2.1 points",
        "95 % interval +0.3 to +3.9",
        "655 real → 4,980 synthetic",
        "A lift below about 1.8 points: half the width of the interval. Before the work 1.6 points were expected",
        "1 of 4 scores are as good as real against real",
        "The synthetic pictures are worth about 120 more real samples (40 to 260).",
        "real + classic the bar to pass classic augmentation of strength 0.5 90.5 % 89.9 to 91.1 % 3 runs +2.1 +0.3 to +3.9",
        "shuffled labels control: must lose",
        "synthetic only only for reference",
        "Not repeated, and left out of the comparison",
        "1,000 of 4,980 synthetic samples, the part that was tested",
        "Of 10 classes, 1 is found better and 4 worse",
        "digit 9 \u221212.0 \u221217.0 to \u22127.0 worse",
        "mix: cutmix, on the val part the best of mixup 0.88, cutmix 0.9 (accuracy)",
        "12 times what real samples score among themselves",
        "Measured in: spectrum",
        "ceiling 9.5.",
        "copy ceiling Drops what lies far closer",
        "0.91 \u2192 0.908",
        "the usual threshold",
        "the file ends in the middle of the picture",
        "n/4 rounded to 8, at most 128",
        "sibling fit digits --out run --model vae --steps 4000",
        "best, step 3,100",
        "9f2c" * 16,
    ):
        assert words in page.text, words
    assert "cannot be shown" not in page.text
    assert len(page.all("svg")) == 5  # the arms and four curves
    assert len(page.all("img")) == 20 + 12 + 1
    assert all(
        image["alt"] and image["src"].startswith("data:image/png;base64,") for image in page.all("img")
    )
    assert not re.search("private|anonym", page.text, re.IGNORECASE)


def test_accessible(page: Page) -> None:
    assert page.all("html")[0]["lang"] == "en"
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    links = [a["href"].removeprefix("#") for a in page.all("a")]
    assert set(links) <= set(ids)
    assert len(links) == 9


def test_offline(whole: Path) -> None:
    text = report(whole).read_text("utf-8")
    assert "://" not in text
    assert "default-src 'none'" in text
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png;base64,")), (tag, attributes)
    assert not re.search(r"@import|url\((?!#)", text)
    names = [a["id"] for _, a in page.tags if "id" in a]
    used = set(re.findall(r"url\(#([^)]+)\)", text)) | {u["xlink:href"][1:] for u in page.all("use")}
    assert used <= set(names)
    assert len(names) == len(set(names))


def test_same_bytes(whole: Path, tmp_path: Path) -> None:
    first = report(whole, out=tmp_path / "a" / "page.html")
    assert first == tmp_path / "a" / "page.html"
    assert first.read_bytes() == report(str(whole)).read_bytes()


@pytest.mark.parametrize("evil", [EVIL, "</style></svg></title><svg onload=alert(1)>", "\udcff\udcfe"])
def test_hostile_names(tmp_path: Path, evil: str) -> None:
    def poison(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                (evil + k if k.startswith(("digit", "real ", "synth")) else k): poison(v)
                for k, v in value.items()
            }
        if isinstance(value, list):
            return [poison(item) for item in value]
        return evil + value if isinstance(value, str) and value not in keep else value

    keep = {"min", "max", "helps", "label", "image", "points", "accuracy", "some"}
    keep |= {"rival", "candidate", "control", "reference", "real + classic"}
    run, plain = tmp_path / "run", write_run(tmp_path / "plain", ["digit 0", "digit 1"])
    write_run(run, ["digit 0", "digit 1"])
    for path in [*run.glob("*.json"), *run.glob("*/*.json")]:
        if path.name != "MANIFEST.json":
            dump(path, poison(json.loads(path.read_text("utf-8"))))
    rows = [poison(json.loads(line)) for line in (run / "curation.jsonl").read_text("utf-8").splitlines()]
    dump_lines(run / "curation.jsonl", rows)
    bad, good = _read(report(run)), _read(report(plain))
    # `counts` is {"real", "fake"} in scores and loses its sentence when poisoned; nothing may be added.
    assert set(_shape(bad)) <= set(_shape(good))
    assert len(_shape(bad)) <= len(_shape(good))
    assert not [name for _, attributes in bad.tags for name in attributes if name.startswith("on")]
    assert not {"script", "iframe", "b"} & ({tag for tag, _ in bad.tags} - {tag for tag, _ in good.tags})
    assert {tag for tag, _ in bad.tags} == {tag for tag, _ in good.tags}
    assert "cannot be shown" not in bad.text
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f\u202e\ud800-\udfff]", (run / "report.html").read_text("utf-8")
    )
    if evil is EVIL:
        assert "onerror=alert(1)" in bad.text  # shown, not run
        assert "{{ 7*7 }}" in bad.text
        assert "\\x1b[31m" in bad.text


def test_bare_run(tmp_path: Path) -> None:
    dump(tmp_path / "run.json", {"format": 1})
    page = _read(report(tmp_path))
    for words in (
        "has not been measured yet",
        "holds no verdict",
        "No pictures are kept",
        "lists no synthetic pictures",
        "holds no scores",
        "Nothing was curated",
        "holds no curve",
        "does not say what was found",
        "holds no counts",
    ):
        assert words in page.text, words
    assert "cannot be shown" not in page.text
    assert "None" not in page.text


def test_unconditional_without_val(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", ["all"])
    facts = json.loads((run / "run.json").read_text("utf-8"))
    facts |= {"condition": {"name": "none"}, "best_step": None}
    facts["data"]["counts"] = {"train": 70, "val": {}, "test": {"all": 20}}
    dump(run / "run.json", facts)
    (run / "evaluation" / "verdict.json").unlink()
    dump(run / "evaluation" / "pictures.json", {})
    dump_lines(run / "stats.jsonl", [{"step": 1, "loss/total": 3.0, "val/loss": None}])
    page = _read(report(run))
    assert "cannot be shown" not in page.text
    assert "70 real → 4,980 synthetic" in page.text
    assert len(page.all("svg")) == 1
    assert page.all("img")[0]["alt"] == "16 real pictures of the class all pictures"


def test_nulls_everywhere(tmp_path: Path) -> None:
    def empty(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: empty(item) for key, item in value.items()}
        if isinstance(value, list):
            return [empty(item) for item in value]
        return value if isinstance(value, str) else None

    run = write_run(tmp_path / "run")
    for path in [*run.glob("*.json"), *run.glob("*/*.json")]:
        dump(path, empty(json.loads(path.read_text("utf-8"))))
    page = _read(report(run))
    assert "cannot be shown" not in page.text
    assert "Could not be computed" in page.text
    assert not re.search(r"\b(nan|None|null)\b", page.text)


@pytest.mark.parametrize("answer", ["helps", "no evidence", "harms", "undecided", "something new"])
def test_each_answer_has_a_word(tmp_path: Path, answer: str) -> None:
    dump(tmp_path / "run.json", {"format": 1})
    said = {
        "verdict": "helps" if answer == "undecided" else answer,
        "lift": -1.25,
        "decided": answer != "undecided",
    }
    dump(tmp_path / "evaluation" / "verdict.json", said)
    words = {"helps": "Helps Yes", "no evidence": "No evidence There is no", "harms": "Harms No"}
    page = _read(report(tmp_path))
    assert words.get(answer, "Cannot tell This test cannot tell") in page.text
    assert "\u22121.2 points" in page.text


def test_damaged_parts_leave_the_rest(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", ["digit 0"])
    parts = {
        "evaluation/pictures.npz": "The pictures cannot be shown",
        "evaluation/verdict.json": "The lift cannot be shown",
        "evaluation/scores.json": "The scores cannot be shown",
        "previews/step-004000.png": "The last preview cannot be shown",
        "curation.json": "The curation cannot be shown",
        "data/store.json": "What was found in the data cannot be shown",
        "stats.jsonl": "The curves cannot be shown",
    }
    for name in parts:
        (run / name).write_bytes(b"[1,\n2\n3\n" + bytes(40))
    page = _read(report(run))
    for words in (
        *parts.values(),
        "How to reproduce it",
        "fingerprint of the data",
        "its verdict cannot be read",
    ):
        assert words in page.text, words


def test_hundred_classes_stay_small(tmp_path: Path) -> None:
    names = [f"class {i:03d}" for i in range(100)]
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (16, 160, 120, 3), dtype=np.uint8)  # the worst case for PNG
    pictures = {f"{kind}_{i}": noise for kind in ("real", "fake") for i in range(30)}
    pictures |= {"copies_fake": noise[:14], "copies_real": noise[:14]}
    run = write_run(tmp_path / "run", names, pictures)
    Image.fromarray(rng.integers(0, 256, (1500, 1500, 3), dtype=np.uint8)).save(
        run / "previews" / "step-009999.png"
    )
    path = report(run)
    assert path.stat().st_size < 5_000_000
    page = _read(path)
    assert "24 of 100 classes" in page.text
    assert "12 of 14 pairs" in page.text


def test_refuses(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no run\.json"):
        report(tmp_path)
    dump(tmp_path / "run.json", [1])
    with pytest.raises(BadInput, match="damaged"):
        report(tmp_path)
    dump(tmp_path / "run.json", {"data": 5})
    with pytest.raises(BadInput, match="damaged"):
        report(tmp_path)
    dump(tmp_path / "run.json", {})
    with pytest.raises(UsageError, match="is a folder"):
        report(tmp_path, out=tmp_path)


# ---------------------------------------------------------------- an evaluation alone, other verdicts


def test_an_evaluation_alone(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "photos-evaluation", ["digit 0", "digit 1"])
    path = report(folder)
    page = _read(path)
    assert path == folder / "report.html"
    for words in ("Sibling report \u00b7 photos-evaluation", "700 real \u2192 996 synthetic", "which no arm has seen",
                  "sibling write --verdict writes", "Made by Sibling 0.1.0 from what lies in the folder of"):  # fmt: skip
        assert words in page.text, words
    ids = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert ids == ["lift", "scores", "grids", "copies", "labels"]
    assert {a["href"] for a in page.all("a")} == {f"#{name}" for name in ids}
    assert "cannot be shown" not in page.text
    assert "not measured" not in page.text.lower()
    assert "no generator" not in page.text


def test_the_report_of_an_evaluation_belongs_to_it(tmp_path: Path) -> None:
    """Listed in the manifest, so that it is verified and does not stand in the way of the next evaluation."""
    folder = write_evaluation(tmp_path / "e", ["digit 0"])
    (folder / "scores.json").write_text("{}")
    report(folder)
    manifest, wrong = check_manifest(folder)
    assert [sentence.split(":")[0] for sentence in wrong] == ["scores.json"]  # what was changed stays wrong
    assert "report.html" in manifest["files"]
    with new_folder(folder, kind="evaluation", overwrite=True) as staging:
        (staging / "verdict.json").write_text("{}")
    report(folder)
    assert check_manifest(folder)[1] == []
    (folder / "report.html").write_text("another page")
    assert check_manifest(folder)[1][0].startswith("report.html")
    (folder / "notes.txt").write_text("of a user")
    with (
        pytest.raises(UsageError, match="did not write"),
        new_folder(folder, kind="evaluation", overwrite=True),
    ):
        pass


def test_numbers_instead_of_classes(tmp_path: Path) -> None:
    page = _read(report(write_evaluation(tmp_path / "e", ["severity 0.2 to 0.4"], answer=regression())))
    for words in ("Lift in mean absolute error +0.00210 of severity", "95 % interval \u22120.00340 to +0.00760",
                  "160 real pictures on 5 splits, each with its own generator", "Less is better",
                  "a positive lift means that the error became smaller", "A lift below about 0.0055 of severity",
                  "no synthetic sample, because the verdict does not support it", "0.0600"):  # fmt: skip
        assert words in page.text, words
    assert not re.search(r"\b(nan|None|null)\b|points|Worst", page.text)


def test_the_name_of_a_metric_keeps_its_capitals(tmp_path: Path) -> None:
    told = verdict(["digit 0"]) | {"metric": "macro-F1"}
    assert (
        "Macro-F1 on real test"
        in _read(report(write_evaluation(tmp_path / "e", ["digit 0"], answer=told))).text
    )


def test_copies_stand_beside_the_count_of_good_scores(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "e", ["digit 0"])
    assert "% of the synthetic pictures are copies" not in _read(report(folder)).text
    told = json.loads((folder / "scores.json").read_text())
    for score in told["scores"]:
        if score["name"] == "copy_share":
            score |= {"value": 0.97, "low": 0.93, "high": 1.0}
    dump(folder / "scores.json", told)
    text = _read(report(folder)).text
    assert "97.0 % of the synthetic pictures are copies" in text
    assert "as far as they are new" in text


def test_nobody_can_tell(tmp_path: Path) -> None:
    page = _read(report(write_evaluation(tmp_path / "e", ["digit 0"], answer=undecided())))
    assert "Cannot tell This test cannot tell whether the synthetic pictures help." in page.text
    assert page.text.count("12 real test samples are too few; 20 are the least") == 2
    assert "Lift in" not in page.text
    assert not page.all("svg")
    assert not re.search(r"\b(nan|None|null)\b", page.text)


def test_a_verdict_of_another_form(tmp_path: Path) -> None:
    folder = write_evaluation(
        tmp_path / "e", ["digit 0"], answer=verdict(["digit 0"]) | {"arms": {"real": 5}}
    )
    page = _read(report(folder))
    assert "The lift cannot be shown" in page.text
    assert "kernel distance" in page.text


# ---------------------------------------------------------------- a game


def _played(run: Path, rows: list[dict[str, Any]], **more: Any) -> Path:
    write_run(run, ["digit 0", "digit 1"])
    facts = json.loads((run / "run.json").read_text("utf-8"))
    dump(run / "run.json", facts | {"model": "gan"} | more)
    dump_lines(run / "stats.jsonl", [row | {"loss/d": 1.0, "loss/g": 2.0} for row in rows])
    return run


def test_the_game_is_shown(tmp_path: Path) -> None:
    rows = play()
    rows[60]["game/rollback"] = 1.0
    path = report(_played(tmp_path / "run", rows))
    page = _read(path)
    for words in (
        "The game Two networks learned against each other",
        "✓ Balanced: in the last fifth of the log (steps 3,225 to 4,000)",
        "The training was rolled back once at step 1,525.",
        "D(x) 0.62",
        "\u2212log 4",
        "Dotted uprights",
        "is the distance between synthetic and real pictures",
    ):
        assert words in page.text, words
    assert {"href": "#game"} in page.all("a")
    assert len(page.all("svg")) == 1 + 3 + 5  # the arms, val/loss and two losses, the game
    labels = [a["aria-label"] for _, a in page.tags if a.get("class") == "plot"]
    assert any(label.startswith("Variety of the synthetic ones, real = 1 over the steps") for label in labels)
    assert path.read_bytes() == report(tmp_path / "run").read_bytes()
    test_offline(tmp_path / "run")


def test_no_game_no_section(page: Page) -> None:
    """The control: a log without game/ says nothing of a game."""
    assert "The game" not in page.text
    assert "game" not in [a.get("id") for _, a in page.tags]
    assert "has begun to learn its training pictures by heart" in page.text


@pytest.mark.parametrize(
    ("given", "mark"),
    [
        ({"game_spread": 0.2}, "✕ Collapsed"),
        ({"game_d_real": 0.97, "game_d_fake": 0.03}, "! D is too strong"),
        ({"game_d_real": 0.3}, "! G is ahead"),
        ({"val_loss": lambda t: 1 - 0.9 * t}, "… Not finished"),
    ],
)
def test_each_state_has_a_mark(tmp_path: Path, given: dict[str, Any], mark: str) -> None:
    assert mark in _read(report(_played(tmp_path / "run", play(**given)))).text


def test_a_damaged_or_hostile_log_of_a_game(tmp_path: Path) -> None:
    run = _played(tmp_path / "run", play())
    rows = [row | {"game/d_real": [EVIL], "game/" + EVIL: 1.0, "loss/" + EVIL: row["step"]} for row in play()]
    dump_lines(run / "stats.jsonl", rows)
    page = _read(report(run))
    assert "? The log is too short to tell: 0 of" in page.text
    assert not {"script", "iframe"} & {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    test_offline(run)
    (run / "stats.jsonl").write_bytes(b"[1,\n2\n3\n")
    assert "The game cannot be shown" in _read(report(run)).text


# ---------------------------------------------------------------- other conditions

BINS = ["severity 0.2 to 0.4", "severity 0.4 to 0.61"]
PIXELS = "iVBORw0KGgo" * 60


@pytest.mark.parametrize(
    ("condition", "names", "y", "shown"),
    [
        ({"name": "value", "names": ["severity"], "ranges": [[0.2, 0.61]]}, BINS, {"severity": 0.30004},
         "severity 0.3"),
        ({"name": "labels", "labels": ["hat", "smile"]}, ["hat+smile", "none"], ["hat", "smile"], "hat + smile"),
        ({"name": "labels", "labels": ["hat", "smile"]}, ["hat+smile", "none"], [], "none"),
        ({"name": "map", "column": "conditioning_image"}, ["all"], {"conditioning_image": PIXELS},
         "conditioning_image map"),
        ({"name": "joint", "parts": [{"name": "label"}, {"name": "value"}]}, ["leaf", "stem, a"],
         {"kind": "leaf", "severity": 0.7, "tags": ["x", "y"]}, "kind leaf, severity 0.7, tags x + y"),
    ],
)  # fmt: skip
def test_other_conditions(
    tmp_path: Path, condition: dict[str, Any], names: list[str], y: Any, shown: str
) -> None:
    run = write_run(tmp_path / "run", names)
    facts = json.loads((run / "run.json").read_text("utf-8"))
    dump(run / "run.json", facts | {"condition": condition})
    path = run / "evaluation" / "pictures.json"
    kept = json.loads(path.read_text("utf-8"))
    for row in kept["copies"]:
        row["y"] = y
    dump(path, kept)
    row = {"reason": "copy", "detail": "", "nearest_real": "1.png"}
    dump_lines(run / "curation.jsonl", [{"key": "synthetic-1", "ratio": 0.3, "y": y, **row}])
    page = _read(report(run))
    assert "cannot be shown" not in page.text
    assert f"· {shown} " in page.text
    assert f"synthetic-1 {shown} copy" in page.text
    for name in names:
        assert f"pictures of the group {name}" in " ".join(image["alt"] for image in page.all("img"))
    assert ("The worst group of each score" in page.text) == (len(names) > 1)
    assert not re.search(r"(this|each|by|of the) class\b", page.text)
    assert PIXELS[:100] not in page.text
