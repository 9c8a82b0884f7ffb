"""The environment of all pages: one base template, one escaping rule, one format for numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any


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


def count_text(value: int) -> str:
    """Whole number in groups of three digits."""
    return f"{value:,}".replace(",", "\u202f")


def hectares_text(value: float) -> str:
    """Area with as many digits as it deserves, without unit."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 1 else 2
    return f"{value:,.{digits}f}".replace(",", "\u202f")


def percent_text(value: float | None, digits: int = 1) -> str:
    """Share in per cent; a dash where it does not exist."""
    return f"{value * 100:.{digits}f}\u202f%" if value is not None and math.isfinite(value) else "–"


def change_text(share: float) -> str:
    """Relative change in per cent with its sign."""
    return f"{share * 100:+.0f}\u202f%".replace("-", "−")


def score_text(value: float | None) -> str:
    """Score to three digits; a dash where it does not exist."""
    return f"{value:.3f}" if value is not None and math.isfinite(value) else "–"


def gain_text(value: float | None) -> str:
    """Difference of two scores with its sign; a dash where it does not exist."""
    return f"{value:+.3f}".replace("-", "−") if value is not None and math.isfinite(value) else "–"
