"""README.md and croissant.json beside a data set: what is real in it, what is synthetic, and what was measured.

README.md is a dataset card as Hugging Face has it: YAML, then words for people. Source of the YAML:
https://github.com/huggingface/hub-docs/blob/main/datasetcard.md. It names no license: Sibling cannot know what the real
samples allow, and a value that nobody has chosen would be taken for one.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import __version__
from .croissant import croissant_json
from .files import CARDS, write_bytes, write_json
from .formats.features import KEY
from .formats.shards import REST, WRITTEN

__all__ = ["About", "write_cards"]

_MOST_CLASSES = 50  # that the table of the card shows
_SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
)
_LOADED = ("image", "audio", "video")  # modalities that `datasets` loads from folders
_CLASSIFIED = (*_LOADED, "text")  # modalities whose classification is a task of the hub


@dataclass(frozen=True)
class About:
    """What a card says and the files do not.

    name      of the data set
    modality  "image", "audio", ...: what one sample is
    format    the format that it was written in
    columns   column -> kind of the parts of y
    snapshot  sha256 of the weights that made the synthetic samples; None = only each sample says it
    verdict   the sentence of the verdict on these synthetic samples; "" = there is none
    """

    name: str
    modality: str
    format: str
    columns: Mapping[str, str]
    snapshot: str | None = None
    verdict: str = ""

    @classmethod
    def of(cls, name: str, manifest: Mapping[str, Any]) -> About:
        """What the manifest of a data set says. It may be somebody else's: what is no text says nothing."""
        told = {key: manifest.get(key) for key in ("snapshot", "verdict")}
        snapshot, verdict = (value if isinstance(value, str) else None for value in told.values())
        return cls(
            name, manifest["modality"], manifest["format"], manifest["columns"], snapshot, verdict or ""
        )


def write_cards(folder: Path, rows: Sequence[Mapping[str, Any]], about: About) -> None:
    """Write README.md and croissant.json into a folder that `new_folder` yields, when all else lies there.

    rows  what is known of each sample, as `Format.write` returned it
    Raises ResourceError.
    """
    synthetic = sum(row.get("origin") == "synthetic" for row in rows)
    head = _head(len(rows) - synthetic, synthetic, about)
    tags = ["synthetic", "sibling"] if synthetic else ["sibling"]
    described = croissant_json(
        folder, rows, name=about.name, description=head, keywords=[*tags, about.modality], modality=about.modality,
        columns=about.columns,
    )  # fmt: skip
    front = {
        "pretty_name": about.name, "tags": tags, "task_categories": _tasks(about),
        "size_categories": [next((name for most, name in _SIZES if len(rows) < most), "n>10M")],
        **_loading(folder, rows, about),
    }  # fmt: skip
    lines = [
        "---",
        "# license: yours to name; Sibling cannot know what the real samples and their source allow",
    ]
    lines += [f"{key}: {_yaml(value)}" for key, value in front.items() if value]
    text = "\n".join([*lines, "---", "", *_body(head, rows, synthetic, about), ""])
    readme, croissant = CARDS
    write_bytes(folder / readme, text.encode("utf-8", "backslashreplace"), durable=False)
    write_json(folder / croissant, described, durable=False)


# ---- for programs -----------------------------------------------------------------------------------


