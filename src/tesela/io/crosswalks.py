"""Crosswalks: shipped, of a user's CSV, through a third legend, or composed of those of a cascade's experts."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from tesela.core.crosswalk import Crosswalk, CrosswalkRow
from tesela.core.errors import LegendError, join_words
from tesela.core.legend import Legend
from tesela.core.notes import note
from tesela.io.cascade_crosswalks import from_cascade, into_cascade
from tesela.io.legends import (
    crosswalk_tables,
    list_legends,
    open_legend,
    parse_csv,
    split_address,
    with_origins,
)
from tesela.io.manifest import write_text
from tesela.io.rows import read_rows


def list_crosswalks() -> tuple[tuple[str, str], ...]:
    """Shipped crosswalks as (source, target) names."""
    pairs = (name.partition("__") for name in sorted(crosswalk_tables()))
    return tuple((source, target) for source, _, target in pairs)


def open_crosswalk(
    source: str | Legend, target: Legend, *, path: str | Path | Crosswalk | None = None
) -> Crosswalk:
    """
    Find the way between two legends, or read it from a CSV with the columns from, to and, optionally, share.

    The first of these that exists is taken: a legend's codes go to its own coarser levels; a shipped crosswalk;
    for the legend of a cascade, the crosswalks of its experts' legends, level by level (see
    `tesela.io.cascade_crosswalks`); two shipped crosswalks in a row. `Crosswalk.way` names the tables used.

    Parameters
    ----------
    source : str or Legend
        Source legend, or its name or address; with `path`, any text that names the codes in messages.
    target : Legend
        Legend, at the level wanted.
    path : path or Crosswalk, optional
        An open crosswalk is returned as it is.

    Raises
    ------
    LegendError
        If there is no way, two ways of two crosswalks disagree, or the table is wrong.
    """
    if isinstance(path, Crosswalk):
        return path
    address = source if isinstance(source, str) else source.address
    if path is not None:
        table = read_rows(path, columns=("from", "to"), kind="crosswalk", error=LegendError)
        return Crosswalk.from_rows(address, target, table)
    found = find_crosswalk(source, target)
    if found is not None:
        _say_way(found)
        return found
    name = split_address(address)[0]
    pairs = list_crosswalks()
    onward = join_words(sorted({to for own, to in pairs if split_address(own)[0] == name})) or "none"
    towards = join_words(sorted({own for own, to in pairs if to == target.name})) or "none"
    known = isinstance(source, str) or source.composed or name in list_legends()
    why = (
        "" if known else f" '{address}' does not say in which legends its classes are known (column origin)."
    )
    if name == target.name:
        why = " A class of a coarser level does not tell which of its finer classes a pixel has."
    raise LegendError(
        f"No crosswalk from '{address}' to '{target.address}' is shipped, nor a way over two (shipped from "
        f"'{name}': to {onward}; to '{target.name}': from {towards}).{why} Give one as a CSV with the columns from, to "
        f"(--crosswalk FILE)."
    )


def find_crosswalk(source: str | Legend, target: Legend) -> Crosswalk | None:
    """
    The way between two legends as `open_crosswalk` finds it; None if there is none.

    Raises
    ------
    LegendError
        If two ways of two crosswalks disagree.
    """
    opened = _legend(source)
    if opened is not None and _is_level(target, opened):
        return Crosswalk.identity(opened, target.depth)
    if opened is not None and opened.composed:
        return from_cascade(opened, target, find=find_crosswalk)
    if target.composed:
        return into_cascade(source, target, find=find_crosswalk)
    name = source if isinstance(source, str) else source.address
    return _direct(name, target) or _through(name, target)


def guess_crosswalk(codes: Iterable[str], target: Legend, *, where: str) -> Crosswalk | None:
    """
    The way from the shipped legend that has all the codes; None if no legend with a way has them.

    Raises
    ------
    LegendError
        If several legends have them.
    """
    present = {str(code) for code in codes}
    fitting: dict[str, Crosswalk] = {}
    for name in list_legends():
        level: Legend | None = open_legend(name)
        while level is not None:
            if present <= set(level.codes):
                way = find_crosswalk(level, target)
                if way is not None:
                    fitting[level.address] = way
                break
            level = level.upper
    if len(fitting) > 1:
        raise LegendError(
            f"{where} holds the codes {join_words(sorted(present), most=6)}, which are in {join_words(fitting)}. "
            f"Name their legend (--source)."
        )
    for name, way in fitting.items():
        note(f"{where} holds codes of legend '{name}'.")
        _say_way(way)
    return next(iter(fitting.values()), None)


def _say_way(crosswalk: Crosswalk) -> None:
    """Report the tables of a way over several."""
    if len(crosswalk.way) > 1:
        note(
            f"Crosswalk {crosswalk.source} -> {crosswalk.target.address}: {'; '.join(crosswalk.way)} "
            f"(tesela legend crosswalk writes it as a CSV to edit)."
        )


def write_crosswalk(crosswalk: Crosswalk, path: str | Path) -> Path:
    """
    Write a crosswalk as a CSV (from, to, share, note), to edit and to give as `path` or ``--crosswalk``.

    Raises
    ------
    LegendError
        If the name does not end in .csv.
    """
    file = Path(path)
    if file.suffix.lower() != ".csv":
        raise LegendError(f"{path}: a crosswalk is written as a CSV; let the name end in .csv.")
    text = io.StringIO()
    writer = csv.DictWriter(text, ["from", "to", "share", "note"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(crosswalk.to_rows())
    write_text(file, text.getvalue())
    return file


def _legend(source: str | Legend) -> Legend | None:
    """Source as a legend, with the origins that can be told from its classes; None for the name of a column."""
    if isinstance(source, Legend):
        known = not source.composed and split_address(source.address)[0] in list_legends()
        return source if known else with_origins(source)
    try:
        return open_legend(source)
    except LegendError:
        return None


def _is_level(target: Legend, source: Legend) -> bool:
    """Whether the target is the source's legend, or a coarser level of it."""
    same = target.name == source.name and target.depth <= source.depth
    return same and target.same_classes(source.level(target.depth))


