"""The model card: the header of an expert as a readable page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from tesela.core.publication import Publication
from tesela.models.header import ExpertHeader

_SCORES = {"accuracy": "accuracy", "miou": "mIoU", "macro_f1": "macro F1", "val_rmse": "RMSE of the shares"}
_BY_CLASS = {"iou": "IoU", "f1": "F1"}


def model_card(header: ExpertHeader, publication: Publication, *, name: str) -> str:
    """
    Markdown text of a model card: purpose, input, classes, training, scores, limits, provenance.

    Parameters
    ----------
    name : str
        File name of the expert.
    """
    made = header.provenance
    pixel = f"{header.pixel_size_m:g} m" if header.pixel_size_m else "in degrees"
    series = header.series
    given, use = "scene", f"tesela predict {name} SCENE -o map.tif"
    inputs = [*zip(header.bands, header.mean, header.std, strict=True)]
    if series is not None:
        given, use = "cube", f"tesela unmix {name} CUBE -o abundances.tif"
        inputs += zip(series.layers, series.layer_mean, series.layer_std, strict=True)
    facts = [
        ("Task", header.task),
        ("Network", header.architecture.summary),
        ("Legend", f"{header.legend.address}, {len(header.legend)} classes"),
        ("Pixel size", pixel),
        ("Window", f"{header.patch_size_px} px"),
        ("Trained", made.date or "not given"),
        ("Licence", publication.license),
        ("Provider", publication.provider or "not given"),
    ]
    if series is not None:
        facts.append(("Months", ", ".join(map(str, series.months))))
    if publication.contact:
        facts.append(("Contact", publication.contact))
    by_class = {key: name for key, name in _BY_CLASS.items() if key in header.scores}
    sections = [
        f"# {publication.title}",
        publication.description
        or f"An expert of Tesela for {header.task} with the legend {header.legend.address}.",
        table(("", ""), facts),
        "## Use",
        f"```\n{use}\n```",
        f"The {given} must have bands of the names below, in the same physical quantity"
        + (
            f", and pixels of {pixel} within a factor of 1.5."
            if header.pixel_size_m and series is None
            else "."
        ),
        "## Input",
        table(
            ("band", "mean", "standard deviation"),
            [(band, f"{mean:.6g}", f"{std:.6g}") for band, mean, std in inputs],
        ),
        "Scaled by (x - mean) / standard deviation; pixels without data become 0.",
        "## Classes and scores",
        scores_line(header.scores),
        table(
            ("value", "code", "name", *by_class.values()),
            [
                (
                    item.value,
                    item.code,
                    item.name,
                    *(_of_class(header.scores, key, item.code) for key in by_class),
                )
                for item in header.legend.classes
            ],
        ),
        "## Training",
        table(
            ("setting", "value"), [(key, _setting(value)) for key, value in sorted(header.training.items())]
        ),
        "## Limits",
        "The scores are those of the validation split, which also chose the best epoch. Assess maps of other areas on "
        "a reference of their own (`tesela assess`). Expect lower scores outside the area and season of the training "
        "data. Classes without a score were not in the validation split.",
        "## Provenance",
        table(
            ("", ""),
            [("seed", made.seed), *sorted(made.versions.items()), *sorted(made.fingerprints.items())],
        ),
    ]
    return "\n\n".join(sections) + "\n"


def _score(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _setting(value: object) -> str:
    """As a recipe writes it."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value)


def scores_line(scores: Mapping[str, object]) -> str:
    """Scores of an expert in one sentence."""
    parts = [f"{name} {_score(scores[key])}" for key, name in _SCORES.items() if key in scores]
    where = f" on {_cell(scores['patches'])} validation patches" if "patches" in scores else ""
    return f"{', '.join(parts)}{where}." if parts else "The header has no scores."


def _of_class(scores: Mapping[str, object], key: str, code: str) -> str:
    by_class = scores.get(key)
    value = by_class.get(code) if isinstance(by_class, Mapping) else None
    return "-" if value is None else f"{value:.4f}"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Table in Markdown; special characters in cells are escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: object) -> str:
    text = " ".join(str(value).split())
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
