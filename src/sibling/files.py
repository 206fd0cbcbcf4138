"""The only place that writes files: atomic, locked, hashed, with a fault hook for tests.

Three ways to write, and nothing else:

- `write_bytes` / `write_json`: one file. A temporary file in the same folder, flush, fsync,
  replace, fsync of the folder. Readers see the old file or the new one.
- `new_folder`: a folder that appears whole or not at all. It grows under a hidden name beside its
  place and is renamed when its manifest is written. Killed before that, it is swept next time.
- `append_jsonl`: rows of a log. Only whole lines count; a torn last line is ignored by `read_jsonl`.

Tests set SIBLING_FAULT="ENOSPC@7" or "kill@7": the 7th operation of the process then fails.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .errors import BadInput, ResourceError, UsageError

__all__ = [
    "CARDS",
    "MANIFEST",
    "append_jsonl",
    "check_manifest",
    "check_writable",
    "copy_file",
    "empty_own",
    "hash_bytes",
    "hash_file",
    "is_unfinished",
    "lock",
    "move",
    "new_array",
    "new_file",
    "new_folder",
    "new_tar",
    "open_array",
    "read_json",
    "read_jsonl",
    "refuse_edited",
    "refuse_foreign",
    "refuse_overlap",
    "refuse_used",
    "sweep",
    "temporary_folder",
    "to_line",
    "write_bytes",
    "write_json",
    "write_manifest",
]

MANIFEST = "MANIFEST.json"
CARDS = ("README.md", "croissant.json")  # of a data set; people fill them in: once changed they are theirs
_STAGING = ".sibling-partial-"
_RETIRED = "old-"
_LOCK = ".lock"
_operations = 0


def _fault(what: str) -> None:
    """Count one disk operation; fail here if the environment asks for it."""
    global _operations
    _operations += 1
    plan = os.environ.get("SIBLING_FAULT", "")
    if not plan:
        return
    kind, _, at = plan.partition("@")
    if _operations != int(at):
        return
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    code = getattr(errno, kind)
    raise OSError(code, os.strerror(code), what)


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Turn an OSError into one line that says which place and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            free = shutil.disk_usage(_existing_parent(path)).free / 1e6
            raise ResourceError(
                f"The disk is full: {path} could not be written ({free:.0f} MB free). "
                "Free some space or choose another place, then run the same command again."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise ResourceError(
                f"No permission to write {path} ({error.strerror}). Choose a place that you own."
            ) from error
        raise ResourceError(f"{path} could not be written: {error.strerror or error}.") from error


def _existing_parent(path: Path) -> Path:
    for place in (path, *path.absolute().parents):
        if place.is_dir():
            return place
    return Path("/")


def hash_bytes(data: bytes | memoryview) -> str:
    """sha256 as a hexadecimal string."""
    return hashlib.sha256(data).hexdigest()


def hash_file(path: Path) -> str:
    """sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write one file so that a reader sees the old content or the new, never a part.

    path     the file; its folder is made when missing
    data     the whole content
    durable  wait until it is on the disk; False inside a `new_folder`, which syncs once at its end
    Raises ResourceError.
    """
    with _named_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not tempfile: its 0600 mode would outlive the rename; open() follows the umask.
        partial = path.with_name(f"{_STAGING}{os.getpid()}-{path.name[-180:]}")
        try:
            with partial.open("wb") as file:
                _fault("write")
                file.write(data)
                if durable:
                    file.flush()
                    _fault("fsync")
                    os.fsync(file.fileno())
            _fault("replace")
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        if durable:
            _sync_folder(path.parent)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for what is on its way to another place; it goes at the end. Raises ResourceError."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="sibling-"))
    except OSError as error:
        raise ResourceError(
            f"No place for temporary files: {error.strerror or error}. Set TMPDIR."
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file that grows piece by piece inside a `new_folder`, whose manifest makes it whole.

    Raises ResourceError, for what goes wrong while it is written too.
    """
    with _named_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _fault("write")
        with path.open("xb") as file:
            yield file


