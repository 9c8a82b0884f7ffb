"""Verbs on legends, and crosswalks as verbs take them."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from tesela.core.crosswalk import Crosswalk
from tesela.core.legend import Legend
from tesela.io.crosswalks import open_crosswalk, write_crosswalk
from tesela.io.legends import list_legends, open_legend
from tesela.io.maps import ClassMap, legend_of

CrosswalkSource: TypeAlias = str | Path | Crosswalk | None
"""The path of a CSV, a `Crosswalk`, or None for a shipped one."""


def as_crosswalk(given: CrosswalkSource, source: str | Legend, target: Legend) -> Crosswalk:
    """The crosswalk given, or the shipped one from a legend to another; errors as in `open_crosswalk`."""
    return open_crosswalk(source, target, path=given)


def optional_crosswalk(given: CrosswalkSource, source: str | Legend, target: Legend) -> Crosswalk | None:
    """The crosswalk given, or None without one."""
    return None if given is None else as_crosswalk(given, source, target)


def legend_list() -> tuple[Legend, ...]:
    """
    Legends that come with Tesela, at their finest level.

    Examples
    --------
    >>> [legend.name for legend in legend_list()][:2]
    ['corine', 'dynamic-world']
    """
    return tuple(open_legend(name) for name in list_legends())


def legend_show(name: str | Path | Legend | ClassMap) -> Legend:
    """
    A legend by name, from a CSV, or of a map; a notebook lists its classes. See `tesela.io.maps.legend_of`.

    Examples
    --------
    >>> legend_show("corine-1").codes
    ('1', '2', '3', '4', '5')
    """
    return legend_of(name)


def legend_init(
    out: str | Path,
    *,
    source: str | Path | None = None,
    field: str | None = None,
    names: str | None = None,
    layer: str | None = None,
) -> Legend:
    """
    Begin a legend of your own: a commented CSV to edit; see `tesela.io.legend_draft.write_legend_draft`.

    Parameters
    ----------
    source : path, optional
        Polygons or a class raster with the classes; default: an example.
    field, names, layer : str, optional
        Of polygons: the field of the codes, that of the names, and the layer.
    """
    from tesela.io.legend_draft import write_legend_draft

    return write_legend_draft(out, source=source, field=field, names=names, layer=layer)


def legend_crosswalk(
    source: str | Path | Legend | ClassMap,
    out: str | Path | None = None,
    *,
    to: str | Path | Legend | ClassMap,
) -> Crosswalk:
    """
    The crosswalk between two legends, also those of maps; see `tesela.io.crosswalks.open_crosswalk`.

    Parameters
    ----------
    out : path, optional
        CSV to write.

    Raises
    ------
    LegendError
        If there is no way between the two.

    Examples
    --------
    >>> legend_crosswalk("corine", to="lulucf").target.name
    'lulucf'
    """
    table = open_crosswalk(legend_of(source), legend_of(to))
    if out is not None:
        write_crosswalk(table, out)
    return table
