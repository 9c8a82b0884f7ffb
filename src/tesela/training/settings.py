"""What the settings of all trainings share: their error, and the check of their ranges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tesela.core.errors import RecipeError


class SettingsError(RecipeError, ValueError):
    """A setting is out of range; a `ValueError` too: pydantic lists it with a recipe's other mistakes."""


def out_of_range(settings: object, ranges: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    """Describe each setting that is outside its range of least and largest value."""
    for name, (least, most) in ranges.items():
        value = getattr(settings, name)
        if not least <= value <= most:
            yield f"{name} is {value}, but must be from {least:g} to {most:g}"
