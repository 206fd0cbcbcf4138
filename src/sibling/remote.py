"""Data sets behind URLs (s3://, gs://, ...): brought to this machine to be read, and written there whole or not at all.

Nothing here is asked unless the user names a URL. Object stores cannot rename a folder: an upload begins with
a mark, the manifest comes last, then the mark goes. What has the mark is not read. What is deleted there is what
the manifest of a finished data set names, or the mark of an upload that was stopped; other files make an upload refuse.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from .errors import BadInput, ResourceError, SiblingError, UnsafeFile, UsageError
from .files import MANIFEST, hash_bytes, new_file, refuse_edited, refuse_foreign, to_line

__all__ = ["PROTOCOLS", "fetch", "is_url", "local_or_url", "name_of", "refuse_taken", "upload"]

PROTOCOLS = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "memory": "fsspec"}
_MARK = ".sibling-uploading"


def is_url(place: Any) -> bool:
    """Whether this is the URL of another machine; file:// is none."""
    text = place if isinstance(place, str) else ""
    return bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text)) and not text.startswith("file://")


def local_or_url(place: Any) -> Any:
    """file:///a/b as the Path that it is; anything else as it came."""
    if isinstance(place, str) and place.startswith("file://"):
        return Path(unquote(urlsplit(place).path))
    return place


def _opened(url: str) -> tuple[Any, str]:
    """(file system, path in it). Raises UsageError for an unknown protocol or a missing package."""
    protocol = url.partition("://")[0]
    if protocol not in PROTOCOLS or "::" in url:
        raise UsageError(
            f"{url} is of no known kind; known: {', '.join(f'{p}://' for p in PROTOCOLS)}, file://."
        )
    try:
        import fsspec

        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        package = PROTOCOLS[protocol]
        raise UsageError(f"{protocol}:// needs the package {package}: pip install {package}") from error
    system.invalidate_cache()  # others write there, too: a list of an hour ago says nothing
    return system, str(path).rstrip("/")


@contextmanager
def _named_errors(url: str, what: str) -> Iterator[None]:
    """Whatever a client raises, as one line."""
    try:
        yield
    except (SiblingError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ResourceError(
            f"{url} could not be {what}: {reason}. Check the name and your access."
        ) from error


def _names(system: Any, path: str) -> list[str]:
    """The names of all files below a path, relative to it. Raises UnsafeFile for one that leaves it."""
    found = sorted(str(name) for name in system.find(path))
    names = [name.removeprefix(path).lstrip("/") for name in found]
    for name in names:
        if ".." in name.replace("\\", "/").split("/") or "\0" in name or not name:
            raise UnsafeFile(
                f"A file there is called {name[:200]!r}, which leaves its folder; nothing was read."
            )
    return names


def name_of(url: str) -> str:
    """The last part of a URL as the name of a folder."""
    name = urlsplit(url).path.rstrip("/").rpartition("/")[2] or urlsplit(url).netloc
    return name if name not in ("", ".", "..") else "set"


def fetch(url: str, folder: Path) -> Path:
    """Bring the file or the folder at `url` into `folder`, which is new; returns where it lies.

    Raises BadInput, UnsafeFile, UsageError, ResourceError.
    """
    system, path = _opened(url)
    with _named_errors(url, "read"):
        target = folder / (path.rpartition("/")[2] or "data")
        if system.isfile(path):
            _copy(system, path, target)
            return target
        names = _names(system, path)
        if not names:
            raise BadInput(f"There is nothing at {url}. Give a folder of samples, or a file.")
        if _MARK in names:
            raise BadInput(
                f"{url} is not finished: an upload is under way there, or was stopped. Write it again."
            )
        for name in names:
            _copy(system, f"{path}/{name}", target / name)
    return target


def _copy(system: Any, source: str, target: Path) -> None:
    with system.open(source, "rb") as there, new_file(target) as here:
        shutil.copyfileobj(there, here, 2**20)


def refuse_taken(url: str, *, overwrite: bool) -> None:
    """Refuse a place that is taken or not ours to write, before any work. Raises UsageError, ResourceError."""
    system, path = _opened(url)
    with _named_errors(url, "read"):
        _ours(system, path, url, overwrite=overwrite)


def _ours(system: Any, path: str, url: str, *, overwrite: bool) -> list[str]:
    """The names of the files below a path, all of which are ours and may be replaced, without the mark.

    Raises UsageError where one of them is not, and where a finished result is not to be replaced.
    """
    if system.isfile(path):
        raise UsageError(f"{url} is a file; the output is a folder. Choose another name.")
    names = _names(system, path) if system.exists(path) else []
    if not names:
        return []
    if not {MANIFEST, _MARK} & {*names}:
        raise UsageError(f"{url} is not empty and was not made by Sibling. Choose a new place.")
    if MANIFEST in names and not overwrite:
        raise UsageError(
            f"{url} already holds a finished result. Choose another place, or replace it with --overwrite "
            "(overwrite=True)."
        )
    listed = {MANIFEST, _MARK}
    if _MARK in names:  # an upload was stopped: its mark lists what it replaces, too
        listed |= {*_json(system, f"{path}/{_MARK}").get("files", ())}
    if MANIFEST in names:
        manifest = _json(system, f"{path}/{MANIFEST}")
        if (kind := manifest.get("kind", "dataset")) != "dataset":
            raise UsageError(
                f"{url} holds another kind of result ({kind}, not dataset) and is not replaced. Choose another place."
            )
        listed |= {*manifest.get("files", ())}
        refuse_edited(
            url,
            manifest,
            lambda name: hash_bytes(system.cat_file(f"{path}/{name}")) if name in names else None,
        )
    refuse_foreign(url, {*names} - listed)
    return [name for name in names if name != _MARK]


def _json(system: Any, path: str) -> dict[str, Any]:
    """The object in a JSON file; empty where it is damaged: then it lists nothing, and nothing counts as ours."""
    try:
        value = json.loads(system.cat_file(path))
    except (ValueError, RecursionError):
        return {}
    files = value.get("files") if isinstance(value, dict) else None
    return value if isinstance(files, dict | list) and all(isinstance(name, str) for name in files) else {}


def upload(folder: Path, url: str, *, overwrite: bool) -> None:
    """Write a finished folder of ours to `url`: a mark, the files, the manifest; then the mark goes.

    The mark lists the files that come and those that go. No other file is ever deleted. Raises UsageError, ResourceError.
    """
    system, path = _opened(url)
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    names.sort(key=lambda name: name == MANIFEST)  # last
    with _named_errors(url, "written"):
        before = _ours(system, path, url, overwrite=overwrite)
        mark = {"kind": "upload", "files": sorted({*before, *names})}
        system.pipe_file(f"{path}/{_MARK}", f"{to_line(mark)}\n".encode("utf-8", "surrogateescape"))
        for name in sorted(before, key=lambda name: name != MANIFEST):  # there, the manifest first
            system.rm_file(f"{path}/{name}")
        for name in names:
            system.put_file(str(folder / name), f"{path}/{name}")
        system.rm_file(f"{path}/{_MARK}")
