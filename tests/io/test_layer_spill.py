"""The spill: rows in parts on disk, written in any order with little memory."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import shapely

from tesela.io import layer_spill
from tesela.io.layer_spill import LayerSpill


def fill(folder: Path, count: int, each: int) -> LayerSpill:
    """Squares with their number, some at a time; the first is a multipolygon, and the first part has no texts."""
    spill = LayerSpill(folder, "rows")
    for first in range(0, count, each):
        numbers = np.arange(first, min(count, first + each))
        shapes = shapely.box(numbers, 0, numbers + 1, 1)
        if first == 0:
            shapes[0] = shapely.MultiPolygon([shapes[0], shapely.box(0, 5, 1, 6)])
        texts = [str(number) if first else None for number in numbers]
        spill.add(gpd.GeoDataFrame({"number": numbers, "text": texts}, geometry=shapes, crs=25830))
    return spill


@pytest.mark.parametrize(
    ("count", "each", "rows", "most"), [(1, 1, 10, 4), (997, 37, 10, 7), (40, 40, 50, 4)]
)
def test_rows_come_in_the_order_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, each: int, rows: int, most: int
) -> None:
    monkeypatch.setattr(layer_spill, "_ROWS", rows)
    monkeypatch.setattr(layer_spill, "_BUCKETS", most)
    spill = fill(tmp_path, count, each)
    order = np.random.default_rng(0).permutation(count)
    out = tmp_path / "out.gpkg"
    spill.write(out, layer="ordered", order=order, more=[(spill, "as added", None)])
    for layer, wanted in (("ordered", order), ("as added", np.arange(count))):
        frame = pyogrio.read_dataframe(out, layer=layer)
        assert frame["number"].tolist() == wanted.tolist()
        assert frame.geometry.bounds["minx"].tolist() == wanted.tolist(), "each row keeps its shape"
        assert frame["text"].fillna("").tolist() == [str(n) if n >= each else "" for n in wanted]
        assert set(frame.geom_type) == {"MultiPolygon"}
    assert not list(tmp_path.glob("*bucket*")), "nothing but the parts is left"