@contextmanager
def new_tar(path: Path) -> Iterator[Callable[[str, bytes], None]]:
    """A tar archive inside a `new_folder`; yields what adds one file to it: (name, content).

    Time, user and group are 0: the same files give the same bytes.
    """
    with new_file(path) as file, tarfile.open(fileobj=file, mode="w") as archive:

        def add(name: str, data: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))

        yield add


def move(source: Path, target: Path) -> None:
    """Give a file another name inside a `new_folder`."""
    with _named_errors(target):
        _fault("replace")
        source.replace(target)


def _plain(value: Any) -> Any:
    """JSON has no NaN: a number that is not finite becomes null, numpy scalars become Python's."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Write a value as indented JSON, atomically."""
    text = json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode("utf-8", "surrogateescape"), durable=durable)


def to_line(row: Any) -> str:
    """One value as one line of JSON, without the line end."""
    return json.dumps(_plain(row), ensure_ascii=False, allow_nan=False)


def append_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Append rows to a log, each as one line of JSON."""
    text = "".join(to_line(row) + "\n" for row in rows)
    with _named_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _fault("append")
        with path.open("ab") as file:
            file.write(text.encode("utf-8", "surrogateescape"))


def read_jsonl(path: Path) -> list[Any]:
    """All whole rows of a JSON-lines file; a torn last line is left out."""
    if not path.exists():
        return []
    lines = path.read_text("utf-8", errors="surrogateescape").split("\n")
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number >= len(lines) - 1:
                break
            raise BadInput(f"{path}, line {number}: not JSON ({error}).") from error
    return rows


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises BadInput with the place of the fault."""
    try:
        return json.loads(path.read_text("utf-8", errors="surrogateescape"))
    except FileNotFoundError as error:
        raise BadInput(f"{path} is missing.") from error
    except ValueError as error:
        raise BadInput(f"{path} is not JSON ({error}).") from error


def new_array(path: Path, shape: Sequence[int], dtype: Any) -> np.ndarray:
    """A new memory-mapped .npy array on disk, filled with zeros; for use inside a `new_folder`."""
    with _named_errors(path):
        _fault("array")
        need = int(np.prod(shape)) * np.dtype(dtype).itemsize
        free = shutil.disk_usage(path.parent).free
        if need > free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        array: np.ndarray = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=tuple(shape))
        if hasattr(os, "posix_fallocate") and need:
            # Claim the space now: a sparse file on a disk that fills up ends in a bus error, not in a message.
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        return array


def open_array(path: Path) -> np.ndarray:
    """An array made by `new_array`, to be filled by several processes at once, each its own rows."""
    array: np.ndarray = np.load(path, mmap_mode="r+", allow_pickle=False)
    return array


def copy_file(source: Path, target: Path, *, how: str = "copy") -> None:
    """Bring a file into a `new_folder`.

    how  "copy" the bytes; "hard" link, falling back to a copy across devices; "sym" link
    """
    with _named_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _fault("copy")
        if how == "sym":
            target.symlink_to(source.resolve())
            return
        if how == "hard":
            try:
                os.link(source, target)
                return
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
                    raise
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            if error.filename != str(source):
                raise
            raise ResourceError(f"{source} could not be read: {error.strerror}.") from error


def _members(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if (p.is_file() or p.is_symlink()) and p != folder / MANIFEST)


def write_manifest(
    folder: Path, *, kind: str, extra: dict[str, Any] | None = None, only: Iterable[str] | None = None
) -> None:
    """List the files of a folder with sizes and sha256. Written last: it makes the folder complete.

    kind   what the folder is: "store", "run", "dataset", "evaluation"
    only   names to list; None = every file below the folder
    """
    paths = _members(folder) if only is None else [folder / name for name in only]
    listed = {}
    for path in paths:
        name = path.relative_to(folder).as_posix()
        listed[name] = {"bytes": path.stat().st_size, "sha256": hash_file(path)}
    write_json(folder / MANIFEST, {"kind": kind, **(extra or {}), "files": listed})


