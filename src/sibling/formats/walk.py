"""All files below a folder, and what of it was left alone."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..errors import BadInput

__all__ = ["Walk", "text_of"]

_SYSTEM = re.compile(r"^(\.|__MACOSX$|Thumbs\.db$|desktop\.ini$|Icon\r$)", re.IGNORECASE)


class Walk:
    """All regular files below a folder; each folder is visited once, whatever the links say."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._real = os.path.realpath(root)
        self._found: list[str] = []
        self._system = self._links = self._again = 0
        self._special: list[str] = []

    def names(self, notes: list[str]) -> list[str]:
        """Their names, posix style, sorted; says in `notes` what was left alone. Raises BadInput."""
        visited: set[tuple[int, int]] = set()
        stack = [("", str(self.root))]
        while stack:
            prefix, folder = stack.pop()
            try:
                status = os.stat(folder)
                with os.scandir(folder) as entries:
                    inside = list(entries)
            except OSError as error:
                if not prefix:
                    raise BadInput(f"The folder {folder} could not be opened: {error.strerror}.") from error
                notes.append(f"The folder {text_of(prefix)} could not be opened: {error.strerror}.")
                continue
            if (status.st_dev, status.st_ino) in visited:
                self._again += 1
                continue
            visited.add((status.st_dev, status.st_ino))
            for entry in inside:
                if self._is_folder(entry, prefix + entry.name):
                    stack.append((f"{prefix}{entry.name}/", entry.path))
        self._say(notes)
        return sorted(self._found)

    def _is_folder(self, entry: os.DirEntry[str], name: str) -> bool:
        """Sort an entry; True for a folder to go into."""
        if _SYSTEM.match(entry.name):
            self._system += 1
            return False
        try:  # both follow links; a loop raises, a dangling link is neither
            is_folder, is_file = entry.is_dir(), entry.is_file()
            if (is_folder or is_file) and entry.is_symlink():
                self._links += not Path(os.path.realpath(entry.path)).is_relative_to(self._real)
        except OSError:
            is_folder = is_file = False
        if is_file:
            self._found.append(name)
        elif not is_folder:
            self._special.append(name)
        return is_folder

    def _say(self, notes: list[str]) -> None:
        if self._system:
            notes.append(f"{self._system} hidden or system files were left alone.")
        if self._special:
            shown = ", ".join(text_of(name) for name in sorted(self._special)[:3])
            notes.append(f"{len(self._special)} entries are no files (dangling links, pipes, ...): {shown}.")
        if self._links:
            notes.append(f"{self._links} links lead out of the folder; they were followed.")
        if self._again:
            notes.append(f"{self._again} folders are links to folders that were read already: left alone.")


def text_of(name: str) -> str:
    """A file name as text that can be written anywhere: bytes that are no UTF-8 become \\udcff."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
