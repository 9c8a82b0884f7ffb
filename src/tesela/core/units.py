"""Quantities written with their unit, as people write them: "100 m", "25 ha", "256 MiB"."""

from __future__ import annotations

import re

from tesela.core.errors import RecipeError

_LENGTHS_M = {"m": 1.0, "km": 1000.0, "cm": 0.01}
_AREAS_M2 = {"m2": 1.0, "m²": 1.0, "ha": 10_000.0, "km2": 1_000_000.0, "km²": 1_000_000.0}
_MEMORY_BYTES = {"b": 1.0, "MiB": 2.0**20, "GiB": 2.0**30, "MB": 1e6, "GB": 1e9}
_DURATIONS_S = {"s": 1.0, "min": 60.0, "h": 3600.0}
_QUANTITY = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([^\W\d]+[2²]?)?\s*")


def parse_length_m(text: str | float) -> float:
    """
    Read a length in metres; a bare number is metres.

    Parameters
    ----------
    text : str or float
        For example ``"100 m"``, ``"1.5 km"`` or ``100``.

    Raises
    ------
    RecipeError
        If the unit is not m, km or cm, or the number is negative or longer than the equator.

    Examples
    --------
    >>> parse_length_m("1.5 km")
    1500.0
    """
    return _parse(text, _LENGTHS_M, kind="length", example="100 m")


def parse_area_m2(text: str | float) -> float:
    """
    Read an area in square metres; a number is square metres, a text needs a unit.

    Raises
    ------
    RecipeError
        If the unit is not m2, ha or km2, or there is none in a text other than "0", since a typed 25 means hectares
        as often; or if the number is negative or larger than the Earth.

    Examples
    --------
    >>> parse_area_m2("25 ha")
    250000.0
    """
    return _parse(text, _AREAS_M2, kind="area", example="25 ha", needs_unit=isinstance(text, str))


def parse_memory_bytes(text: str | int) -> int:
    """
    Read an amount of memory in bytes; a bare number is bytes.

    Raises
    ------
    RecipeError
        If the unit is not MiB, GiB, MB or GB.

    Examples
    --------
    >>> parse_memory_bytes("256 MiB")
    268435456
    """
    return int(_parse(text, _MEMORY_BYTES, kind="amount of memory", example="256 MiB"))


def parse_duration_s(text: str | float) -> float:
    """
    Read a duration in seconds; a bare number is seconds.

    Raises
    ------
    RecipeError
        If the unit is not s, min or h, or the number is negative.

    Examples
    --------
    >>> parse_duration_s("10 min")
    600.0
    """
    return _parse(text, _DURATIONS_S, kind="duration", example="10 min")


_LARGEST = {"length": 40_075_017.0, "area": 5.101e14}
"""Equator (m) and surface (m2) of the Earth: WGS 84."""


def _parse(
    text: str | float, units: dict[str, float], *, kind: str, example: str, needs_unit: bool = False
) -> float:
    """Number x unit; a number without a unit, where that is allowed, is in the first of the units."""
    bare, *others = (unit for unit in units if not unit.endswith("²"))
    a_kind = f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
    match = _QUANTITY.fullmatch(str(text))
    if match is None or (match[2] or bare) not in units:
        raise RecipeError(
            f"'{text}' is not {a_kind}: write a number and one of {', '.join([bare, *others])}, such as "
            f'"{example}".'
        )
    value = float(match[1]) * units[match[2] or bare]
    if not value <= _LARGEST.get(kind, 1e18):
        raise RecipeError(
            f"'{text}' is no {kind} on the Earth." if kind in _LARGEST else f"'{text}' is too large."
        )
    if needs_unit and value and not match[2]:
        alternatives = "".join(f", or {unit}" for unit in others)
        raise RecipeError(
            f"'{text}' is {a_kind} without a unit: write '{str(text).strip()} {bare}'{alternatives}."
        )
    return value