def check_manifest(folder: Path, *, hashes: bool = True) -> tuple[dict[str, Any], list[str]]:
    """Compare a folder with its manifest: (the manifest, what is wrong in plain sentences).

    hashes  re-read every byte; False compares sizes only
    The cards of a data set are there for people to fill in: they have to be there, and may hold anything.
    Raises BadInput when there is no manifest.
    """
    if not (folder / MANIFEST).exists():
        raise BadInput(f"{folder} has no {MANIFEST}: it is not finished, or not made by Sibling.")
    manifest = read_json(folder / MANIFEST)
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict):
        raise BadInput(f"{folder / MANIFEST} lists no files: it is damaged.")
    wrong = []
    root = folder.resolve()
    for name, entry in files.items():
        path = folder / name
        if not isinstance(entry, dict) or not path.parent.resolve().is_relative_to(root):
            wrong.append(f"{name}: a manifest entry that cannot be right")
        elif not path.is_file():
            wrong.append(f"{name}: missing")
        elif name in CARDS:
            continue
        elif path.stat().st_size != entry.get("bytes"):
            wrong.append(f"{name}: {path.stat().st_size} bytes, the manifest says {entry.get('bytes')}")
        elif hashes and hash_file(path) != entry.get("sha256"):
            wrong.append(f"{name}: its content has changed (sha256 differs)")
    return manifest, wrong


def sweep(parent: Path) -> None:
    """Remove what killed processes left half-written in a folder; living processes keep theirs."""
    if not parent.is_dir():
        return
    for path in parent.glob(f"{_STAGING}*"):
        owner, _, name = path.name.removeprefix(_STAGING).partition("-")
        if not owner.isdigit() or _alive(int(owner)):
            continue
        before = parent / name.removeprefix(_RETIRED)
        if name.startswith(_RETIRED) and len(before.name) < 180 and not before.exists():
            path.rename(before)  # killed between the two renames of an overwrite: the old one comes back
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


# What stages add to a finished folder of theirs: known to be ours although no manifest lists it.
_ADDED = {"run": ("report.html", "curation.json", "tensorboard/events.out.tfevents", "previews/step-")}


def _refuse_foreign(folder: Path) -> None:
    """Raises UsageError if a finished folder of ours holds files that are not ours."""
    manifest, _ = check_manifest(folder, hashes=False)
    refuse_edited(folder, manifest, lambda name: _hash_of(folder / name))
    known = set(manifest["files"])
    for inner in folder.glob(f"*/{MANIFEST}"):
        listed = read_json(inner)
        if isinstance(listed, dict) and listed.get("kind") in ("store", "evaluation"):
            known |= {f"{inner.parent.name}/{name}" for name in (MANIFEST, *listed.get("files", {}))}
    added = (_STAGING, _LOCK, *_ADDED.get(str(manifest.get("kind")), ()))
    unlisted = {path.relative_to(folder).as_posix() for path in _members(folder)} - known
    refuse_foreign(folder, [name for name in unlisted if not name.startswith(added)])


def refuse_edited(place: Path | str, manifest: dict[str, Any], now: Callable[[str], str | None]) -> None:
    """Raises UsageError where somebody has changed a card of a data set of ours: then it is not replaced.

    now  the sha256 of a file by its name; None where it is gone
    """
    listed = manifest.get("files")
    for name in CARDS:
        entry = listed.get(name) if isinstance(listed, dict) else None
        if isinstance(entry, dict) and now(name) not in (None, entry.get("sha256")):
            raise UsageError(
                f"{place}: {name} was changed since Sibling wrote it, and is not replaced. Move it away or choose another "
                "place; nothing was changed."
            )


def refuse_foreign(place: Path | str, foreign: Iterable[str]) -> None:
    """Raises UsageError where there are any: `foreign` are the names of the files there that are not ours."""
    foreign = sorted(foreign)
    if foreign:
        raise UsageError(
            f"{place} holds {len(foreign)} files that Sibling did not write (the first: {foreign[0]}). "
            "Move them away or choose another place; nothing was changed."
        )


def _hash_of(path: Path) -> str | None:
    return hash_file(path) if path.is_file() else None


def is_unfinished(folder: Path) -> bool:
    """Whether a folder was begun by `lock` and has no manifest yet."""
    return (folder / _LOCK).is_file() and not (folder / MANIFEST).exists()


