"""The STAC Item of an expert, with the machine learning model extension (MLM), and its model card."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tesela.core.publication import Publication
from tesela.io.stac_items import CLASSIFICATION, class_list, common_properties, item_frame, other_assets
from tesela.models.expert import read_header
from tesela.models.header import ExpertHeader
from tesela.models.tried import tried_columns, tried_rows
from tesela.models.unmixing_header import LIMIT, SeriesScaling

MLM = "https://stac-extensions.github.io/mlm/v1.5.2/schema.json"
RASTER_BANDS = "https://stac-extensions.github.io/raster/v1.1.0/schema.json"
"""Where the bands are named; the one option of MLM that STAC 1.1 allows for any kind of band."""

_TASKS = {"segmentation": "semantic-segmentation", "unmixing": "regression"}
"""From the task of an expert to its name in the extension."""

_SCORES = {"accuracy": "accuracy", "miou": "mIoU", "macro_f1": "macro F1", "val_rmse": "RMSE of the shares"}
_BY_CLASS = {"iou": "IoU", "f1": "F1"}

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def expert_item(
    path: str | Path, publication: Publication, *, beside: tuple[Path, ...] = ()
) -> dict[str, object]:
    """
    STAC 1.1 Item of an expert: tasks, input bands with their scaling, output classes, settings and scores.

    Parameters
    ----------
    path : str or Path
        The ``.safetensors`` file; the Item belongs in the same folder.
    publication : Publication
        Without a date, the day of the training is used.
    beside : tuple of paths
        Further files in that folder, such as the model card.

    Returns
    -------
    dict
        JSON document. Its geometry is null, because an expert depends on bands and pixel size, not on a location.

    Raises
    ------
    ExpertError
        If the file is not an expert.
    InputError
        If there is no date.
    """
    target = Path(path)
    header = read_header(target)
    publication = replace(publication, date=publication.date or header.provenance.date)
    task = task_of(header)
    properties = common_properties(publication) | {
        **model_properties(target.stem, header.architecture.summary, {target: header}),
        "mlm:input": [image_input(header)]
        if header.series is None
        else _series_inputs(header, header.series),
        "mlm:output": [_output(header, task)],
        "mlm:hyperparameters": hyperparameters(header),
        "tesela:legend": header.legend.address,
        "tesela:scores": dict(header.scores),
        "tesela:pixel_size_m": header.pixel_size_m,
    }
    assets = {"model": model_asset(target.name, publication.title, header), **other_assets(beside)}
    return {
        **item_frame(target.stem, [MLM, RASTER_BANDS, CLASSIFICATION]),
        "geometry": None,
        "properties": properties,
        "links": [],
        "assets": assets,
    }


def task_of(header: ExpertHeader) -> str:
    """Name of an expert's task in the extension."""
    return _TASKS.get(header.task, header.task)


def model_properties(name: str, architecture: str, experts: Mapping[Path, ExpertHeader]) -> dict[str, object]:
    """Properties of a model of one or several experts for the extension, without input and output."""
    properties: dict[str, object] = {
        "mlm:name": _model_name(name),
        "mlm:architecture": architecture,
        "mlm:tasks": list(dict.fromkeys(map(task_of, experts.values()))),
        "mlm:framework": "PyTorch",
        "mlm:total_parameters": sum(map(count_parameters, experts)),
        "mlm:memory_size": sum(path.stat().st_size for path in experts),
        "mlm:accelerator": "amd64",
        "mlm:accelerator_constrained": False,
    }
    weights = {
        str(header.training["weights"]) for header in experts.values() if header.training.get("weights")
    }
    properties["mlm:pretrained"] = bool(weights)
    if weights:
        properties["mlm:pretrained_source"] = ", ".join(sorted(weights))
    versions = {header.provenance.versions.get("torch", "") for header in experts.values()}
    version = re.match(r"\d+\.\d+\.\d+", max(versions))
    return properties | ({"mlm:framework_version": version[0]} if version else {})


def model_asset(name: str, title: str, header: ExpertHeader) -> dict[str, object]:
    """Asset of an expert's file of this name."""
    layers = () if header.series is None else header.series.layers
    return {
        "href": f"./{name}",
        "type": "application/octet-stream; application=safetensors",
        "title": title,
        "roles": ["mlm:model", "mlm:weights"],
        "mlm:artifact_type": "safetensors.torch.save_file",
        "raster:bands": [{"name": band} for band in (*header.bands, *layers)],
    }


