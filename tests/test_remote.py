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
    assert len(memory.find("/bucket/set")) == 3 < len(names)


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
    with pytest.raises(BadInput, match="nothing at"):
        sibling.read(f"{bucket}/nowhere")
    with pytest.raises((ResourceError, BadInput)):
        sibling.read("s3://another-bucket/x")
