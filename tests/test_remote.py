"""Data sets behind URLs, on fsspec's file system in memory: the same data as on the disk, and nothing half-written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import badzoo
import fsspec
import numpy as np
import pytest

import sibling
from sibling import remote
from sibling.cli import main
from sibling.errors import BadInput, ResourceError, UnsafeFile, UsageError


@pytest.fixture
def memory() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    yield system
    if system.exists("/bucket"):
        system.rm("/bucket", recursive=True)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return badzoo.classes(tmp_path_factory.mktemp("photos") / "photos", each=12)


def test_there_and_back(memory: Any, photos: Path, tmp_path: Path) -> None:
    memory.put(str(photos), "/bucket/photos", recursive=True)
    data, here = sibling.read("memory://bucket/photos"), sibling.read(photos)
    assert np.array_equal(data.raw, here.raw)
    assert data.table["y"] == here.table["y"]
    for format_name in ("folder", "parquet", "webdataset"):
        url = f"memory://bucket/{format_name}"
        assert sibling.write(data, out=url, format=format_name) == url
        assert memory.exists(f"/bucket/{format_name}/MANIFEST.json")
        again = sibling.read(url)
        assert sorted(raw.tobytes() for raw in again.raw) == sorted(raw.tobytes() for raw in data.raw)
        assert again.found["format"] == format_name
    sibling.convert("memory://bucket/parquet", tmp_path / "again")
    assert sibling.verify(tmp_path / "again") == []
    sibling.convert(photos, "memory://bucket/x.tar")
    assert memory.exists("/bucket/x.tar/train-000000.tar")
    assert len(sibling.read("memory://bucket/x.tar/train-000000.tar")) == 24  # a file alone


def test_from_the_command_line_and_file_urls(memory: Any, photos: Path, tmp_path: Path) -> None:
    assert main(["convert", photos.as_uri(), "memory://bucket/a.parquet"]) == 0
    assert main(["read", "memory://bucket/a.parquet"]) == 0
    assert main(["write", photos.as_uri(), "--out", (tmp_path / "with space").as_uri()]) == 0
    assert sibling.verify(tmp_path / "with space") == []


def test_an_upload_that_stops_is_no_result(
    memory: Any, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, calls = type(memory).put_file, []

    def stopping(self: Any, *arguments: Any, **more: Any) -> None:
        calls.append(arguments)
        if len(calls) == 5:
            raise OSError("connection lost")
        put(self, *arguments, **more)

    monkeypatch.setattr(type(memory), "put_file", stopping)
    with pytest.raises(ResourceError, match="could not be written: connection lost"):
        sibling.convert(photos, "memory://bucket/set")
    assert len(memory.find("/bucket/set")) == 5
    assert not memory.exists("/bucket/set/MANIFEST.json")
    with pytest.raises(BadInput, match="is not finished"):
        sibling.read("memory://bucket/set")
    sibling.convert(photos, "memory://bucket/set")  # again, onto what was left
    assert len(sibling.read("memory://bucket/set")) == 24
    with pytest.raises(UsageError, match="--overwrite"):
        sibling.convert(photos, "memory://bucket/set")
    names = memory.find("/bucket/set")
    sibling.convert(photos, "memory://bucket/set", format="npz", overwrite=True)
    assert len(memory.find("/bucket/set")) == 3 + 2 < len(names)  # and the two cards


def stop_at(number: int, method: str, system: Any, patch: pytest.MonkeyPatch) -> None:
    """The connection breaks at this call of a method, once."""
    real, calls = getattr(type(system), method), []

    def stopping(self: Any, *arguments: Any, **more: Any) -> Any:
        calls.append(arguments)
        if len(calls) == number:
            raise OSError("connection lost")
        return real(self, *arguments, **more)

    patch.setattr(type(system), method, stopping)


def content(memory: Any, place: str) -> dict[str, bytes]:
    return {name: memory.cat_file(name) for name in memory.find(place)}


def test_files_of_others_are_never_deleted(memory: Any, photos: Path) -> None:
    sibling.convert(photos, "memory://bucket/set")
    for name in ("mine.txt", "cat/mine.png", "more/deep/mine"):
        memory.pipe_file(f"/bucket/set/{name}", b"mine")
        before = content(memory, "/bucket/set")
        with pytest.raises(UsageError, match=rf"did not write \(the first: {name}\)"):
            sibling.convert(photos, "memory://bucket/set", format="npz", overwrite=True)
        assert content(memory, "/bucket/set") == before
        assert len(sibling.read("memory://bucket/set", on_bad="skip")) >= 24  # still finished
        memory.rm_file(f"/bucket/set/{name}")
    sibling.convert(photos, "memory://bucket/set", format="npz", overwrite=True)  # the control
    assert not memory.find("/bucket/set/cat")


@pytest.mark.parametrize(
    ("first", "method", "at"),
    [
        ("new", "put_file", 5),
        ("new", "rm_file", 1),  # all is there, and the mark too
        ("replaced", "put_file", 5),
        ("replaced", "rm_file", 1),  # the old manifest is there, and the mark
        ("replaced", "rm_file", 3),
    ],
)
def test_after_a_stop_only_what_the_mark_lists_is_deleted(
    first: str, method: str, at: int, memory: Any, photos: Path
) -> None:
    url, place = "memory://bucket/set", "/bucket/set"
    if first == "replaced":
        sibling.convert(photos, url)
    with pytest.MonkeyPatch.context() as patch:
        stop_at(at, method, memory, patch)
        with pytest.raises(ResourceError, match="connection lost"):
            sibling.convert(photos, url, format="csv", overwrite=True)
    with pytest.raises(BadInput, match="is not finished"):
        sibling.read(url)
    memory.pipe_file(f"{place}/cat/mine.png", b"mine")
    before = content(memory, place)
    whole = memory.exists(f"{place}/MANIFEST.json")  # then nothing goes without --overwrite
    assert whole == (at == 1)
    for overwrite in (False, True):
        why = "--overwrite" if whole and not overwrite else r"the first: cat/mine\.png"
        with pytest.raises(UsageError, match=why):
            sibling.convert(photos, url, format="npz", overwrite=overwrite)
        assert content(memory, place) == before
    memory.rm_file(f"{place}/cat/mine.png")
    sibling.convert(photos, url, format="npz", overwrite=whole)
    names = [name.removeprefix(f"{place}/") for name in memory.find(place)]
    assert {"MANIFEST.json", "data.npz", "metadata.jsonl"} <= {*names}
    assert not [name for name in names if name.endswith((".png", ".csv")) or name.startswith(".")]


@pytest.mark.parametrize(
    "mark", [b"Sibling writes here.\n", b"{}", b"[1]", b'{"files": [1]}', b'{"files": 3}', b"\xff"]
)
def test_a_mark_that_lists_nothing_makes_nothing_ours(mark: bytes, memory: Any, photos: Path) -> None:
    memory.pipe_file("/bucket/set/.sibling-uploading", mark)
    memory.pipe_file("/bucket/set/mine.txt", b"mine")
    with pytest.raises(UsageError, match=r"did not write \(the first: mine\.txt\)"):
        sibling.convert(photos, "memory://bucket/set", overwrite=True)
    assert memory.cat_file("/bucket/set/mine.txt") == b"mine"
    memory.rm_file("/bucket/set/mine.txt")
    sibling.convert(photos, "memory://bucket/set")  # the control: a mark alone


def test_other_kinds_of_results_and_files_are_not_replaced(memory: Any, photos: Path) -> None:
    memory.pipe_file("/bucket/run/MANIFEST.json", b'{"kind": "run", "files": {"a": {}}}')
    memory.pipe_file("/bucket/run/a", b"a")
    with pytest.raises(UsageError, match=r"another kind of result \(run, not dataset"):
        sibling.convert(photos, "memory://bucket/run", overwrite=True)
    with pytest.raises(UsageError, match="is a file"):
        sibling.convert(photos, "memory://bucket/run/a", overwrite=True)
    for damaged in (b"", b"{", b'{"kind": "dataset", "files": 1}'):
        memory.pipe_file("/bucket/run/MANIFEST.json", damaged)
        with pytest.raises(UsageError, match=r"did not write \(the first: a\)"):
            sibling.convert(photos, "memory://bucket/run", overwrite=True)
    assert memory.cat_file("/bucket/run/a") == b"a"


def test_what_is_refused(memory: Any, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="nothing at memory://bucket/none"):
        sibling.read("memory://bucket/none")
    for url in ("http://host/x", "ftp://host/x", "simplecache::s3://b/x", "memory://a::memory://b"):
        with pytest.raises((UsageError, BadInput), match=r"no known kind|nothing at"):
            sibling.read(url)
    memory.pipe_file("/bucket/foreign/mine.txt", b"mine")
    with pytest.raises(UsageError, match="not made by Sibling"):
        sibling.convert(photos, "memory://bucket/foreign", overwrite=True)
    monkeypatch.setattr(type(memory), "find", lambda self, path, **_: [f"{path}/../../x.png"])
    with pytest.raises(UnsafeFile, match="leaves its folder"):
        sibling.read("memory://bucket/foreign")


def test_places_and_urls() -> None:
    assert not any(remote.is_url(place) for place in ("a/b", "C:\\x", "file:///a", Path("s3://b"), None))
    assert remote.is_url("s3://bucket/x")
    assert remote.local_or_url("file:///a%20b") == Path("/a b")


# ---- a real server --------------------------------------------------------------------------------


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 server on loopback, with an empty bucket."""
    pytest.importorskip("s3fs", reason="the extra s3 is not installed")
    server = pytest.importorskip("moto.server", reason="moto is not installed")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    system = fsspec.filesystem("s3", skip_instance_cache=True)
    system.mkdir("bucket")
    yield "s3://bucket"
    running.stop()


