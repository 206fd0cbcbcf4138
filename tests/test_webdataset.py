"""Tar shards: what others wrote is read, what we write others load, and hostile archives are refused."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import badzoo
import pytest

import sibling
from sibling.dataset import Dataset
from sibling.errors import BadInput, SiblingError, UnsafeFile
from sibling.formats.webdataset import WebDataset
from sibling.modalities.image import Image
from sibling.types import Record


def tar(path: Path, files: list[tuple[str, bytes]], *changed: tuple[str, dict[str, Any]]) -> Path:
    """An archive as another tool writes it. changed: (name, attributes) of headers without content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for name, attributes in changed:
            member = tarfile.TarInfo(name)
            for key, value in attributes.items():
                setattr(member, key, value)
            archive.addfile(member)
    return path


def samples(n: int = 4, kind: str = "png", start: int = 0) -> list[tuple[str, bytes]]:
    return [
        pair
        for i in range(start, start + n)
        for pair in ((f"{i:03d}.{kind}", badzoo.good_png(i)), (f"{i:03d}.cls", str(i % 2).encode()))
    ]


def found(place: Path, *asked: Any) -> tuple[list[Record], list[str]]:
    reader = WebDataset(*asked)
    assert reader.matches(place)
    return list(reader.read(place, Image.suffixes)), reader.notes


# ---- what others wrote --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["train-000000.tar", "train-000000.tar.gz", "train.tgz"])
def test_one_shard(name: str, tmp_path: Path) -> None:
    records, notes = found(tar(tmp_path / name, samples()))
    assert [(r.key, r.y, r.split) for r in records[:2]] == [
        (f"{name.partition('.')[0]}/000", "0", "train"),
        (f"{name.partition('.')[0]}/001", "1", "train"),
    ]
    assert records[3].source == badzoo.good_png(3)
    assert notes == []


def test_shards_of_a_folder_keep_their_part(tmp_path: Path) -> None:
    for part, start in (("train-000000", 0), ("train-000001", 4), ("test/0000", 8)):
        tar(tmp_path / f"{part}.tar", samples(start=start))
    badzoo.put(tmp_path / "README.md", b"hello")
    records, _ = found(tmp_path)
    assert Counter(r.split for r in records) == {"train": 8, "test": 4}
    assert len({r.key for r in records}) == 12


def test_labels_in_json_go_before_numbers(tmp_path: Path) -> None:
    files = []
    for i in range(4):
        row = json.dumps({"label": ["cat", "dög"][i % 2], "age": i, "split": "test"}).encode()
        files += [(f"a/{i}.jpg", badzoo.good_png(i)), (f"a/{i}.cls", b"7"), (f"a/{i}.json", row)]
    records, _ = found(tar(tmp_path / "x.tar", files))
    assert [(r.y, r.split, r.info) for r in records[:2]] == [
        ("cat", "test", {"age": 0}),
        ("dög", "test", {"age": 1}),
    ]
    records, _ = found(tmp_path / "x.tar", "age:value")
    assert [r.y for r in records] == [{"age": float(i)} for i in range(4)]


def test_captions_are_no_classes_but_few_texts_are(tmp_path: Path) -> None:
    def files(texts: list[str]) -> list[tuple[str, bytes]]:
        pairs = [((f"{i}.png", badzoo.good_png(i)), (f"{i}.txt", t.encode())) for i, t in enumerate(texts)]
        return [one for pair in pairs for one in pair]

    records, _ = found(tar(tmp_path / "a.tar", files([f"a picture of thing {i}" for i in range(6)])))
    assert [(r.y, r.info) for r in records[:1]] == [(None, {"txt": "a picture of thing 0"})]
    records, _ = found(tar(tmp_path / "b.tar", files(["cat", "dog"] * 3)))
    assert [r.y for r in records] == ["cat", "dog"] * 3


def test_a_second_picture_is_a_map(tmp_path: Path) -> None:
    files = [
        one
        for i in range(3)
        for one in ((f"{i}.png", badzoo.good_png(i)), (f"{i}.lung_mask.png", badzoo.good_png(50 + i)))
    ]
    records, _ = found(tar(tmp_path / "x.tar", files), "lung_mask")
    assert [r.y for r in records] == [{"lung_mask": badzoo.good_png(50 + i)} for i in range(3)]


