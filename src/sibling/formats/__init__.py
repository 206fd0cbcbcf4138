"""How samples lie on disk. One file a format; one line here for each.

A format keeps the Protocol `sibling.types.Format`. It yields Records whose source is a file, bytes or
an array, and never decodes one. The first format whose `matches` says yes reads the place.
"""

from __future__ import annotations

__all__ = ["FORMATS"]

FORMATS = {
    "idx": "sibling.formats.idx:Idx",
    "npz": "sibling.formats.npz:Npz",
    "webdataset": "sibling.formats.webdataset:WebDataset",
    "parquet": "sibling.formats.parquet:Parquet",
    "texts": "sibling.formats.texts:Texts",  # before the lists: it leaves tables that name files to them
    "csv": "sibling.formats.csv:Csv",
    "jsonl": "sibling.formats.jsonl:Jsonl",
    "folder": "sibling.formats.folder:Folder",  # last: it takes any folder
}
