"""The model card: an expert's header as a page for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tesela.core.publication import Publication
from tesela.models.header import ExpertHeader
from tesela.publishing.expert_item import architecture_name

_SCORES = {"accuracy": "accuracy", "miou": "mIoU", "macro_f1": "macro F1"}


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
    facts = [
        ("Task", header.task),
        ("Network", architecture_name(header)),
        ("Legend", f"{header.legend.address}, {len(header.legend)} classes"),
        ("Pixel size", pixel),
        ("Patch size", f"{header.patch_size_px} px"),
        ("Trained on", made.date or "not told"),
        ("Licence", publication.license),
        ("Provider", publication.provider or "not told"),
    ]
    if publication.contact:
        facts.append(("Contact", publication.contact))
    sections = [
        f"# {publication.title}",
        publication.description
        or f"An expert of Tesela for {header.task} with the legend {header.legend.address}.",
        _table(("", ""), facts),
        "## Use",
        f"```\ntesela predict {name} SCENE -o map.tif\n```",
        "The scene must have the bands below, found by name, in the same physical quantity"
        + (f", and pixels of {pixel} within a factor of 1.5." if header.pixel_size_m else "."),
        "## Input",
        _table(
            ("band", "mean", "standard deviation"),
            [
                (band, f"{mean:.6g}", f"{std:.6g}")
                for band, mean, std in zip(header.bands, header.mean, header.std, strict=True)
            ],
        ),
        "Scaled by (x - mean) / standard deviation; pixels without data become 0.",
        "## Classes and scores",
        _scores_line(header.scores),
        _table(
            ("value", "code", "name", "IoU", "F1"),
            [
                (
                    item.value,
                    item.code,
                    item.name,
                    *(_by_class(header.scores, key, item.code) for key in ("iou", "f1")),
                )
                for item in header.legend.classes
            ],
        ),
        "## Training",
        _table(("setting", "value"), [(key, value) for key, value in sorted(header.training.items())]),
        "## Limits",
        "The scores are those of validation patches, which chose the best epoch: judge maps of other ground on a "
        "reference of their own (`tesela assess`). What the network saw is told by place and season of its training "
        "scenes; elsewhere expect less. Classes without a score were not in the validation patches.",
        "## Provenance",
        _table(
            ("", ""),
            [("seed", made.seed), *sorted(made.versions.items()), *sorted(made.fingerprints.items())],
        ),
    ]
    return "\n\n".join(sections) + "\n"


def _scores_line(scores: Mapping[str, object]) -> str:
    told = [f"{name} {scores[key]}" for key, name in _SCORES.items() if key in scores]
    where = f" on {scores['patches']} validation patches" if "patches" in scores else ""
    return f"{', '.join(told)}{where}." if told else "The header tells no scores."


def _by_class(scores: Mapping[str, object], key: str, code: str) -> str:
    table = scores.get(key)
    value = table.get(code) if isinstance(table, Mapping) else None
    return "-" if value is None else f"{value:.4f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: object) -> str:
    text = " ".join(str(value).split())
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