def test_pickles_and_others_are_never_opened_and_named(tmp_path: Path) -> None:
    class Canary:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "canary",)

    files = samples(2)
    files[2:2] = [("000.pyd", pickle.dumps(Canary())), ("000.pth", pickle.dumps(Canary())), ("000.npy", b"x")]
    records, notes = found(
        tar(tmp_path / "x.tar", [*files, ("__MACOSX/._000.png", b"x"), ("._001.png", b"x")])
    )
    assert [r.y for r in records] == ["0", "1"]
    assert "1 .pyd" in notes[0]
    assert "1 .pth" in notes[0]
    assert not (tmp_path / "canary").exists()


# ---- what is broken or hostile ------------------------------------------------------------------


def _patched(path: Path, change: Callable[[bytearray], None]) -> Path:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    return path


def _resized(path: Path, field: bytes, kind: bytes = b"0") -> Path:
    """The size in the second header says something else; its checksum is right."""

    def change(data: bytearray) -> None:
        data[1024 + 124 : 1024 + 136] = field
        data[1024 + 156 : 1024 + 157] = kind
        header = data[1024:1536]
        header[148:156] = b" " * 8
        data[1024 + 148 : 1024 + 156] = b"%06o\0 " % sum(header)

    return _patched(_pair(path), change)


def _link(path: Path, **attributes: Any) -> Path:
    return tar(path, samples(1), ("001.png", attributes))


def _pair(path: Path) -> Path:
    """Headers at 0 and 1024, content at 512 and 1536, the end mark behind it."""
    return tar(path, [("000.cls", b"0"), ("000.png", badzoo.good_png())])


def _cut(path: Path, left: int) -> Path:
    return _patched(_pair(path), lambda data: data.__delitem__(slice(left, None)))


