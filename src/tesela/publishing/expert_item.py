"""The STAC Item of an expert, with the machine learning model extension (MLM)."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

from tesela.core.publication import Publication
from tesela.io.stac_items import CLASSIFICATION, class_list, common_properties, item_frame, other_assets
from tesela.models.expert import read_header
from tesela.models.header import ExpertHeader

MLM = "https://stac-extensions.github.io/mlm/v1.5.2/schema.json"
RASTER_BANDS = "https://stac-extensions.github.io/raster/v1.1.0/schema.json"
"""Of the ways in which MLM lets the bands be named, the one that STAC 1.1 allows for any kind of band."""

_TASKS = {"segmentation": "semantic-segmentation", "unmixing": "regression"}
"""From the task of an expert to its name in the extension."""

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def expert_item(
    path: str | Path, publication: Publication, *, beside: tuple[Path, ...] = ()
) -> dict[str, object]:
    """
    STAC 1.1 Item of an expert: tasks, input bands with their scaling, classes put out, settings and scores.

    Parameters
    ----------
    path : str or Path
        The ``.safetensors`` file; the Item is meant to stand in the same folder.
    publication : Publication
        Without a date, the day of the training counts.
    beside : tuple of paths
        Further files in that folder, such as the model card.

    Returns
    -------
    dict
        JSON document. Its geometry is null: an expert is bound to its bands and pixel size, not to a place.

    Raises
    ------
    ExpertError
        If the file is no expert.
    InputError
        If there is no date.
    """
    target = Path(path)
    header = read_header(target)
    publication = replace(publication, date=publication.date or header.provenance.date)
    task = _TASKS.get(header.task, header.task)
    properties: dict[str, object] = common_properties(publication)
    properties |= {
        "mlm:name": _model_name(target.stem),
        "mlm:architecture": architecture_name(header),
        "mlm:tasks": [task],
        "mlm:framework": "PyTorch",
        "mlm:total_parameters": count_parameters(target),
        "mlm:memory_size": target.stat().st_size,
        "mlm:accelerator": "amd64",
        "mlm:accelerator_constrained": False,
        "mlm:input": [_input(header)],
        "mlm:output": [_output(header, task)],
        "mlm:hyperparameters": _hyperparameters(header),
        "tesela:legend": header.legend.address,
        "tesela:scores": dict(header.scores),
        "tesela:pixel_size_m": header.pixel_size_m,
    }
    version = re.match(r"\d+\.\d+\.\d+", header.provenance.versions.get("torch", ""))
    if version:
        properties["mlm:framework_version"] = version[0]
    model = {
        "href": f"./{target.name}",
        "type": "application/octet-stream; application=safetensors",
        "title": publication.title,
        "roles": ["mlm:model", "mlm:weights"],
        "mlm:artifact_type": "safetensors.torch.save_file",
        "raster:bands": [{"name": name} for name in header.bands],
    }
    return {
        **item_frame(target.stem, [MLM, RASTER_BANDS, CLASSIFICATION]),
        "geometry": None,
        "properties": properties,
        "links": [],
        "assets": {"model": model, **other_assets(beside)},
    }


def architecture_name(header: ExpertHeader) -> str:
    """Name of the network for people: "U-Net, encoder resnet50"."""
    settings = header.architecture.to_dict()
    kind = str(settings["kind"])
    name = {"unet": "U-Net", "brits": "BRITS"}.get(kind, kind)
    return f"{name}, encoder {settings['encoder']}" if "encoder" in settings else name


def count_parameters(path: Path) -> int:
    """Weights of the network in an expert's file, from its table of contents; running statistics do not count."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        names = [name for name in file.keys() if not name.endswith(_STATISTICS)]  # noqa: SIM118 - no mapping
        return sum(math.prod(file.get_slice(name).get_shape()) for name in names)


def _input(header: ExpertHeader) -> dict[str, object]:
    size = header.patch_size_px
    return {
        "name": "image",
        "description": "Physical quantities of the bands, in this order; scaled values of pixels without data are 0.",
        "bands": list(header.bands),
        "input": {
            "shape": [-1, len(header.bands), size, size],
            "dim_order": ["batch", "bands", "height", "width"],
            "data_type": "float32",
        },
        "value_scaling": [
            {"type": "z-score", "mean": mean, "stddev": std}
            for mean, std in zip(header.mean, header.std, strict=True)
        ],
        "resize_type": None,
    }


def _output(header: ExpertHeader, task: str) -> dict[str, object]:
    size = header.patch_size_px
    return {
        "name": "classes",
        "description": "One score per class before softmax; channel i is the i-th class after nodata.",
        "tasks": [task],
        "result": {
            "shape": [-1, len(header.legend), size, size],
            "dim_order": ["batch", "class", "height", "width"],
            "data_type": "float32",
        },
        "classification:classes": class_list(header.legend),
    }


def _hyperparameters(header: ExpertHeader) -> dict[str, object]:
    named = {re.sub(r"[^0-9a-zA-Z_.-]", "_", key): value for key, value in header.training.items()}
    return named | {"patch_size_px": header.patch_size_px, "seed": header.provenance.seed}


def _model_name(text: str) -> str:
    """Name in the letters that the extension allows: three or more, a letter first, no sign last."""
    name = re.sub(r"[^a-zA-Z0-9_.\- ]", "-", text).strip("_.- ")
    return name if re.fullmatch(r"[a-zA-Z].+[a-zA-Z0-9]", name) else f"expert {name or 0}"