def _direct(source: str, target: Legend) -> Crosswalk | None:
    """A shipped crosswalk: from this level of the source, else from a finer one, else from a coarser one."""
    name, _ = split_address(source)
    if name not in list_legends():
        return _shipped(source, target)
    finest = open_legend(name)
    own = open_legend(source)
    finer = range(own.depth + 1, finest.depth + 1)
    for level in (own.depth, *finer, *range(own.depth - 1, 0, -1)):
        table = _shipped(finest.level(level).address, target) or (
            _shipped(name, target) if level == finest.depth else None
        )
        if table is None:
            continue
        if level == own.depth:
            return table
        to_level = (
            Crosswalk.identity(own, level) if level < own.depth else _to_children(own, finest.level(level))
        )
        return Crosswalk(source, target, to_level.then(table).rows, table.steps)
    return None


def _shipped(source: str, target: Legend) -> Crosswalk | None:
    rows = crosswalk_tables().get(f"{source}__{target.name}")
    if rows is None:
        return None
    finest = open_legend(target.name)
    table = Crosswalk.from_rows(source, finest, parse_csv(rows.read_text(encoding="utf-8")))
    return table if target.depth == finest.depth else table.to_level(target.depth)


def _to_children(own: Legend, finer: Legend) -> Crosswalk:
    """From the classes of a level to those of a finer one, in equal shares."""
    rows = []
    for code in own.codes:
        children = [item for item in finer.codes if finer.ancestor(item, own.depth).code == code]
        rows += [CrosswalkRow(code, item, 1 / len(children)) for item in children]
    return Crosswalk(own.address, finer, tuple(rows))


def _through(source: str, target: Legend) -> Crosswalk | None:
    """
    Two shipped crosswalks in a row.

    Of several ways, those that leave the fewest codes out count; they must agree.
    """
    if (
        split_address(source)[0] == target.name
    ):  # a finer level of the legend: no other legend knows it better
        return None
    ways: list[tuple[str, Crosswalk]] = []
    for name in list_legends():
        middle = open_legend(name)
        first = None if name in (split_address(source)[0], target.name) else _direct(source, middle)
        second = None if first is None else _direct(middle.address, target)
        if first is not None and second is not None:
            ways.append((name, first.then(second)))
    if not ways:
        return None
    fewest = min(_lost(way) for _, way in ways)
    best = [(name, way) for name, way in ways if _lost(way) == fewest]
    name, chosen = best[0]
    for other_name, other in best[1:]:
        if other.main_target != chosen.main_target:
            differing = [
                code for code in chosen.codes if chosen.main_target[code] != other.main_target.get(code)
            ]
            raise LegendError(
                f"From '{source}' to '{target.address}' two ways disagree, over '{name}' and over '{other_name}' "
                f"({join_words(differing, most=6)}). Give a CSV with the columns from, to (--crosswalk FILE); "
                f"tesela legend crosswalk writes each half."
            )
    notes = {row.code: row.note for row in chosen.rows}
    rows = tuple(
        CrosswalkRow(row.code, row.to, row.share, notes[row.code] or f"over {name}") for row in chosen.rows
    )
    return Crosswalk(source, target, rows, chosen.way)


def _lost(crosswalk: Crosswalk) -> int:
    """Number of codes that are left out."""
    return sum(value == 0 for value in crosswalk.main_target.values())
