"""The environment in which all pages are rendered: one base template, one escaping rule, one format for numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tesela.pages.number_format import (
    change_text,
    count_text,
    gain_text,
    hectares_text,
    percent_text,
    score_text,
)


def page_environment(package: str) -> Any:
    """
    Jinja environment: everything is escaped, unknown names are errors, no template comes from outside.

    Parameters
    ----------
    package : str
        Package with templates in a folder ``templates``, which extend the base template of `tesela.pages`.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("tesela.pages")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "change": change_text,
        "count": count_text,
        "gain": gain_text,
        "ha": hectares_text,
        "percent": percent_text,
        "score": score_text,
    }
    return environment


def names_apart(map_path: str, reference_path: str) -> dict[str, str]:
    """Names of map and reference for a page, with their folders where the names alone are the same."""
    paths = {"map": Path(map_path), "reference": Path(reference_path)}
    same = paths["map"].name == paths["reference"].name
    return {key: f"{path.parent.name}/{path.name}" if same else path.name for key, path in paths.items()}
