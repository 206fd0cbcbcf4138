"""Texts: encodings, symbols, code words, reading a grid, tables and lines, scores, and the whole way."""

from __future__ import annotations

import json
import random
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sibling
from sibling.cli import main
from sibling.dataset import Dataset, make_modality
from sibling.device import generator
from sibling.errors import BadInput, BadSample
from sibling.metrics.wording import distinct, linear_accuracy, ngram_distance, perplexity, wording_scores
from sibling.modalities.reading import count_pairs, likeliest, transitions
from sibling.modalities.symbols import code_words, cut, split
from sibling.modalities.text import Text
from sibling.modalities.usage import from_text, signs, to_text
from sibling.models.prior import fit_local, fit_mixture


def chosen(*sources: Any, size: int | None = None) -> Text:
    text, _ = Text.choose([Text().look(source) for source in sources], size=size, most=64)
    return text


def fitted(texts: list[str], size: int | None = None) -> tuple[Text, np.ndarray]:
    """A text modality that knows these, and their raw form."""
    sources = [text.encode() for text in texts]
    first = chosen(*sources, size=size)
    raw = np.stack([first.decode(source) for source in sources])
    made, _ = first.fit(raw, np.arange(len(raw)))
    return made, raw


def faces(n: int, seed: int = 0) -> list[str]:
    """n different faces: an eye, a mouth and the same eye, with something around."""
    rng = random.Random(seed)
    made: dict[str, None] = {}
    while len(made) < n:
        eye, mouth, arm, word = map(rng.choice, ("^-o・Tx", "_.ω▽w", "ノっヽ♪", "あいうえおか"))
        made[f"({eye}{mouth}{eye}){arm}{word * rng.randint(1, 4)}"] = None
    return list(made)


# ---- bytes ----------------------------------------------------------------------------------------

WORDS = "naïve (◕‿◕) שלום مرحبا नमस्ते 👩🏽‍🚀 日本"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "  \n\n"])
def test_a_mark_tells_the_encoding_and_what_is_around_a_text_is_none_of_it(
    encoding: str, ending: str
) -> None:
    source = (WORDS + ending).encode(encoding)
    text = chosen(source)
    assert text.texts(text.decode(source)[None]) == [unicodedata.normalize("NFC", WORDS)]
    assert text.encode(text.decode(source)) == unicodedata.normalize("NFC", WORDS).encode() + b"\n"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (b"", "is empty"),
        (b" \n\t\r\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        ("Grüße".encode("latin-1"), r"is not UTF-8 \(byte 0xfc at 2\)"),
        (b"ok \x00 ok", r"control character U\+0000"),
        (b"\x1b[31mred", r"control character U\+001B"),
        (b"\xff\xfea", "begins like UTF-16"),
        (np.array([1, 2]), "one string"),
    ],
)
def test_what_is_no_text_is_a_bad_sample(source: Any, reason: str) -> None:
    with pytest.raises(BadSample, match=reason):
        Text().look(source)


def test_line_breaks_are_one_kind_and_stay_inside() -> None:
    text = chosen(b"a\r\nb\rc\x0bd\xe2\x80\xa8e")
    assert text.texts(text.decode(b"a\r\nb\rc\x0bd\xe2\x80\xa8e")[None]) == ["a\nb\nc\nd\ne"]


def test_two_ways_to_write_an_accent_are_one_symbol() -> None:
    text = chosen(b"e\xcc\x81", "é".encode())
    assert np.array_equal(text.decode(b"e\xcc\x81"), text.decode("é".encode()))
    assert text.vocabulary == ["é"]


# ---- symbols --------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [WORDS, "Z̷̢̛a̸͝l̶̚g̵o", "🏳️‍🌈👨‍👩‍👧", "‮abc‬", "(ᵒ̴̶̷̥᷅)"])
@pytest.mark.parametrize("most", [4, 8, 64])
def test_symbols_are_the_text_again_and_none_is_too_long(text: str, most: int) -> None:
    symbols = split(text, most)
    assert "".join(symbols) == text
    assert all(len(symbol.encode()) <= most for symbol in symbols)


