"""croissant.json beside a data set: what its files and columns are, as JSON-LD that search engines and loaders read.

Source of the vocabulary: MLCommons Croissant 1.0, https://docs.mlcommons.org/croissant/docs/croissant-spec.html.
It is written from what lies in the folder; the same folder gives the same bytes, so that it holds no date.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from .files import CARDS, hash_file

__all__ = ["croissant_json"]

_CR = "http://mlcommons.org/croissant/"
_CONTEXT = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "cr": _CR, "rai": _CR + "RAI/",
    "data": {"@id": "cr:data", "@type": "@json"}, "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/", "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract", "field": "cr:field",
    "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject", "fileSet": "cr:fileSet", "format": "cr:format",
    "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath", "key": "cr:key",
    "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path", "recordSet": "cr:recordSet",
    "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated", "replace": "cr:replace",
    "samplingRate": "cr:samplingRate", "sc": "https://schema.org/", "separator": "cr:separator",
    "source": "cr:source", "subField": "cr:subField", "transform": "cr:transform",
}  # fmt: skip
_LISTS = ("texts.jsonl", "metadata.jsonl", "samples.jsonl", "samples.csv")
_KINDS = {
    ".jsonl": "application/jsonlines", ".csv": "text/csv", ".parquet": "application/x-parquet", ".tar": "application/x-tar",
    ".json": "application/json", ".gz": "application/gzip", ".npz": "application/zip", ".png": "image/png",
    ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif", ".bmp": "image/bmp",
    ".tif": "image/tiff", ".tiff": "image/tiff", ".wav": "audio/wav", ".flac": "audio/flac", ".ogg": "audio/ogg",
    ".mp3": "audio/mpeg", ".mp4": "video/mp4", ".txt": "text/plain",
}  # fmt: skip
_CONTENT = {"image": "sc:ImageObject", "audio": "sc:AudioObject", "video": "sc:VideoObject"}
_TOLD = {
    "origin": "real, or synthetic: made by a generative model",
    "split": "train, val or test; none for samples that were left out of all of them",
    "file_name": "where the sample lies, relative to this folder",
    "key": "what the sample was called in the data set that it comes from",
}


def croissant_json(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    *,
    name: str,
    description: str,
    keywords: Sequence[str],
    modality: str,
    columns: Mapping[str, str],
) -> dict[str, Any]:
    """What croissant.json says about the files that lie in a folder.

    rows         what is known of each sample, as `Format.write` returned it
    name         of the data set
    description  of it, in plain words
    keywords     for search engines
    modality     "image", "audio", ...: what one sample is
    columns      column -> kind of the parts of y
    """
    samples = {str(row["file_name"]) for row in rows if "file_name" in row}
    maps = {str(cell) for row in rows for column, cell in row.items() if column.endswith("_file_name")}
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    whole = [one for one in names if one not in samples and one not in maps and one not in CARDS]
    files: list[dict[str, Any]] = [_file(folder, one) for one in whole]
    files += [_set("sample-files", _globs(samples))] if samples else []
    files += [_set("map-files", _globs(maps))] if maps else []
    tables = [one for one in whole if one.endswith(".parquet")]
    files += [_set("parquet-files", _globs(tables))] if tables else []
    known = {column for row in rows for column in row}
    # A * goes through folders: among samples without a folder of their own it would find the maps too.
    single = bool(samples) and not (maps and any("/" not in one for one in samples))
    fields = _fields(whole, bool(tables), single, known, modality, columns)
    described = {
        "@context": _CONTEXT, "@type": "sc:Dataset", "name": name, "description": description,
        "conformsTo": _CR + "1.0", "keywords": [*keywords], "isLiveDataset": False,
        "distribution": files,
    }  # fmt: skip
    if fields:
        described["recordSet"] = [
            {
                "@type": "cr:RecordSet", "@id": "samples", "name": "samples",
                "description": "One record a sample, real and synthetic ones.", "field": fields,
            }
        ]  # fmt: skip
    return described


def _file(folder: Path, name: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject", "@id": quote(name), "name": name, "contentUrl": name,
        "encodingFormat": _kind(name), "sha256": hash_file(folder / name),
    }  # fmt: skip


def _set(name: str, globs: Sequence[str]) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet", "@id": name, "name": name, "encodingFormat": sorted({_kind(glob) for glob in globs}),
        "includes": [*globs],
    }  # fmt: skip


def _globs(names: Iterable[str]) -> list[str]:
    """Patterns for files, by their folders and endings."""
    paths = {PurePosixPath(name) for name in names}
    return sorted({(path.parent / f"*{path.suffix}").as_posix() for path in paths})


def _kind(name: str) -> str:
    return _KINDS.get(PurePosixPath(name).suffix.lower(), "application/octet-stream")


def _fields(
    whole: Sequence[str],
    tables: bool,
    single: bool,
    known: set[str],
    modality: str,
    columns: Mapping[str, str],
) -> list[dict[str, Any]]:
    """The columns of the table that tells of each sample; none where no table does.

    tables  there are Parquet files
    single  each sample is a file, and one pattern finds all of them and nothing else
    """
    listed = next((one for one in _LISTS if one in whole), None)
    told = [column for column, kind in columns.items() if kind != "map" and column in known]
    told += [column for column in ("origin", "split") if column in known]
    if listed is not None:
        told = ["file_name", *told] if "file_name" in known else told
        told += [column for column in sorted(known) if column.endswith("_file_name")]
        fields = [_field(c, columns, _column(listed, c)) for c in told]
        if listed == "texts.jsonl":
            fields.append(_sample("text", columns, _column(listed, "text")))
        if single:
            of_files = {"fileSet": {"@id": "sample-files"}}
            # The files are joined to the list, not the list to the files: mlcroissant takes the paths of local files for
            # text only where they are transformed, and it transforms one side alone.
            full = {"extract": {"fileProperty": "fullpath"}, "transform": {"regex": "(.*)"}}
            fields[0] |= {"source": {**of_files, **full}, "references": _column(listed, "file_name")}
            fields.append(_sample(modality, columns, {**of_files, "extract": {"fileProperty": "content"}}))
        return fields
    if tables:
        of_tables = {"fileSet": {"@id": "parquet-files"}}
        numbers = {"label": "number", "labels": "numbers"}
        numbered = {column: numbers.get(kind, kind) for column, kind in columns.items()}
        fields = [_field(c, numbered, {**of_tables, "extract": {"column": c}}) for c in told]
        if modality in _CONTENT:
            sample = _sample(modality, columns, of_tables)
            sample["source"] |= {"extract": {"column": sample["name"]}, "transform": {"jsonPath": "bytes"}}
            fields.append(sample)
        return fields
    return []


def _column(listed: str, column: str) -> dict[str, Any]:
    return {"fileObject": {"@id": quote(listed)}, "extract": {"column": column}}


def _field(column: str, columns: Mapping[str, str], source: dict[str, Any]) -> dict[str, Any]:
    kind = columns.get(column, "")
    described: dict[str, Any] = {
        "@type": "cr:Field", "@id": f"samples/{quote(column, safe='')}", "name": column,
        "description": _TOLD.get(column) or _meaning(column, kind),
        "dataType": {"value": "sc:Float", "number": "sc:Integer", "numbers": "sc:Integer"}.get(kind, "sc:Text"),
        "source": source,
    }  # fmt: skip
    if kind in ("labels", "numbers"):
        described["repeated"] = True
    return described


def _meaning(column: str, kind: str) -> str:
    told = {
        "label": "the class", "number": "the number of the class; its name stands in the schema of the Parquet files",
        "numbers": "the numbers of the classes; their names stand in the schema of the Parquet files",
        "labels": "the classes", "value": "a number",
    }  # fmt: skip
    return told.get(kind, "the file of a map" if column.endswith("_file_name") else column)


def _sample(modality: str, columns: Mapping[str, str], source: dict[str, Any]) -> dict[str, Any]:
    """The content of the samples, under the name that the column of a Parquet file has."""
    name = modality
    while name in columns:
        name = f"sample_{name}"
    return {
        "@type": "cr:Field", "@id": f"samples/{quote(name, safe='')}", "name": name, "description": "the sample itself",
        "dataType": _CONTENT.get(modality, "sc:Text"), "source": dict(source),
    }  # fmt: skip
