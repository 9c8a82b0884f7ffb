"""The STAC Item of an expert, with the machine learning model extension (MLM)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tesela.core.publication import Publication
from tesela.io.stac_items import CLASSIFICATION, class_list, common_properties, item_frame, other_assets
from tesela.models.expert import read_header
from tesela.models.header import ExpertHeader
from tesela.models.unmixing_header import LIMIT, SeriesScaling

MLM = "https://stac-extensions.github.io/mlm/v1.5.2/schema.json"
RASTER_BANDS = "https://stac-extensions.github.io/raster/v1.1.0/schema.json"
"""Where the bands are named; the one option of MLM that STAC 1.1 allows for any kind of band."""

_TASKS = {"segmentation": "semantic-segmentation", "unmixing": "regression"}
"""From the task of an expert to its name in the extension."""

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