def count_parameters(path: Path) -> int:
    """Number of weights in an expert's file, from its table of contents, without running statistics."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        names = [name for name in file.keys() if not name.endswith(_STATISTICS)]  # noqa: SIM118 - no mapping
        return sum(math.prod(file.get_slice(name).get_shape()) for name in names)


def image_input(header: ExpertHeader, *, name: str = "image") -> dict[str, object]:
    """Input of an expert for segmentation."""
    size = header.patch_size_px
    return {
        "name": name,
        "description": "Physical quantities of the bands, in this order; scaled values of pixels without data are 0.",
        "bands": list(header.bands),
        "input": {
            "shape": [-1, len(header.bands), size, size],
            "dim_order": ["batch", "bands", "height", "width"],
            "data_type": "float32",
        },
        "value_scaling": _z_scores(header.mean, header.std),
        "resize_type": None,
    }


def _series_inputs(header: ExpertHeader, series: SeriesScaling) -> list[dict[str, object]]:
    months = ", ".join(map(str, series.months))
    inputs: list[dict[str, object]] = [
        {
            "name": "series",
            "description": f"Physical quantities of the bands in the months {months}; scaled values are cut at "
            f"{LIMIT:g} standard deviations, and 0 in gaps.",
            "bands": list(header.bands),
            "input": {
                "shape": [-1, len(series.months), len(header.bands)],
                "dim_order": ["batch", "time", "bands"],
                "data_type": "float32",
            },
            "value_scaling": _z_scores(header.mean, header.std),
            "resize_type": None,
        }
    ]
    if series.layers:
        inputs.append(
            {
                "name": "layers",
                "description": "Ancillary layers of the pixel, scaled and cut likewise.",
                "bands": list(series.layers),
                "input": {
                    "shape": [-1, len(series.layers)],
                    "dim_order": ["batch", "bands"],
                    "data_type": "float32",
                },
                "value_scaling": _z_scores(series.layer_mean, series.layer_std),
                "resize_type": None,
            }
        )
    return inputs


def _z_scores(means: Sequence[float], deviations: Sequence[float]) -> list[dict[str, object]]:
    return [
        {"type": "z-score", "mean": mean, "stddev": deviation}
        for mean, deviation in zip(means, deviations, strict=True)
    ]


def _output(header: ExpertHeader, task: str) -> dict[str, object]:
    size, count = header.patch_size_px, len(header.legend)
    if header.series is None:
        name = "scores"
        description = "One score per class before softmax; channel i is the i-th class after nodata."
        shape, order = [-1, count, size, size], ["batch", "class", "height", "width"]
    else:
        name, shape, order = "abundances", [-1, count], ["batch", "class"]
        description = "Share of each class in the pixel, sum 1, in the order of the classes after nodata."
    return {
        "name": name,
        "description": description,
        "tasks": [task],
        "result": {"shape": shape, "dim_order": order, "data_type": "float32"},
        "classification:classes": class_list(header.legend),
    }


def hyperparameters(header: ExpertHeader) -> dict[str, object]:
    """Settings of an expert's training, under names in the letters that the extension allows."""
    named = {re.sub(r"[^0-9a-zA-Z_.-]", "_", key): value for key, value in header.training.items()}
    return named | {"patch_size_px": header.patch_size_px, "seed": header.provenance.seed}


def _model_name(text: str) -> str:
    """Name in the letters that the extension allows: three or more, a letter first, no sign last."""
    name = re.sub(r"[^a-zA-Z0-9_.\- ]", "-", text).strip("_.- ")
    return name if re.fullmatch(r"[a-zA-Z].+[a-zA-Z0-9]", name) else f"expert {name or 0}"


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
        ("Model", header.architecture.summary),
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
        *_tried(header.scores),
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


def _tried(scores: Mapping[str, object]) -> list[str]:
    """What `model = "auto"` compared, where it did."""
    rows = tried_rows(scores)
    note = "Scores on the validation split."
    return ["## Models compared", note, table(tried_columns(scores), rows)] if rows else []


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
