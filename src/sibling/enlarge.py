"""The whole way on one page: read -> fit -> sample -> curate -> evaluate -> write."""

from __future__ import annotations

import logging
from pathlib import Path

from . import files
from .curate import curate
from .evaluate import check_effort, evaluate
from .fit import fit
from .lift.brought import brought
from .read import describe, read
from .sample import check_want, sample
from .types import Evaluation
from .unlabelled import check_place
from .write import write

__all__ = ["enlarge"]


def enlarge(
    place: str | Path,
    out: str | Path,
    *,
    model: str = "vae",
    minutes: float | None = None,
    want: str | int | dict[str, int] | None = None,
    seed: int = 0,
    modality: str | None = None,
    size: int | None = None,
    label_column: str | list[str] | None = None,
    condition: str | None = None,
    unlabelled: str | Path | None = None,
    on_bad: str = "auto",
    link: str = "copy",
    quick: bool = False,
    thorough: bool = False,
    classifier: str | None = None,
    write_anyway: bool = False,
    run: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> Evaluation:
    """Read a labelled data set, learn it, write a larger one, and say whether that helps.

    Args:
        place: the data: class folders, files plus metadata, or any other format that `read` knows.
        out: the larger data set to write: real and synthetic samples, each with its origin.
        model: "vae", "gan", or "bootstrap", the baseline.
        minutes: training time of the model; None = derived, at most 10.
        want: how many synthetic samples: 500 (a class), "x5", "balance", {"cat": 500}; None = "x5", at most 10,000.
        seed: of everything.
        modality: "image", "audio", "video", "text" or "signal"; None = found by looking at the files.
        size: the longer edge of the working size in pixels; of a series the steps, of a text the symbols; None = derived.
        label_column: the columns of the metadata file that are y ("kind,severity"); None = found by looking.
        condition: "label", "labels", "value", "map", "joint" or "none"; None = found by looking.
        unlabelled: a folder of further samples of the same kind without labels: those whose class is sure are learned from
            too, and stand as a rival of their own in the verdict. None = none.
        on_bad: what to do about broken samples: "auto", "skip" or "stop".
        link: how real files are brought: "copy", "hard" or "sym".
        quick: a first look at the verdict, with fewer seeds and less tuning.
        thorough: a verdict with more seeds, more tuning and further splits.
        classifier: a recogniser of your own for the verdict, as "module:build"; None = ours.
        write_anyway: write all synthetic samples; without it, those that the verdict supports: all, some, or none.
        run: the run folder with model, scores and report; None = `out` with "-run".
        resume: go on with a training that was stopped at `run`.
        overwrite: replace what an earlier run left at `out` and `run`.
    """
    out = Path(out)
    run = Path(run) if run is not None else out.with_name(out.name + "-run")
    files.refuse_overlap(out, Path(place), run, Path(unlabelled) if unlabelled is not None else None)
    files.refuse_used(out, overwrite=overwrite)
    check_want(want)
    check_place(unlabelled)
    check_effort(quick, thorough)
    data = read(
        place, modality=modality, size=size, label_column=label_column, condition=condition, on_bad=on_bad, seed=seed
    )  # fmt: skip
    logging.getLogger("sibling").info("%s", "\n".join(describe(data)))
    brought(classifier, data)  # a mistake in it shall not come to light after the training
    snapshot = fit(
        data, out=run, model=model, minutes=minutes, unlabelled=unlabelled, on_bad=on_bad, seed=seed, resume=resume,
        overwrite=overwrite)  # fmt: skip
    fakes = sample(snapshot, want=want, seed=seed)
    kept = curate(fakes, against=snapshot, seed=seed)
    judged = evaluate(kept, against=snapshot, quick=quick, thorough=thorough, classifier=classifier, seed=seed)  # fmt: skip
    write(
        data, kept, out=out, against=snapshot, verdict=judged, write_anyway=write_anyway, link=link, overwrite=overwrite,
    )  # fmt: skip
    return judged