def _yaml(value: Any) -> str:
    """A value as JSON, which YAML can read: no name of a class can be taken for anything else."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(one if one.isprintable() else _escaped(one) for one in text)


def _escaped(character: str) -> str:
    if "\ud800" <= character <= "\udfff":
        return "\ufffd"  # half a character: no YAML holds it
    code = ord(character)
    return f"\\u{code:04x}" if code < 2**16 else f"\\U{code:08x}"


def _tasks(about: About) -> list[str]:
    classes = {"label", "labels"} & {*about.columns.values()}
    return [f"{about.modality}-classification"] if classes and about.modality in _CLASSIFIED else []


def _loading(folder: Path, rows: Sequence[Mapping[str, Any]], about: About) -> dict[str, Any]:
    """`configs` and `dataset_info`, where `load_dataset` reads this format: it checks the counts."""
    counts = Counter(WRITTEN.get(row.get("split") or REST, REST) for row in rows)
    if [*counts] == [REST]:  # then the files are called train
        counts = Counter(train=len(rows))
    order = [*WRITTEN.values(), REST]
    counts = Counter({part: counts[part] for part in order if part in counts})
    info: dict[str, Any] = {}
    if about.format == "parquet":
        paths = {part: [f"data/{part}-*.parquet"] for part in counts}
        info["features"] = _features(next(iter(sorted((folder / "data").glob("*.parquet")))))
    elif about.format == "webdataset":
        paths = {part: [f"{part}-*.tar"] for part in counts}
    elif about.format == "texts":
        paths, counts = {"train": ["texts.jsonl"]}, Counter(train=len(rows))
    elif about.format == "folder" and about.modality in _LOADED:
        suffixes = sorted({Path(str(row["file_name"])).suffix for row in rows})
        paths = {"train": ["metadata.jsonl", *(f"**/*{suffix}" for suffix in suffixes)]}
        counts = Counter(train=len(rows))
    else:
        return {}
    info["splits"] = [
        {"name": part, "num_bytes": _size(folder, paths[part]), "num_examples": count}
        for part, count in counts.items()
    ]
    files = [{"split": part, "path": path} for part, path in paths.items()]
    return {"configs": [{"config_name": "default", "data_files": files}], "dataset_info": info}


def _size(folder: Path, globs: Sequence[str]) -> int:
    return sum(path.stat().st_size for glob in globs for path in folder.glob(glob))


def _features(file: Path) -> list[dict[str, Any]]:
    """The columns of a Parquet file of ours, as the YAML of a card has them."""
    import pyarrow.parquet as parquet

    told = json.loads(parquet.read_schema(file).metadata[KEY])["info"]["features"]
    return [{"name": column, **_feature(entry)} for column, entry in told.items()]


def _feature(entry: dict[str, Any]) -> dict[str, Any]:
    kind = entry.get("_type")
    if kind == "ClassLabel":
        return {"dtype": {"class_label": {"names": {str(i): name for i, name in enumerate(entry["names"])}}}}
    if kind == "List":
        inner = _feature(entry["feature"])["dtype"]
        return {"list": inner}
    if kind is None:
        return {"struct": [{"name": name, **_feature(part)} for name, part in entry.items()]}
    return {"dtype": entry["dtype"] if kind == "Value" else kind.lower()}


# ---- for people -------------------------------------------------------------------------------------


def _head(real: int, synthetic: int, about: About) -> str:
    what = f"{about.modality} samples"
    if not synthetic:
        counts = f"{real:,} real {what} and no synthetic ones"
    elif not real:
        counts = f"{synthetic:,} synthetic {what} and no real ones"
    else:
        counts = f"{real:,} real and {synthetic:,} synthetic {what}"
    return f"{counts}, written by Sibling {__version__}."


def _body(head: str, rows: Sequence[Mapping[str, Any]], synthetic: int, about: About) -> list[str]:
    lines = [f"# {_plain(about.name)}", "", head, "", "## What is real and what is synthetic", ""]
    if synthetic:
        lines += [
            "The real samples are those of the data set that was given. The synthetic ones were made by a model: nobody "
            "photographed, recorded or wrote them. Each sample says which it is (`origin`: `real` or `synthetic`), and a "
            "synthetic one of ours also what made it (`snapshot`, `seed`, `index`) and, where that was measured, its scores "
            "and the nearest real sample.",
        ]
    else:
        lines += ["All samples are those of the data set that was given; no model made any of them."]
        if about.verdict:
            lines += [f"Synthetic ones were tested and are not in here. {_plain(about.verdict)}"]
    lines += ["", *_table(rows, about)]
    if synthetic:
        lines += ["## What made the synthetic samples", "", *_makers(rows, about), "", "## Do they help?", ""]
        lines += [_plain(about.verdict) if about.verdict else "Nobody has measured it: there was no verdict."]
        lines += [""]
    lines += ["## Check before you publish it", ""]
    lines += [f"- {sentence}" for sentence in _checks(synthetic)]
    return lines


def _table(rows: Sequence[Mapping[str, Any]], about: About) -> list[str]:
    """How many samples of each class and origin there are; nothing where y is no class."""
    column = next((column for column, kind in about.columns.items() if kind == "label"), None)
    if column is None:
        return []
    counts = Counter((str(row.get(column)), row.get("origin")) for row in rows if row.get(column) is not None)
    names = sorted({name for name, _ in counts})
    lines = [f"| {_plain(column)} | real | synthetic |", "|---|---|---|"]
    lines += [
        f"| {_plain(name)} | {counts[name, 'real']:,} | {counts[name, 'synthetic']:,} |"
        for name in names[:_MOST_CLASSES]
    ]
    more = len(names) - _MOST_CLASSES
    return [*lines, "", *([f"and {more:,} more.", ""] if more > 0 else [])]


def _makers(rows: Sequence[Mapping[str, Any]], about: About) -> list[str]:
    made = Counter(str(row.get("snapshot") or "") for row in rows if row.get("origin") == "synthetic")
    lines = []
    for name, count in sorted(made.items()):
        if not name:
            lines += [f"- {count:,} do not say what made them."]
            continue
        known = about.snapshot is not None and about.snapshot.startswith(name)
        whole = f" (sha256 of its weights: `{about.snapshot}`)" if known else ""
        lines += [
            f"- {count:,} by the snapshot {_plain(name)}{whole}, which learned from real samples of the train part."
        ]
    return lines


def _checks(synthetic: int) -> list[str]:
    checks = [
        "The license: add `license:` above. The real samples keep that of their source, and what it says about works "
        "that are made from them holds for the synthetic ones."
        if synthetic
        else "The license: add `license:` above. It is that of the source of the samples.",
        "The people in it: whether those who can be seen or heard in the real samples agreed to that.",
        "What the samples tell besides: files of real ones are copied byte for byte, with the place and the time of a photograph "
        "where the camera wrote them, and `key` is what a file was called before.",
    ]
    if synthetic:
        checks += [
            "Copies: a generative model can repeat what it learned from. Look at the synthetic samples beside the nearest real "
            "ones. A real sample that may not be shown may not be shown as its twin either.",
            "Use: measure a recogniser on real samples of the split `test` alone. Synthetic ones repeat what is over- and "
            "under-represented in the real ones, and say nothing about what those lack.",
        ]
    return checks


def _plain(text: str) -> str:
    """Text that Markdown and HTML take for nothing else, on one line."""
    line = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", line)
