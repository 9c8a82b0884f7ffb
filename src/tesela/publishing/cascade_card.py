"""The model card of a cascade: which expert is asked where, and what its map holds."""

from __future__ import annotations

from tesela.core.publication import Publication
from tesela.io.stac_items import slug
from tesela.mapping.cascade import Cascade, Member
from tesela.publishing.model_card import scores_line, table


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
        ("Provider", publication.provider or "not told"),
        *([("Contact", publication.contact)] if publication.contact else []),
    ]
    sections = [
        f"# {publication.title}",
        publication.description
        or f"A cascade of Tesela: {len(cascade.members)} experts that make one map of the legend {legend.address}.",
        table(("", ""), facts),
        "## Use",
        f"```\ntesela predict {name} SCENE -o map.tif\n```",
        f"The scene must have the bands {', '.join(cascade.bands)}, found by name.",
        "## Experts",
        "Each is asked only where the one above it gives one of the classes named, surely enough.",
        table(
            ("expert", "network", "legend", "asked on", "least probability", "card"),
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
        "An expert never sees what the one above it ruled out: mistakes add up down the cascade, and the scores above, "
        "of each expert by itself on its validation split, do not tell those of the map. Judge it on a reference of "
        "its own (`tesela assess`).",
    ]
    return "\n\n".join(sections) + "\n"


def _member_row(member: Member) -> tuple[object, ...]:
    header, gate = member.expert.header, member.gate
    asked = "all ground" if gate is None else f"{gate.parent}: {', '.join(gate.classes)}"
    least = "-" if gate is None else f"{gate.min_confidence:g}"
    card = f"[{slug(member.name)}.md]({slug(member.name)}.md)"
    return (member.name, header.architecture.summary, header.legend.address, asked, least, card)