def empty_own(folder: Path, known: Iterable[str]) -> None:
    """Empty a locked folder of ours, finished or not. Raises UsageError if it holds files that are not ours.

    known  names at the top of an unfinished folder that are ours
    """
    names = {path.name for path in folder.iterdir()} - {_LOCK}
    if (folder / MANIFEST).exists():
        _refuse_foreign(folder)
    else:
        refuse_foreign(folder, {name for name in names if not name.startswith(_STAGING)} - set(known))
    # The manifest goes first: what is left after a kill in here is unfinished, not finished and wrong.
    for name in sorted(names, key=lambda name: name != MANIFEST):
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def refuse_used(out: Path, *, overwrite: bool) -> None:
    """Refuse a place that is taken or not ours to write, before any work is done. Raises UsageError, ResourceError."""
    check_writable(out.absolute().parent)
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir():
        raise UsageError(f"{out} is a file; the output is a folder. Choose another name.")
    if not any(path for path in out.iterdir() if not path.name.startswith(_STAGING)):
        return
    if not (out / MANIFEST).exists():
        raise UsageError(
            f"{out} is not empty and was not made by Sibling: nothing is written onto foreign files. "
            "Choose a new or an empty folder."
        )
    if not overwrite:
        raise UsageError(
            f"{out} already holds a finished result. Choose another place, or replace it with --overwrite "
            "(overwrite=True)."
        )
    manifest = read_json(out / MANIFEST)
    if isinstance(manifest, dict):
        refuse_edited(out, manifest, lambda name: _hash_of(out / name))


def refuse_overlap(out: Path, *inputs: Path | None) -> None:
    """Refuse an output inside an input, or the other way round, through links and `..` too.

    Synthetic samples written into the input would be taken for real ones by the next run.
    """
    target = out.resolve()
    for given in inputs:
        if given is None:
            continue
        source = given.resolve()
        if target == source or target.is_relative_to(source) or source.is_relative_to(target):
            raise UsageError(
                f"The output {out} and the input {given} lie in each other: synthetic samples would become "
                "real ones in the next run. Choose an output beside the input."
            )


def check_writable(out: Path) -> None:
    """Find out before the work whether a folder can be made at `out`. Raises ResourceError."""
    parent = _existing_parent(out.absolute())
    with _named_errors(out):
        probe = parent / f"{_STAGING}{os.getpid()}-probe"
        probe.mkdir()
        probe.rmdir()


@contextmanager
def new_folder(
    out: Path, *, kind: str, overwrite: bool = False, extra: dict[str, Any] | None = None
) -> Iterator[Path]:
    """A folder that appears whole or not at all: `with new_folder(out, kind="store") as folder: ...`

    Yields a hidden folder on the same disk. At the end its manifest is written and it is renamed to
    `out`; on any error it is removed and `out` is as before.
    """
    refuse_used(out, overwrite=overwrite)
    if (out / MANIFEST).exists() and (there := read_json(out / MANIFEST).get("kind")) != kind:
        raise UsageError(
            f"{out} holds another kind of result ({there}, not {kind}) and is not replaced. Choose another place."
        )
    out = out.absolute()
    with _named_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        sweep(out.parent)
        staging = out.parent / f"{_STAGING}{os.getpid()}-{out.name[-180:]}"
        retired = out.parent / f"{_STAGING}{os.getpid()}-{_RETIRED}{out.name[-180:]}"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        try:
            yield staging
            write_manifest(staging, kind=kind, extra=extra)
            _fault("rename")
            if (out / MANIFEST).exists():
                _refuse_foreign(out)
                out.rename(retired)
            elif out.is_dir():
                sweep(out)
                out.rmdir()
            _fault("swap")
            staging.rename(out)
            _sync_folder(out.parent)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            if retired.exists() and not out.exists():
                retired.rename(out)
            raise
        shutil.rmtree(retired, ignore_errors=True)


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; the lock dies with the process. Raises UsageError if held."""
    with _named_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / _LOCK).open("a+")
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise UsageError(f"{folder} is in use by {file.read().strip() or 'another process'}.") from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
    finally:
        file.close()