@pytest.mark.filterwarnings("ignore")
def test_s3(bucket: str, photos: Path, tmp_path: Path) -> None:
    sibling.convert(photos, f"{bucket}/photos")
    sibling.convert(f"{bucket}/photos", f"{bucket}/photos.parquet")
    assert main(["convert", f"{bucket}/photos.parquet", str(tmp_path / "again")]) == 0
    for path in photos.rglob("*.png"):
        assert (tmp_path / "again" / path.relative_to(photos)).read_bytes() == path.read_bytes()
    assert len(sibling.read(f"{bucket}/photos.parquet")) == 24
    with pytest.raises(UsageError, match="--overwrite"):
        sibling.convert(photos, f"{bucket}/photos")
    another = fsspec.filesystem("s3", skip_instance_cache=True)  # ours has listed the place before
    another.pipe_file("bucket/photos/mine.txt", b"mine")
    with pytest.raises(UsageError, match=r"the first: mine\.txt"):
        sibling.convert(photos, f"{bucket}/photos", format="npz", overwrite=True)
    another.rm_file("bucket/photos/mine.txt")
    sibling.convert(photos, f"{bucket}/photos", format="npz", overwrite=True)
    another.invalidate_cache()
    assert "bucket/photos/data.npz" in another.find("bucket/photos")
    assert not another.find("bucket/photos/cat")
    with pytest.raises(BadInput, match="nothing at"):
        sibling.read(f"{bucket}/nowhere")
    with pytest.raises((ResourceError, BadInput)):
        sibling.read("s3://another-bucket/x")
