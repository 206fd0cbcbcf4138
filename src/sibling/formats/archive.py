"""Tar archives, read as a stream: regular members only, none extracted, nothing believed that a header claims.

What tarfile does by itself with a damaged or hostile archive is not enough: it takes a broken header for
the end, follows sparse maps to any size, and (before Python 3.11.14) a negative size into an endless loop.
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from ..errors import BadInput, UnsafeFile

__all__ = ["MOST_BYTES", "members"]

MOST_BYTES = 16 * 2**30  # of all members that are read
_MOST_MEMBER = 2**30
_MOST_NAME = 2**20  # of a header that holds a long name
_MOST_RATIO = 1040  # deflate packs at most 1032 to 1
_LONG = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class _Header(tarfile.TarInfo):
    """A header that is looked at before tarfile acts on it."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> _Header:
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined] # the end mark
            raise
        except tarfile.HeaderError as error:
            reason = "it is cut off" if not buf else f"it is damaged ({error})"
            raise BadInput(f"it is no whole tar archive: {reason}") from error
        if header.size < 0 or (header.type in _LONG and header.size > _MOST_NAME):
            raise BadInput(f"it claims a header of {header.size:,} bytes")
        if header.type == tarfile.GNUTYPE_SPARSE:
            raise BadInput(f"{header.name[:100]!r} is a sparse file, whose size can be anything")
        return header


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Bounded:
    """A stream of which only so many bytes are read."""

    def __init__(self, file: _Readable, most: int) -> None:
        self._file = file
        self._left = most

    def read(self, size: int) -> bytes:
        """Some of the next bytes. Raises BadInput beyond the bound."""
        data = self._file.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise BadInput("it unpacks to more than is believed")
        return data


def members(path: Path, wanted: Callable[[str], int]) -> Iterator[tuple[str, bytes | None]]:
    """(name, content) of each regular member in order; no content where it is not wanted.

    wanted  name -> the most bytes that such a member may have; 0 = it is not read
    Raises BadInput for a broken or too large archive, UnsafeFile for a link, a device or a name that leaves
    the archive.
    """
    packed = path.name.lower().endswith((".gz", ".tgz"))
    most = min(MOST_BYTES, path.stat().st_size * (_MOST_RATIO if packed else 1))
    try:
        with (
            gzip.open(path, "rb") if packed else path.open("rb") as file,
            tarfile.open(fileobj=_Bounded(file, most), mode="r|", tarinfo=_Header) as archive,  # type: ignore[call-overload]
        ):
            for member in archive:
                archive.members = []  # else all headers stay in memory
                if member.isdir():
                    continue
                _refuse(member)
                limit = min(wanted(member.name), _MOST_MEMBER)
                yield member.name, _content(archive, member, limit) if limit else None
    except BadInput as error:
        raise BadInput(f"{path.name}: {error}.") from error
    except UnsafeFile as error:
        raise UnsafeFile(f"{path.name}: {error}.") from error
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise BadInput(f"{path.name} could not be read: {reason}.") from error


def _refuse(member: tarfile.TarInfo) -> None:
    name = member.name[:100]
    if not member.isreg():
        kind = "a link" if member.issym() or member.islnk() else "no regular file"
        raise UnsafeFile(
            f"{name!r} is {kind}; nothing was read from there. Make the archive from files alone"
        )
    if member.issparse():
        raise BadInput(f"{name!r} is a sparse file, whose size can be anything")
    parts = member.name.replace("\\", "/").split("/")
    if member.name.startswith(("/", "\\")) or ".." in parts or "\0" in member.name:
        raise UnsafeFile(f"{name!r} leaves the archive; nothing was read from there")


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, limit: int) -> bytes:
    if member.size > limit:
        raise BadInput(f"{member.name[:100]!r} has {member.size:,} bytes; at most {limit:,} are read")
    file = archive.extractfile(member)
    data = file.read() if file is not None else b""
    if len(data) != member.size:
        raise BadInput(f"{member.name[:100]!r} is cut off")
    return data