_END = 1536 + -(-len(badzoo.good_png()) // 512) * 512
HOSTILE: dict[str, tuple[Callable[[Path], Path], type[SiblingError], str]] = {
    "empty": (lambda p: badzoo.put(p, b""), BadInput, "cut off"),
    "text": (lambda p: badzoo.put(p, b"hello" * 300), BadInput, "damaged"),
    "zip": (lambda p: badzoo.put(p, badzoo.archive_of({"a.png": badzoo.good_png()}) * 3), BadInput, "damaged"),
    "no end": (lambda p: _cut(p, _END), BadInput, "cut off"),
    "cut in a file": (lambda p: _cut(p, 1600), BadInput, "could not be read"),
    "cut in a header": (lambda p: _cut(p, 1100), BadInput, "damaged"),
    "broken header": (lambda p: _patched(_pair(p), lambda d: d.__setitem__(1024, 7)), BadInput, "damaged"),
    "negative size": (lambda p: _resized(p, b"\xff" * 12), BadInput, "claims a header of -"),
    "huge size": (lambda p: _resized(p, b"77777777777\0"), BadInput, "at most"),
    "huge name": (lambda p: _resized(p, b"77777777777\0", b"L"), BadInput, "claims a header of"),
    "huge pax": (lambda p: _resized(p, b"77777777777\0", b"x"), BadInput, "claims a header of"),
    "sparse": (lambda p: _resized(p, b"00000000000\0", b"S"), BadInput, "sparse"),
    "symbolic link": (lambda p: _link(p, type=tarfile.SYMTYPE, linkname="/etc/passwd"), UnsafeFile, "is a link"),
    "hard link": (lambda p: _link(p, type=tarfile.LNKTYPE, linkname="000.png"), UnsafeFile, "is a link"),
    "pipe": (lambda p: _link(p, type=tarfile.FIFOTYPE), UnsafeFile, "no regular file"),
    "device": (lambda p: _link(p, type=tarfile.CHRTYPE), UnsafeFile, "no regular file"),
    "outside": (lambda p: tar(p, [("../000.png", b"x")]), UnsafeFile, "leaves the archive"),
    "absolute": (lambda p: tar(p, [("/tmp/000.png", b"x")]), UnsafeFile, "leaves the archive"),
    "backslashes": (lambda p: tar(p, [("a\\..\\000.png", b"x")]), UnsafeFile, "leaves the archive"),
    "twice": (lambda p: tar(p, [*samples(1), ("000.png", b"x")]), BadInput, r"two 000\.png"),
    "apart": (lambda p: tar(p, [*samples(2), ("000.json", b"{}")]), BadInput, "do not stand together"),
    "cls no utf-8": (lambda p: tar(p, [("0.png", b"x"), ("0.cls", b"\xff\xfe")]), BadInput, "0.cls: not UTF-8"),
    "json torn": (lambda p: tar(p, [("0.png", b"x"), ("0.json", b'{"a')]), BadInput, "0.json: not JSON"),
    "json deep": (lambda p: tar(p, [("0.png", b"x"), ("0.json", b"[" * 10**5)]), BadInput, "0.json: not JSON"),
    "json list": (lambda p: tar(p, [("0.png", b"x"), ("0.json", b"[1]")]), BadInput, "0.json: it is no object"),
    "json large": (lambda p: tar(p, [("0.png", b"x"), ("0.json", b" " * 2**21)]), BadInput, "at most"),
    "no part": (lambda p: tar(p, [("0.png", b"x"), ("0.json", b'{"split": "holdout"}')]), BadInput, "holdout"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_are_refused_with_a_reason(name: str, tmp_path: Path) -> None:
    make, kind, reason = HOSTILE[name]
    place = make(tmp_path / "x.tar")
    with pytest.raises(kind, match=reason):
        found(place)


def test_the_control_of_the_changed_headers(tmp_path: Path) -> None:
    size = len(badzoo.good_png())
    records, _ = found(_resized(tmp_path / "x.tar", b"%011o\0" % size))
    assert [r.source for r in records] == [badzoo.good_png()]


def test_what_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tar(tmp_path / "x.tar.gz", [("0.cls", b"0"), ("0.png", b"\0" * 10**7)])
    assert place.stat().st_size < 20_000
    assert len(found(place)[0]) == 1  # the control
    monkeypatch.setattr("sibling.formats.archive.MOST_BYTES", 10**6)
    with pytest.raises(BadInput, match=r"believed|at most"):
        found(place)
    cut = gzip.compress(_pair(tmp_path / "z.tar").read_bytes()[:_END])[:-30]
    with pytest.raises(BadInput, match=r"cut off|could not be read"):
        found(badzoo.put(tmp_path / "y.tar.gz", cut))


def test_keys_without_a_sample_are_listed(tmp_path: Path) -> None:
    files = [
        *samples(5),
        ("9.cls", b"1"),
        ("8.png", badzoo.good_png(8)),
        ("8.jpg", badzoo.good_png(9)),
        ("8.cls", b"0"),
    ]
    records, _ = found(tar(tmp_path / "x.tar", files))
    assert [r.info["bad"].partition(" (")[0] for r in records[5:]] == ["has no sample", "has 2 samples"]
    with pytest.raises(BadInput, match=r"has no sample .*x\.tar, 9"):
        sibling.read(tmp_path / "x.tar")
    assert len(sibling.read(tmp_path / "x.tar", on_bad="skip")) == 5


# ---- what we write ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sibling.write(data, out=tmp_path_factory.mktemp("webdataset") / "set", format="webdataset")


def test_shards_hold_the_files_as_they_were(written: Path, data: Dataset, digits: Path) -> None:
    shards = {"test-000000.tar", "train-000000.tar", "validation-000000.tar"}
    assert {path.name for path in written.iterdir()} >= shards
    records, notes = found(written)
    assert len(records) == len(data)
    assert notes == []
    for record in records:
        assert record.source == (digits / record.key).read_bytes()
    assert sibling.verify(written) == []


def test_shards_are_of_bounded_size(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sibling.formats.webdataset._SHARD_BYTES", 10_000)
    out = sibling.write(data, out=tmp_path / "set", format="webdataset")
    sizes = []
    for path in sorted(out.glob("*.tar")):
        with tarfile.open(path) as archive:
            sizes.append(sum(member.size for member in archive))
    assert len(sizes) > 5
    assert max(sizes) <= 10_000
    assert Counter(r.split for r in found(out)[0]) == Counter(data.table["split"])


def test_the_same_samples_give_the_same_bytes(written: Path, data: Dataset, tmp_path: Path) -> None:
    again = sibling.write(data, out=tmp_path / "set", format="webdataset")
    assert (again / "MANIFEST.json").read_bytes() == (written / "MANIFEST.json").read_bytes()


def test_datasets_loads_it(written: Path, data: Dataset, tmp_path: Path) -> None:
    """The outside judge: the reader in Hugging Face `datasets`, offline, in a process of its own."""
    code = """
import collections, json, sys, warnings
warnings.simplefilter("ignore")
import datasets
found = datasets.load_dataset("webdataset", data_files={"train": sys.argv[1] + "/train-*.tar"}, cache_dir=sys.argv[2])
rows = found["train"]
print(json.dumps([len(rows), collections.Counter(one["label"] for one in rows["json"]),
    sorted(set(rows["cls"])), rows[0]["png"].size]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, written, tmp_path], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    count, labels, numbers, size = json.loads(done.stdout.splitlines()[-1])
    assert count == len(data.rows("train"))
    assert labels == Counter(data.y(data.rows("train")))
    assert (numbers, size) == ([*range(10)], [8, 8])
