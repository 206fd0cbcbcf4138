"""Places that must stop the command line with one line and the exit code of `sibling.errors`."""

from __future__ import annotations

import csv
import gzip
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from badzoo import archive_of, classes, good_png, idx, npz, put


def labelled(root: Path, rows: list[tuple[str, str]], kind: str = "csv") -> Path:
    """Six good pictures with a label file that has these rows besides."""
    for i in range(6):
        put(root / f"{i}.png", good_png(i))
    everything = [(f"{i}.png", "ab"[i % 2]) for i in range(6)] + rows
    if kind == "csv":
        with (root / "metadata.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("file_name", "label"), *everything])
    else:
        lines = [json.dumps({"file_name": name, "label": label}) for name, label in everything]
        (root / "metadata.jsonl").write_text("\n".join(lines))
    return root


def _npy(shape: tuple[int, ...], data: bytes, descr: str = "|u1") -> bytes:
    head = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data


class Canary:
    """Unpickling this would leave a trace."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("/tmp/sibling-canary",)


ESCAPES = (  # 74
    "../canary.png",
    "a/../../canary.png",
    "/etc/passwd",
    "//host/share/x.png",
    "\\\\host\\share\\x.png",
    "C:\\x.png",
    "C:x.png",
    "c:/x.png",
    "..\\canary.png",
    "a\\..\\..\\canary.png",
    "file:///etc/passwd",
    "FILE:/etc/passwd",
    "http://host/x.png",
    "s3://bucket/x.png",
    "link-out.png",
    "folder-out/canary.png",
)


def escaping(root: Path, file_name: str, kind: str = "csv") -> Path:
    """A label file that names a file outside; a canary picture lies there, and links lead to it."""
    place = root / "set"
    canary = put(root / "canary.png", good_png(99))
    labelled(place, [(file_name, "a")], kind)
    (place / "a").mkdir()
    (place / "link-out.png").symlink_to(canary)
    (place / "folder-out").symlink_to(root)
    return place


def _csv(root: Path, data: bytes) -> Path:
    labelled(root, [])
    put(root / "metadata.csv", data)
    return root


def _jsonl(root: Path, data: bytes) -> Path:
    labelled(root, [])
    (root / "metadata.csv").unlink()
    put(root / "metadata.jsonl", data)
    return root


def _loop(root: Path) -> Path:
    labelled(root, [("loop.png", "a")])
    (root / "loop.png").symlink_to("loop.png")
    return root


def _with(root: Path, name: str, data: bytes) -> Path:
    classes(root)
    put(root / name, data)
    return root


def _only(root: Path, name: str, data: bytes) -> Path:
    put(root / name, data)
    return root


def _out_of_range(root: Path) -> Path:
    x, y = np.zeros((3, 9, 9), np.uint8), np.array([0, 1, 7])
    return npz(root / "x.npz", x=x, y=y, class_names=np.array(["a", "b"]))


def _made(root: Path) -> Path:
    root.mkdir(parents=True)
    return root


_X = np.zeros((3, 9, 9), np.uint8)
_HUGE = struct.pack(">HBBIII", 0, 8, 3, 2**31, 1000, 1000)

# name -> (how the place is made, exit code, what the line must say)
BAD_PLACES: dict[str, tuple[Callable[[Path], Path], int, str]] = {
    "nothing there": (lambda root: root, 3, "There is nothing at"),
    "empty folder": (_made, 3, "no samples.*right folder"),  # 65
    "notes only": (lambda root: _only(root, "notes.md", b"hello"), 3, "no samples.*notes.md"),
    "one bad": (
        lambda root: _with(root, "cat/text.png", b"text"),
        3,
        "1 of 13 .*text.png: is not a picture.*--on-bad",
    ),
    "all bad": (lambda root: _only(root, "cat/a.png", b"text"), 3, "None of the 1 samples"),
    "stray": (lambda root: _with(root, "logo.png", good_png(77)), 3, "logo.png: is not in a class folder"),
    "folder.png": (lambda root: _made(root / "x.png").parent, 3, "no samples"),  # 62
    "an archive": (
        lambda root: _only(root, "x.zip", archive_of({"a.png": good_png()})) / "x.zip",
        3,
        "no known format",
    ),
    "extra row": (
        lambda root: labelled(root, [("9.png", "a")]),
        3,
        "9.png: is named.*not on the disk.*--on-bad",
    ),  # 73
    "missing row": (lambda root: _only(labelled(root, []), "9.png", good_png(9)), 3, "9.png: has no row"),
    "no label": (lambda root: labelled(root, [("5.png", "b"), ("4.png", "")]), 3, "two labels"),
    "two labels": (
        lambda root: labelled(root, [("0.png", "b")]),
        3,
        "row 7: 0.png has two labels, 'a' and 'b'",
    ),
    "long name": (lambda root: labelled(root, [("x" * 5000 + ".png", "a")]), 3, "not on the disk"),
    "loop of links": (_loop, 3, "loop.png: is named"),
    "no name": (lambda root: labelled(root, [("", "a")]), 3, "row 7: file_name is ''"),
    "utf-16": (lambda root: _csv(root, "file_name,label\n0.png,a\n".encode("utf-16")), 3, "UTF-16"),  # 72
    "latin-1": (
        lambda root: _csv(root, "file_name,label\n0.png,\xe9\n".encode("latin-1")),
        3,
        "line 2: not UTF-8",
    ),
    "nul": (lambda root: _csv(root, b"file_name,label\n0.png,\0\n"), 3, "NUL"),
    "huge field": (
        lambda root: _csv(root, b"file_name,label\n0.png," + b"x" * 10**6),
        3,
        "line 2: field larger",
    ),
    "header only": (lambda root: _csv(root, b"file_name,label\n"), 3, "no rows"),
    "empty csv": (lambda root: _csv(root, b""), 3, "no rows"),
    "twice a column": (lambda root: _csv(root, b"file_name,label,label\n0.png,a,b\n"), 3, "appears twice"),
    "ragged": (lambda root: _csv(root, b"file_name,label\n0.png,a,b\n"), 3, "line 2: 3 fields"),
    "open quote": (lambda root: _csv(root, b'file_name,label\n0.png,"a\n'), 3, "line 2"),
    "other columns": (
        lambda root: _csv(root, b"image,text\n0.png,a\n"),
        3,
        "no column file_name.*image, text",
    ),
    "which column": (lambda root: _csv(root, b"file_name,age,sex\n0.png,1,m\n"), 3, "--label-column"),
    "unknown split": (
        lambda root: _csv(root, b"file_name,label,split\n0.png,a,holdout\n"),
        3,
        "split is 'holdout'",
    ),
    "torn json": (lambda root: _jsonl(root, b'{"file_name": "0.png", "la'), 3, "line 1: not JSON"),
    "deep json": (lambda root: _jsonl(root, b"[" * 100_000), 3, "line 1: not JSON"),
    "json list": (lambda root: _jsonl(root, b"[1]"), 3, "line 1: a row is an object"),
    "list label": (lambda root: _jsonl(root, b'{"file_name": "0.png", "label": ["a"]}'), 3, "label is"),
    "lone surrogate": (
        lambda root: _jsonl(root, b'{"file_name": "\\ud800.png", "label": 1}'),
        3,
        "no file name can",
    ),
    "number as name": (lambda root: _jsonl(root, b'{"file_name": 7, "label": 1}'), 3, "file_name is '7'"),
    "bad parquet": (
        lambda root: _only(classes(root), "metadata.parquet", b"PAR1nonsense"),
        3,
        "not a Parquet file",
    ),
    "two label files": (
        lambda root: _only(labelled(root, []), "metadata.jsonl", b"{}"),
        3,
        "several label files",
    ),
    "nul in name": (
        lambda root: _jsonl(root, b'{"file_name": "a\\u0000.png", "label": 1}'),
        6,
        "leaves the data folder",
    ),
    "idx lie": (lambda root: _only(root, "train-images-idx3-ubyte", _HUGE), 3, "claims"),
    "idx bomb": (lambda root: _only(root, "train-images-idx3-ubyte.gz", gzip.compress(_HUGE)), 3, "claims"),
    "idx torn": (
        lambda root: _only(root, "train-images-idx3-ubyte.gz", gzip.compress(b"\0" * 999)[:-9]),
        3,
        "idx3",
    ),
    "idx no gzip": (
        lambda root: _only(root, "train-images-idx3-ubyte.gz", b"hello there"),
        3,
        "could not be read",
    ),
    "idx short": (lambda root: _only(root, "train-images-idx3-ubyte", _HUGE[:7]), 3, "could not be read"),
    "idx axes": (
        lambda root: _only(root, "train-images-idx3-ubyte", b"\0\0\x08\xc8" + b"\0" * 800),
        3,
        "200 axes",
    ),
    "idx labels": (lambda root: idx(root, _X, np.zeros(2, np.uint8)), 3, "has 3 images"),
    "npz text": (lambda root: _only(root, "x.npz", b"hello"), 3, "x.npz could not be read"),
    "npz objects": (
        lambda root: npz(root / "x.npz", x=_X, y=np.array([Canary()] * 3)),
        6,
        "Python objects",
    ),  # 84
    "npz no x": (lambda root: npz(root / "x.npz", features=_X), 3, "holds features"),
    "npz lie": (
        lambda root: _only(root, "x.npz", archive_of({"x.npy": _npy((10**9, 9, 9), b"")})),
        3,
        "claims the shape",
    ),
    "npz no array": (
        lambda root: _only(root, "x.npz", archive_of({"x.npy": b"hello hello hello"})),
        3,
        "could not be read",
    ),
    "npz pickle": (
        lambda root: _only(root, "x.npz", archive_of({"x.npy": pickle.dumps([1])})),
        3,
        "could not be read",
    ),
    "npz header code": (
        lambda root: _only(root, "x.npz", archive_of({"x.npy": _npy((3, 9, 9), b"", "__import__('os')")})),
        3,
        "could not be read",
    ),
    "npz one axis": (lambda root: npz(root / "x.npz", x=np.zeros(81)), 3, "it must be numbers"),
    "npz rows": (lambda root: npz(root / "x.npz", x=_X, y=np.zeros(2)), 3, "x has 3 rows"),
    "npz class": (_out_of_range, 3, r"y\[2\] is 7"),
    "npz nan": (lambda root: npz(root / "x.npz", x=np.full((3, 9, 9), np.nan)), 3, "not finite"),
    "npz negative": (lambda root: npz(root / "x.npz", x=np.full((3, 9, 9), -1.0)), 3, "negative"),
    "npz no pixels": (lambda root: npz(root / "x.npz", x=np.zeros((3, 0, 9))), 3, "9 x 0 pixels"),
}