def test_marks_belong_to_the_letter_before_them() -> None:
    assert split("a\u0301\u0302b", 16) == ["a\u0301\u0302", "b"]
    assert split("👩🏽‍🚀!", 64) == ["👩🏽‍🚀", "!"]


def test_a_long_text_is_cut_at_a_space_where_one_is_near() -> None:
    assert "".join(cut(list("one two three"), 10)) == "one two"
    assert "".join(cut(list("one two three"), 7)) == "one two"
    assert "".join(cut(list("onetwothree"), 8)) == "onetwoth"
    assert "".join(cut(list("short"), 8)) == "short"


def test_frequent_symbols_have_words_that_lie_farther_apart() -> None:
    words = code_words(200, 24)
    products = words @ words.T
    np.fill_diagonal(products, -24)
    assert set(np.unique(words)) == {-1, 1}
    assert products[:10, :10].max() <= 4 < products.max() < 24  # no two are the same
    assert np.array_equal(words[:50], code_words(50, 24))


def test_symbols_that_are_used_alike_share_signs() -> None:
    rng = random.Random(0)
    text, raw = fitted(
        [f"({rng.choice('^oT-x')}{rng.choice('_.wv')}{rng.choice('^oT-x')})" for _ in range(400)]
    )
    alike = from_text(text.usage, text.width // 2)
    of = {symbol: alike[i] for i, symbol in enumerate(text.vocabulary, 1)}
    assert to_text(alike) == text.usage
    eyes = np.mean([of["^"] @ of[eye] for eye in "-oTx"])
    mouths = np.mean([of["_"] @ of[mouth] for mouth in ".wv"])
    assert min(eyes, mouths) > max(of["^"] @ of[other] for other in "(_.)") + 2
    numbers = text._numbers(raw)
    assert np.array_equal(
        signs(numbers, len(text.vocabulary) + 1, 8), signs(numbers, len(text.vocabulary) + 1, 8)
    )


# ---- grids ----------------------------------------------------------------------------------------


def test_a_grid_of_code_words_is_read_exactly() -> None:
    text, raw = fitted([*faces(200), "a b", "lone", "שלום", "x\ny"])
    assert np.array_equal(text.to_raw(text.to_x(raw)), raw)
    again = make_modality(text.to_json())
    assert np.array_equal(again.to_raw(again.to_x(raw)), raw)
    assert torch.equal(again.to_x(raw), text.to_x(raw))


def test_a_noisy_grid_is_read_better_with_the_pairs_than_without() -> None:
    text, raw = fitted(faces(300))
    alone = Text(text.width, text.length, text.vocabulary, usage=text.usage)
    x = text.to_x(raw)
    noisy = x + torch.randn(x.shape, generator=generator("noise")) * 1.6

    def right(modality: Text) -> float:
        return float((modality.to_raw(noisy) == raw).all(1).mean())

    assert right(text) > right(alone) + 0.01


def test_nothing_follows_the_end_and_no_text_is_empty() -> None:
    text, raw = fitted(faces(50))
    x = text.to_x(raw)
    assert text.texts(text.to_raw(torch.zeros_like(x))) != [""] * len(x)
    empty = text.to_x(np.zeros_like(raw))
    assert all(said.strip() for said in text.texts(text.to_raw(empty)))
    hole = x.clone()
    hole[:, :, 2] = empty[:, :, 2]  # the end, and symbols behind it
    assert all(
        len(said) <= len(full)
        for said, full in zip(text.texts(text.to_raw(hole)), text.texts(raw), strict=True)
    )


def test_what_is_read_decodes_to_itself_whatever_the_grid_is() -> None:
    text, _ = fitted([*faces(40), "e f", "a\u0323b", "क्षि x", "각나"])
    x = torch.randn(200, *text.shape, generator=generator("any"))
    made = text.to_raw(x)
    assert all(np.array_equal(text.decode(text.encode(one)), one) for one in made)


def test_pairs_are_probabilities_and_decide_where_a_grid_does_not() -> None:
    numbers = np.array([[1, 2, 0], [1, 2, 0], [3, 2, 0], [1, 1, 2]])
    after = transitions(count_pairs(numbers), 5)
    assert torch.allclose(after.exp().sum(1), torch.ones(5))
    assert after[1].argmax() == 2
    words = torch.from_numpy(code_words(5, 16).copy())
    x = words[torch.tensor([[1, 0, 0]])].transpose(1, 2).clone()
    x[:, :, 1] = (words[2] + words[4]) / 2  # both are as near; 4 was never seen
    assert likeliest(x, words, after, torch.tensor([0])).tolist() == [[1, 2, 0]]


def test_a_symbol_of_the_test_part_alone_is_unknown_and_stops_nothing() -> None:
    sources = [text.encode() for text in [*faces(30), "(^_^)ж"]]
    first = chosen(*sources)
    raw = np.stack([first.decode(source) for source in sources])
    made, choices = first.fit(raw, np.arange(30))
    assert "ж" not in made.vocabulary
    assert "1 more" in choices[0]["why"]
    assert made.to_x(raw[30:])[0, :, 5].abs().max() == 0
    assert made.texts(made.to_raw(made.to_x(raw[30:])))[0].startswith("(^_^)")


def test_augmentation_changes_few_symbols_and_no_length_by_much() -> None:
    text, raw = fitted(faces(200))
    moved = text.texts(text.to_raw(text.augment(text.to_x(raw), 1.0, generator("a"))))
    own = text.texts(raw)
    assert 0.1 < np.mean([a != b for a, b in zip(moved, own, strict=True)]) < 0.9
    assert max(abs(len(a) - len(b)) for a, b in zip(moved, own, strict=True)) <= 3
    assert np.mean([a[0] == b[0] for a, b in zip(moved, own, strict=True)]) > 0.8  # never turned round


def test_a_picture_of_texts_has_ink() -> None:
    text, raw = fitted(["abc", "def ghi jkl", WORDS])
    pictures = text.preview(raw)
    assert pictures.dtype == np.uint8
    assert (pictures.min((1, 2, 3)) < 100).all()
    assert not np.array_equal(pictures[0], pictures[1])


# ---- places ---------------------------------------------------------------------------------------


def folder_of(place: Path, texts: dict[str, list[str]]) -> Path:
    for name, own in texts.items():
        (place / name).mkdir(parents=True)
        for i, text in enumerate(own):
            (place / name / f"{i:03d}.txt").write_bytes((text + "\n").encode())
    return place


@pytest.fixture
def two(tmp_path: Path) -> Path:
    own = faces(80)
    return folder_of(tmp_path / "two", {"あ": own[:40], "い": own[40:]})


def said(data: Dataset) -> list[tuple[str, Any]]:
    return sorted(zip(data.modality.texts(data.raw), map(str, data.table["y"]), strict=True))  # type: ignore[attr-defined]


def test_class_folders_are_texts_and_files_that_are_none_are_listed(two: Path) -> None:
    (two / "あ" / "latin.txt").write_bytes(b"\xe9t\xe9")
    (two / "い" / "empty.txt").write_bytes(b"")
    with pytest.raises(BadInput, match="2 of 82 samples cannot be used"):
        sibling.read(two)
    data = sibling.read(two, on_bad="skip")
    assert data.modality.name == "text"
    assert len(data) == 80
    assert {entry["reason"][:10] for entry in data.found["bad"]} == {"is empty", "is not UTF"}


def test_a_picture_with_a_text_beside_it_is_a_picture(tmp_path: Path) -> None:
    from PIL import Image

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(12):
            pixels = np.random.default_rng(i).integers(0, 255, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
            (tmp_path / name / f"{i}.txt").write_text("a caption")
    assert sibling.read(tmp_path).modality.name == "image"
    assert sibling.read(tmp_path, modality="text").modality.name == "text"


def test_tables_and_lines_hold_the_same_as_class_folders(two: Path, tmp_path: Path) -> None:
    wanted = said(sibling.read(two))
    lines, table = tmp_path / "lines", tmp_path / "table"
    lines.mkdir()
    table.mkdir()
    for name in "あい":
        (lines / f"{name}.txt").write_text(
            "\n".join(text for text, y in wanted if y == name) + "\n\n", "utf-8"
        )
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"id": i, "text": text, "label": y}) + "\n" for i, (text, y) in enumerate(wanted)),
        "utf-8",
    )
    rows = "".join(f'"{text}";{y}\n' for text, y in wanted)
    (tmp_path / "b.csv").write_text("\ufeffreview_text;label\n" + rows, "utf-8")
    (table / "train.csv").write_text("text;label\n" + rows, "utf-8")
    for place in (lines, tmp_path / "a.jsonl", tmp_path / "b.csv", table):
        data = sibling.read(place)
        assert said(data) == wanted
        assert data.found["format"] == "texts"


