"""The STAC Item of a cascade: several experts that make one map, with the machine learning model extension."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tesela.core.publication import Publication
from tesela.io.stac_items import CLASSIFICATION, class_list, common_properties, item_frame, other_assets, slug
from tesela.mapping.cascade import Cascade, Gate
from tesela.publishing.cascade_file import expert_name
from tesela.publishing.expert_item import (
    MLM,
    RASTER_BANDS,
    hyperparameters,
    image_input,
    model_asset,
    model_properties,
)


def cascade_item(
    cascade: Cascade, experts: Mapping[str, Path], publication: Publication, *, beside: tuple[Path, ...] = ()
) -> dict[str, object]:
    """
    STAC 1.1 Item of a cascade: an input and an asset for each expert, one output, the map in the cascade's legend.

    Parameters
    ----------
    experts : mapping
        File of each member, by its name; they stand beside the Item under `expert_name`.
    publication : Publication
        Without a date, the day on which the last expert was trained counts.

    Returns
    -------
    dict
        JSON document, as that of `expert_item`.
    """
    headers = {member.name: member.expert.header for member in cascade.members}
    date = publication.date or max(header.provenance.date for header in headers.values())
    publication = replace(publication, date=date)
    settings: dict[str, object] = {}
    for member in cascade.members:
        told = hyperparameters(member.expert.header) | _gate_settings(member.gate)
        settings |= {f"{slug(member.name)}.{key}": value for key, value in told.items()}
    summary = ", ".join(f"{name} ({header.architecture.summary})" for name, header in headers.items())
    side = cascade.members[0].expert.header.patch_size_px
    output = {
        "name": "map",
        "description": "One value per pixel: the finest class that the experts asked there agree upon.",
        "tasks": ["semantic-segmentation"],
        "result": {
            "shape": [-1, side, side],
            "dim_order": ["batch", "height", "width"],
            "data_type": "uint8",
        },
        "classification:classes": class_list(cascade.legend),
    }
    by_path = {experts[name]: header for name, header in headers.items()}
    properties = common_properties(publication) | {
        **model_properties(cascade.name, f"Cascade of {summary}", by_path),
        "mlm:input": [image_input(header, name=name) for name, header in headers.items()],
        "mlm:output": [output],
        "mlm:hyperparameters": settings,
        "tesela:legend": cascade.legend.address,
        "tesela:scores": {name: dict(header.scores) for name, header in headers.items()},
        "tesela:pixel_size_m": cascade.members[0].expert.header.pixel_size_m,
    }
    assets = {
        slug(name): model_asset(expert_name(name), f"{publication.title}: {name}", header)
        for name, header in headers.items()
    }
    return {
        **item_frame(slug(cascade.name), [MLM, RASTER_BANDS, CLASSIFICATION]),
        "geometry": None,
        "properties": properties,
        "links": [],
        "assets": {**assets, **other_assets(beside)},
    }


def _gate_settings(gate: Gate | None) -> dict[str, object]:
    if gate is None:
        return {}
    return {
        "parent": gate.parent,
        "parent_classes": list(gate.classes),
        "min_confidence": gate.min_confidence,
    }
