"""Results as tables of a PostGIS database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from tesela.core.errors import InputError
from tesela.io.vector.postgis import connected, table_parts

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd

_MARK = "written by tesela"
"""Comment of the tables that `write_postgis` may replace."""


def write_postgis(address: str, frame: gpd.GeoDataFrame, *, table: str) -> None:
    """
    Write a table with geometry, its index and its comment in one transaction: all or nothing.

    A table of that name is replaced if Tesela wrote it.

    Parameters
    ----------
    table : str
        ``schema.table`` or ``table``.

    Raises
    ------
    InputError
        If the table belongs to somebody else, its CRS has no number, or the database cannot be written.
    """
    from psycopg import sql

    schema, name = table_parts(table)
    srid = None if frame.crs is None else frame.crs.to_epsg()
    if srid is None:
        raise InputError(
            f"{address}: the coordinate system of the polygons has no EPSG code, which a table needs; reproject the "
            "map first."
        )
    shape = str(frame.geometry.name)
    fields = {str(column): _type_of(frame[column]) for column in frame.columns if column != shape}
    target = sql.Identifier(*((schema, name) if schema else (name,)))
    columns = [sql.SQL("{} {}").format(sql.Identifier(key), sql.SQL(kind)) for key, kind in fields.items()]
    columns.append(sql.SQL("geom geometry(MultiPolygon, {})").format(sql.Literal(srid)))
    multi = [shapely.MultiPolygon(shapely.get_parts(item).tolist()) for item in frame.geometry]
    shapes = shapely.to_wkb(shapely.set_srid(np.array(multi, object), srid), hex=True, include_srid=True)
    cells = [[_cell(value) for value in frame[key].astype(object)] for key in fields]
    with connected(address, write=True) as connection:
        text = target.as_string(connection)
        existing = connection.execute(
            "SELECT to_regclass(%s)::oid, obj_description(to_regclass(%s))", (text, text)
        )
        oid, comment = existing.fetchone() or (None, None)
        if oid is not None and comment != _MARK:
            raise InputError(f"{address}: table {table} exists and is not Tesela's; name another one.")
        if oid is not None:
            connection.execute(sql.SQL("DROP TABLE {}").format(target))
        connection.execute(
            sql.SQL("CREATE TABLE {} (fid bigint PRIMARY KEY, {})").format(
                target, sql.SQL(", ").join(columns)
            )
        )
        listed = sql.SQL(", ").join(map(sql.Identifier, ("fid", *fields, "geom")))
        with (
            connection.cursor() as cursor,
            cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN").format(target, listed)) as copy,
        ):
            for number, (*row, one) in enumerate(zip(*cells, shapes, strict=True), start=1):
                copy.write_row([number, *row, one])
        connection.execute(sql.SQL("CREATE INDEX ON {} USING gist (geom)").format(target))
        connection.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(target, sql.Literal(_MARK)))
        connection.execute(sql.SQL("ANALYZE {}").format(target))


def _type_of(column: pd.Series[Any]) -> str:
    import pandas as pd

    kinds = {
        "boolean": pd.api.types.is_bool_dtype,
        "bigint": pd.api.types.is_integer_dtype,
        "double precision": pd.api.types.is_float_dtype,
        "timestamptz": lambda dtype: isinstance(dtype, pd.DatetimeTZDtype),
        "timestamp": pd.api.types.is_datetime64_dtype,
    }
    return next((kind for kind, holds in kinds.items() if holds(column.dtype)), "text")


def _cell(value: object) -> object:
    import pandas as pd

    if value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, bool | int | float) else str(value)
