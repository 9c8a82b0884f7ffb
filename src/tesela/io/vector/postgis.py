"""Layers of a PostgreSQL database with PostGIS: tables and queries, read by window through their index."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from tesela.core.errors import InputError, join_words, unknown_name
from tesela.io.vector.address import parse_address
from tesela.io.vector.gdal import Bounds, Features, LayerFacts

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.sql import Composable

_QUERY = re.compile(r"\s*(select|with)\b", re.IGNORECASE)
_NUMBERS = ("fid", "gid", "id", "ogc_fid", "objectid")
"""Columns that number the rows of a query, if they hold integers; else its rows are counted."""

_LINEAR = (
    "POINT",
    "MULTIPOINT",
    "LINESTRING",
    "MULTILINESTRING",
    "CIRCULARSTRING",
    "COMPOUNDCURVE",
    "MULTICURVE",
)
_SECONDS = 10


@dataclass(frozen=True)
class _Table:
    """A table or query, ready to select from."""

    source: Composable
    """What follows FROM."""
    shape: Composable
    """Expression of the geometry."""
    number: Composable
    """Expression of an integer that numbers the rows and does not change."""
    srid: int
    fields: tuple[str, ...]


@contextmanager
def connected(address: str, *, write: bool = False) -> Iterator[Connection[Any]]:
    """
    A connection in one transaction, committed at the end; passwords come from PGPASSWORD or ``~/.pgpass``.

    Without `write` the server refuses every change, also those of a query.

    Raises
    ------
    InputError
        If the driver is not installed, the server cannot be reached, or a statement fails.
    """
    try:
        import psycopg
    except ImportError:
        raise InputError(
            "PostgreSQL is read through psycopg, which is not installed: install the extra `postgis` "
            "(pip install 'tesela[postgis]')."
        ) from None
    try:
        with psycopg.connect(address, connect_timeout=_SECONDS, application_name="tesela") as connection:
            connection.read_only = not write
            yield connection
    except psycopg.Error as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{address}: {reason.rstrip('.?')}.") from None


def open_postgis(address: str, layer: str | None, *, option: str = "--layer") -> LayerFacts:
    """
    Describe a table or a query.

    Parameters
    ----------
    address : str
        ``postgresql://user@host:port/database``.
    layer : str, optional
        ``schema.table``, ``table``, or a query that begins with SELECT or WITH; needed where the database has
        several tables of polygons.

    Raises
    ------
    InputError
        If there is no such table, or the database cannot be read.
    """
    import pyproj
    from psycopg import sql

    _describe.cache_clear()
    with connected(address) as connection:
        chosen = layer or _only_table(connection, address, option=option)
        table = _described(connection, address, chosen)
        found = connection.execute(
            sql.SQL(
                "SELECT n, ST_XMin(e), ST_YMin(e), ST_XMax(e), ST_YMax(e) FROM "
                "(SELECT count(*) AS n, ST_Extent({}) AS e FROM {}) x"
            ).format(table.shape, table.source)
        ).fetchone()
        system = connection.execute(
            "SELECT auth_name || ':' || auth_srid, srtext FROM spatial_ref_sys WHERE srid = %s", (table.srid,)
        ).fetchone()
    count, *sides = found or (0, None, None, None, None)
    crs = ""
    for text in system or ():
        try:
            crs = pyproj.CRS.from_user_input(text).to_wkt()
            break
        except pyproj.exceptions.CRSError:
            continue
    left, bottom, right, top = (0.0 if side is None else float(side) for side in sides)
    return LayerFacts(chosen, crs, (left, bottom, right, top), table.fields, int(count))


def read_postgis(address: str, layer: str, *, bounds: Bounds | None, columns: list[str] | None) -> Features:
    """
    Features whose envelope touches the bounds, by number.

    Raises
    ------
    InputError
        If the database cannot be read.
    """
    import pandas as pd
    from psycopg import sql

    table = _describe(address, layer)
    names = list(table.fields) if columns is None else columns
    parts = [table.number, sql.SQL("ST_AsBinary({})").format(table.shape), *map(sql.Identifier, names)]
    query = sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(parts), table.source)
    if bounds is not None:
        box = sql.SQL(" WHERE {} && ST_MakeEnvelope({}, {}, {}, {}, {})").format(
            table.shape, *(sql.Literal(float(side)) for side in bounds), sql.Literal(table.srid)
        )
        query = query + box
    with connected(address) as connection:
        rows = connection.execute(query + sql.SQL(" ORDER BY 1")).fetchall()
    wkb = np.empty(len(rows), object)
    wkb[:] = [None if row[1] is None else bytes(row[1]) for row in rows]
    numbers = np.array([row[0] for row in rows], np.int64)
    values = {name: [row[2 + at] for row in rows] for at, name in enumerate(names)}
    return Features(pd.DataFrame(values, index=range(len(rows))), wkb, numbers)


def digest_rows(address: str) -> str:
    """
    Digest of all rows of a table or query, whatever their order; the server computes it, no row is sent.

    Parameters
    ----------
    address : str
        ``postgresql://user@host:port/database|layername=schema.table``; without a layer, the only table of polygons.

    Raises
    ------
    InputError
        If there is no such table, or the database cannot be read.
    """
    from psycopg import sql

    found = parse_address(address)
    with connected(found.source) as connection:
        chosen = found.layer or _only_table(connection, found.source, option="layer")
        table = _described(connection, found.source, chosen)
        row = connection.execute(
            sql.SQL("SELECT count(*), sum(hashtextextended(q::text, 0)::numeric) FROM {}").format(
                table.source
            )
        ).fetchone()
    return f"{found.source}\0{chosen}\0{row}"


def _only_table(connection: Connection[Any], address: str, *, option: str) -> str:
    rows = connection.execute(
        "SELECT f_table_schema || '.' || f_table_name FROM geometry_columns WHERE NOT (upper(type) = ANY(%s)) "
        "ORDER BY 1",
        (list(_LINEAR),),
    ).fetchall()
    names = sorted({str(row[0]) for row in rows})
    if len(names) != 1:
        raise InputError(
            f"{address}: has {len(names)} tables of polygons ({join_words(names) or 'none'})"
            + (f"; name one ({option} {names[0]}), or a query." if names else ".")
        )
    return names[0]


@lru_cache(maxsize=4)
def _describe(address: str, layer: str) -> _Table:
    with connected(address) as connection:
        return _described(connection, address, layer)


def _described(connection: Connection[Any], address: str, layer: str) -> _Table:
    """Geometry, numbers and fields of a table or query."""
    from psycopg import sql

    if _QUERY.match(layer):
        inner = sql.SQL("({}) AS q").format(sql.SQL(layer.rstrip().rstrip(";")))
        keys: list[str] = []
    else:
        schema, name = table_parts(layer)
        inner = sql.SQL("{} AS q").format(sql.Identifier(*((schema, name) if schema else (name,))))
        _check_table(connection, address, layer)
        keys = [
            str(row[0])
            for row in connection.execute(
                "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND "
                "a.attnum = ANY(i.indkey) WHERE i.indrelid = to_regclass(%s) AND i.indisprimary",
                (".".join(f'"{part}"' for part in (schema, name) if part),),
            )
        ]
    cursor = connection.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(inner))
    kinds = _type_names(connection, {item.name: item.type_code for item in cursor.description or ()})
    shapes = [name for name, kind in kinds.items() if kind in ("geometry", "geography")]
    if not shapes:
        raise InputError(f"{address}: {layer} has no column of geometries (it has {join_words(kinds)}).")
    column = sql.SQL("q.{}::geometry").format(sql.Identifier(shapes[0]))
    if kinds[shapes[0]] == "geometry":
        column = sql.SQL("q.{}").format(sql.Identifier(shapes[0]))  # without the cast its index is used
    srids = [
        int(row[0])
        for row in connection.execute(
            sql.SQL("SELECT DISTINCT ST_SRID({}) FROM {} WHERE {} IS NOT NULL LIMIT 3").format(
                column, inner, column
            )
        )
    ]
    if len(srids) > 1:
        raise InputError(
            f"{address}: {layer} holds geometries of several coordinate systems (SRID {join_words(srids)}); select "
            "those of one."
        )
    fields = tuple(name for name in kinds if name not in shapes)
    integers = [name for name in fields if kinds[name] in ("int2", "int4", "int8")]
    key = keys[0] if len(keys) == 1 and keys[0] in integers else None
    if _QUERY.match(layer):
        key = next((name for name in integers if name.lower() in _NUMBERS), None)
    if key is not None:
        return _Table(inner, column, sql.SQL("q.{}").format(sql.Identifier(key)), (srids or [0])[0], fields)
    if not _QUERY.match(layer) and _is_stored(connection, layer):
        number = sql.SQL("((q.ctid::text::point)[0]::bigint * 65536 + (q.ctid::text::point)[1]::bigint)")
        return _Table(inner, column, number, (srids or [0])[0], fields)
    counted = sql.SQL("(SELECT row_number() OVER () AS tesela_row, q.* FROM {}) AS q").format(inner)
    return _Table(counted, column, sql.SQL("q.tesela_row"), (srids or [0])[0], fields)


def _check_table(connection: Connection[Any], address: str, layer: str) -> None:
    schema, name = table_parts(layer)
    text = ".".join(f'"{part}"' for part in (schema, name) if part)
    row = connection.execute("SELECT to_regclass(%s)", (text,)).fetchone()
    if row is None or row[0] is None:
        known = connection.execute(
            "SELECT f_table_schema || '.' || f_table_name FROM geometry_columns ORDER BY 1"
        )
        raise InputError(f"{address}: {unknown_name('table', layer, [str(item[0]) for item in known])}")


def _is_stored(connection: Connection[Any], layer: str) -> bool:
    """Whether a table has rows of its own, unlike a view."""
    text = ".".join(f'"{part}"' for part in table_parts(layer) if part)
    row = connection.execute(
        "SELECT relkind FROM pg_class WHERE oid = to_regclass(%s)::oid", (text,)
    ).fetchone()
    return row is not None and row[0] in ("r", "m", b"r", b"m")


def _type_names(connection: Connection[Any], codes: Mapping[str, int]) -> dict[str, str]:
    rows = connection.execute(
        "SELECT oid::bigint, typname FROM pg_type WHERE oid = ANY(%s::oid[])", (list(codes.values()),)
    ).fetchall()
    names = {int(row[0]): str(row[1]) for row in rows}
    return {name: names.get(int(code), "") for name, code in codes.items()}


def table_parts(layer: str) -> tuple[str, str]:
    """Schema, empty if none is named, and name of a table."""
    schema, _, name = layer.rpartition(".")
    return schema.strip('"'), name.strip('"')