def test_a_table_tells_its_parts_and_numbers_are_a_condition(tmp_path: Path) -> None:
    own = faces(60)
    for name, part in (("train", own[:40]), ("test", own[40:])):
        rows = "".join(f"{text},{i / 7}\n" for i, text in enumerate(part))
        (tmp_path / f"{name}.csv").write_text("sentence,score\n" + rows, "utf-8")
    data = sibling.read(tmp_path, label_column="score")
    assert data.condition.name == "value"
    assert len(data.rows("test")) == 20


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", "kind,label\nx,a\n", "no column of texts.*it has kind, label"),
        ("a.jsonl", '{"text": 5, "label": "a"}\n{"text": null, "label": "a"}\n', "which is no text"),
        ("a.csv", "text,label\nx\n", "1 fields, the header has 2"),
        ("a.jsonl", '{"text": "x", "label": "a"}\n{"text": \n', "line 2: not JSON"),
        ("a.jsonl", '{"text": "\\ud800", "label": "a"}\n', "can be used"),
        ("a.csv", "text,label\nx\0y,a\n", "NUL character"),
    ],
)
def test_a_table_that_is_none_is_refused_with_the_reason(
    name: str, content: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(BadInput, match=reason):
        sibling.read(tmp_path / name)


def test_long_texts_are_cut_and_near_duplicates_are_one_group(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join("".join(rng.choice(list("abcdefgh"), 6)) for _ in range(40)) for _ in range(30)]
    texts += [texts[0].upper(), texts[1].replace(" ", "  ", 3), texts[2][:-7] + " end"]
    data = sibling.read(folder_of(tmp_path / "long", {"a": texts}))
    assert data.shape[1] == 128
    assert data.found["near_duplicates"] == 2
    assert data.found["exact_duplicates"] == 1  # beyond the cut they differ
    assert any(choice["name"] == "longer texts" for choice in data.found["choices"])
    groups = data.table["group"]
    assert groups[0] == groups[30] != groups[3]


def test_short_texts_that_differ_in_one_symbol_are_no_duplicates(tmp_path: Path) -> None:
    data = sibling.read(
        folder_of(tmp_path / "short", {"a": ["(^_^)", "(^o^)", "(^-^)", "( ^_^)", "(\uff3e_^)"]})
    )
    assert data.found["near_duplicates"] == 1  # the wide one


def test_texts_in_an_array_file(tmp_path: Path) -> None:
    own = faces(40)
    np.savez(tmp_path / "a.npz", x=np.array(own), y=np.arange(40) % 2)
    data = sibling.read(tmp_path / "a.npz")
    assert data.modality.name == "text"
    assert sorted(text for text, _ in said(data)) == sorted(own)


# ---- scores ---------------------------------------------------------------------------------------


def test_scores_of_texts_have_their_closed_forms() -> None:
    assert distinct(["aab", "aab"], 1) == pytest.approx(2 / 6)
    assert distinct([], 2) == 0
    assert ngram_distance(real=["abc"], fake=["abc"]) == 0
    assert ngram_distance(real=["abc"], fake=["xyz"], n=1) == pytest.approx(
        (3 / 4) ** 0.5
    )  # the end is shared
    assert perplexity(held=["ab"] * 1000, texts=["ab"]) == pytest.approx(1, abs=0.01)
    assert perplexity(held=["ab"], texts=["ba"]) > perplexity(held=["ab"], texts=["ab"])


def test_scores_tell_copies_and_noise_from_fresh_texts() -> None:
    own = faces(400)
    train, test, fresh = own[:150], own[150:250], own[250:350]
    y = ["a", "b"] * 75
    rng = np.random.default_rng(0)
    noise = ["".join(rng.permutation(list(text))) for text in fresh]

    def scores(fake: list[str]) -> dict[str, Any]:
        made = wording_scores(
            train=train,
            test=test,
            fake=fake,
            train_y=y,
            test_y=y[:100],
            fake_y=y[:100],
            rng=np.random.default_rng(0),
        )
        return {score.name: score for score in made}

    good, bad, copied = scores(fresh), scores(noise), scores(train[:100])
    assert good["novelty"].value == 1
    assert copied["novelty"].value == 0
    assert copied["novelty"].floor == 1
    for name in ("ngram_distance", "perplexity"):
        assert good[name].value < bad[name].value
        assert good[name].low <= good[name].value <= good[name].high
        assert abs(good[name].value - good[name].floor) < abs(bad[name].value - bad[name].floor)
    assert (
        wording_scores(train=train, test=test, fake=["a"], train_y=y, test_y=y[:100], fake_y=["a"], rng=rng)
        == []
    )


def test_as_many_real_texts_as_made_ones_may_be_of_one_class() -> None:
    """200 of one class and one of another: 20 of them are of one class, which no recogniser can learn from."""
    own = faces(300)
    y = ["a"] * 199 + ["b"]
    made = wording_scores(
        train=own[:200], test=own[200:250], fake=own[250:270], train_y=y, test_y=["a"] * 25 + ["b"] * 25,
        fake_y=["a", "b"] * 10, rng=np.random.default_rng(0),
    )  # fmt: skip
    score = next(score for score in made if score.name == "linear_accuracy")
    assert np.isnan(score.floor)
    assert 0 <= score.low <= score.value <= score.high


def test_a_linear_recogniser_knows_words() -> None:
    texts = [f"{word} {i}" for i in range(30) for word in ("cat", "dog")]
    assert linear_accuracy(texts=texts, y=["c", "d"] * 30, test=["cat 99", "dog 99"], test_y=["c", "d"]) == 1
    assert linear_accuracy(texts=texts, y=["d", "c"] * 30, test=["cat 99", "dog 99"], test_y=["c", "d"]) == 0


# ---- the whole way --------------------------------------------------------------------------------


def test_the_whole_way(tmp_path: Path) -> None:
    own = faces(120)
    place = folder_of(tmp_path / "in", {"a": own[:60], "b": own[60:]})
    data = sibling.read(place, out=tmp_path / "store")
    small = {"width": 8, "latent": 4}
    run = sibling.fit(data, out=tmp_path / "run", steps=4, arguments=small, tensorboard=False)
    assert run.run["model"] == "vae"
    assert run.model.arguments()["texture"] == 0  # what suits texts, and what was asked for
    assert run.model.arguments()["latent"] == 4
    made = sibling.sample(run, want=20)
    assert all(text.strip() for text, _ in said(made))
    scores = sibling.evaluate(made, against=run, lift=False)
    assert {"novelty", "distinct_2", "ngram_distance", "perplexity", "linear_accuracy"} <= {
        score.name for score in scores.scores
    }
    page = sibling.report(tmp_path / "run").read_text("utf-8")
    text = next(text for text, _ in said(made) if "<" not in text and "&" not in text)
    assert f"<bdi>{text}</bdi>" in page
    for name in ("folder", "texts", "npz"):
        out = sibling.write(data, made, out=tmp_path / name, format=name, against=run)
        assert said(sibling.read(out)) == sorted(said(data) + said(made))
        assert sibling.verify(out) == []


def test_copies_of_training_texts_are_dropped_and_fresh_ones_stay(tmp_path: Path) -> None:
    rng = random.Random(0)
    own = ["".join(rng.choices("abcdefghijkl", k=rng.randint(10, 16))) for _ in range(360)]
    place = folder_of(tmp_path / "in", {"a": own[:180], "b": own[180:]})
    data = sibling.read(place)
    run = sibling.fit(data, out=tmp_path / "run", model="bootstrap", tensorboard=False)
    from sibling.filters.basis import Real
    from sibling.filters.copies import Copy

    real = Real(run, 0)
    train = data.rows("train", "real")[:60]
    copied = data.modality.to_x(np.asarray(data.raw[train]))
    near = copied.clone()
    near[:, :, 5] = 0  # one symbol is gone
    limit = float(Copy(real).limit or 0)
    ratios = {
        "same": _ratio(real, copied),
        "near": _ratio(real, near),
        "fresh": real.nearest.held_out("test").ratio,
    }
    shares = {name: float((ratio < limit).float().mean()) for name, ratio in ratios.items()}
    assert shares["same"] == 1
    assert shares["near"] > 0.3 > 0.1 > shares["fresh"]


def _ratio(real: Any, x: torch.Tensor) -> torch.Tensor:
    from sibling.metrics.memorisation import nearest

    return nearest(
        train=real.nearest.x, fake=x, groups=real.nearest.groups, train_features=real.nearest.features,
        fake_features=real.network(x),
    ).ratio  # fmt: skip


def test_the_command_line_names_what_it_found(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["read", str(two)]) == 0
    shown = capsys.readouterr()
    assert "symbols of the train part" not in shown.err
    assert "vocabulary" in shown.out + shown.err


# ---- the local prior ------------------------------------------------------------------------------


def test_a_local_prior_stays_where_the_codes_are_and_a_wide_one_does_not() -> None:
    rng = np.random.default_rng(0)
    pieces = rng.normal(size=(12, 6)) * 4  # separate things
    codes = pieces[np.arange(600) % 12] + rng.normal(size=(600, 6)) * 0.3
    classes = ["a" if i % 12 < 6 else "b" for i in range(600)]

    def strays(fitted: dict[str, np.ndarray]) -> float:
        """The share of drawn codes that are far from every piece."""
        k = rng.choice(fitted["weights"].shape[1], 400, p=fitted["weights"][0] / fitted["weights"][0].sum())
        noise = rng.normal(size=(400, 6, 1))
        drawn = fitted["means"][0, k] + (fitted["cholesky"][0, k] @ noise)[..., 0]
        return float((np.linalg.norm(drawn[:, None] - pieces[None, :6], axis=2).min(1) > 2.5).mean())

    local = fit_local(codes, classes, ["a", "b", "unseen"], components=40, rng=np.random.default_rng(1))
    assert local["weights"].shape == (3, 40)
    assert np.allclose(local["weights"].sum(1), 1)
    assert (local["weights"] > 0).sum(1).max() <= 40
    wide = fit_mixture(codes, classes, ["a", "b", "unseen"], components=1, rng=np.random.default_rng(1))
    assert strays(local) < 0.1 < strays(wide)
    again = fit_local(codes, classes, ["a", "b", "unseen"], components=40, rng=np.random.default_rng(1))
    assert all(np.array_equal(local[name], again[name]) for name in local)


@pytest.mark.parametrize("n", [1, 3, 20])
def test_a_local_prior_of_few_samples_is_finite(n: int) -> None:
    codes = np.random.default_rng(0).normal(size=(n, 4))
    fitted = fit_local(codes, ["a"] * n, ["a", "b"], components=5, rng=np.random.default_rng(0))
    assert all(np.isfinite(value).all() for value in fitted.values())
