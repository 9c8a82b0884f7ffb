"""The STAC Item and the model card of a cascade."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tesela.core.publication import Publication
from tesela.io.stac_items import CLASSIFICATION, class_list, common_properties, item_frame, other_assets, slug
from tesela.io.toml_file import read_toml
from tesela.mapping.cascade import FILE, Cascade, Gate, Member
from tesela.publishing.expert import (
    MLM,
    RASTER_BANDS,
    hyperparameters,
    image_input,
    model_asset,
    model_properties,
    scores_line,
    table,
)


def cascade_card(cascade: Cascade, publication: Publication, *, name: str) -> str:
    """
    Markdown text: purpose, experts with their gates, bands, classes of the map level by level, limits.

    Parameters
    ----------
    name : str
        File name of the cascade.
    """
    legend = cascade.legend
    above = range(1, legend.depth)
    pixel = cascade.members[0].expert.header.pixel_size_m
    facts = [
        ("Experts", len(cascade.members)),
        ("Legend", f"{legend.address}, {len(legend)} classes at the finest level"),
        ("Pixel size", f"{pixel:g} m" if pixel else "in degrees"),
        ("Licence", publication.license),
        ("Provider", publication.provider or "not given"),
        *([("Contact", publication.contact)] if publication.contact else []),
    ]
    sections = [
        f"# {publication.title}",
        publication.description
        or f"A cascade of Tesela: {len(cascade.members)} experts that make one map of the legend {legend.address}.",
        table(("", ""), facts),
        "## Use",
        f"```\ntesela predict {name} SCENE -o map.tif\n```",
        f"The scene must have bands of these names: {', '.join(cascade.bands)}.",
        "## Experts",
        "Each expert maps only pixels where the expert above it predicts one of these classes with enough confidence.",
        table(
            ("expert", "network", "legend", "gate", "least probability", "card"),
            [_member_row(member) for member in cascade.members],
        ),
        "\n".join(
            f"- {member.name}: {scores_line(member.expert.header.scores)}" for member in cascade.members
        ),
        "## Classes of the map",
        table(
            ("value", "code", "name", *(f"level {level}" for level in above)),
            [
                (
                    item.value,
                    item.code,
                    item.name,
                    *(legend.ancestor(item.code, level).name for level in above),
                )
                for item in legend.classes
            ],
        ),
        "## Limits",
        "An expert never maps pixels that the expert above it ruled out, so errors add up down the cascade. The scores "
        "above are those of each expert by itself on its validation split, not those of the map. Assess the map on a "
        "reference of its own (`tesela assess`).",
    ]
    return "\n\n".join(sections) + "\n"


def _member_row(member: Member) -> tuple[object, ...]:
    header, gate = member.expert.header, member.gate
    pixels = "whole scene" if gate is None else f"{gate.parent}: {', '.join(gate.classes)}"
    least = "-" if gate is None else f"{gate.min_confidence:g}"
    card = f"[{slug(member.name)}.md]({slug(member.name)}.md)"
    return (member.name, header.architecture.summary, header.legend.address, pixels, least, card)


def expert_name(member: str) -> str:
    """File name of a member in a published cascade."""
    return f"{slug(member)}.safetensors"


def expert_files(path: Path) -> dict[str, Path]:
    """Files of the experts of a cascade's file, by member; `open_cascade` checks the file."""
    file = path / FILE if path.is_dir() else path
    tables = read_toml(file)["experts"]
    return {
        str(table.get("name", Path(table["path"]).stem)): file.parent / str(table["path"]) for table in tables
    }


def cascade_text(cascade: Cascade) -> str:
    """TOML of a cascade whose experts are beside it under `expert_name`."""
    lines = [f"name = {json.dumps(cascade.name)}"]
    for member in cascade.members:
        lines += ["", "[[experts]]", f"path = {json.dumps(expert_name(member.name))}"]
        lines.append(f"name = {json.dumps(member.name)}")
        if member.gate is not None:
            lines += [
                f"parent = {json.dumps(member.gate.parent)}",
                f"classes = {json.dumps(list(member.gate.classes))}",
                f"min_confidence = {float(member.gate.min_confidence)}",
            ]
    return "\n".join(lines) + "\n"


def cascade_item(
    cascade: Cascade, experts: Mapping[str, Path], publication: Publication, *, beside: tuple[Path, ...] = ()
) -> dict[str, object]:
    """
    STAC 1.1 Item of a cascade: an input and an asset for each expert, one output, the map in the cascade's legend.

    Parameters
    ----------
    experts : mapping
        File of each member, by its name; they are beside the Item under `expert_name`.
    publication : Publication
        Without a date, the day of the last training is used.

    Returns
    -------
    dict
        JSON document, as in `expert_item`.
    """
    headers = {member.name: member.expert.header for member in cascade.members}
    date = publication.date or max(header.provenance.date for header in headers.values())
    publication = replace(publication, date=date)
    settings: dict[str, object] = {}
    for member in cascade.members:
        own = hyperparameters(member.expert.header) | _gate_settings(member.gate)
        settings |= {f"{slug(member.name)}.{key}": value for key, value in own.items()}
    summary = ", ".join(f"{name} ({header.architecture.summary})" for name, header in headers.items())
    side = cascade.members[0].expert.header.patch_size_px
    output = {
        "name": "map",
        "description": "One value per pixel: the class of the finest expert that maps it.",
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
