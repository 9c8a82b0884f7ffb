"""Sheets: surroundings that hide their edges, and the join of their maps across zones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
import torch
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from pointwise import LEGEND, Pointwise, make_expert, read_map, write_scene
from tesela.core.errors import GridError, InputError, LegendError
from tesela.core.scene import Scene
from tesela.io.legends import open_legend
from tesela.io.maps import ScoreWriter, write_map
from tesela.io.scenes import open_scene
from tesela.mapping.predict import predict_map
from tesela.mapping.sheet_join import Sheet, join_sheets
from tesela.mapping.surroundings import surround

EAST, NORTH = 500_000, 4_100_000
VALUES = np.asarray(LEGEND.values, np.uint8)


class Near(Pointwise):
    """The pixels four columns to the left and right of each decide."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        wide = torch.nn.functional.pad(images, (4, 4))
        return super().forward(wide[..., :-8] + 0.5 * wide[..., 8:])


def cut(path: Path, image: NDArray[np.uint8], row: int, col: int, shape: tuple[int, int]) -> Scene:
    """Part of an image as a scene of its own."""
    transform = rasterio.Affine(10, 0, EAST + 10 * col, 0, -10, NORTH - 10 * row)
    write_scene(path, shape, transform=transform, nodata=None)
    with rasterio.open(path, "r+") as data:
        data.write(image[:, row : row + shape[0], col : col + shape[1]])
    return open_scene(path)


def test_neighbours_make_the_map_at_the_edge_that_of_the_whole_area(tmp_path: Path) -> None:
    image = write_scene(tmp_path / "all.tif", (96, 160), nodata=None)
    left = cut(tmp_path / "left.tif", image, 0, 0, (96, 90))
    right = cut(tmp_path / "right.tif", image, 0, 90, (96, 70))
    expert = make_expert(Near())
    options = {"engine": "torch", "precision": "fp32", "overlap_px": 16}
    predict_map(expert, open_scene(tmp_path / "all.tif"), tmp_path / "whole.tif", **options)  # type: ignore[arg-type]
    for scene, others in ((left, [right]), (right, [left])):
        out = tmp_path / f"map_{scene.name}.tif"
        predict_map(expert, scene, out, neighbours=[*others, scene], **options)  # type: ignore[arg-type]
    joined = np.concatenate([read_map(tmp_path / f"map_{name}.tif") for name in ("left", "right")], axis=1)
    whole = read_map(tmp_path / "whole.tif")
    assert (joined == whole).all()
    predict_map(expert, left, tmp_path / "alone.tif", **options)  # type: ignore[arg-type]
    assert (read_map(tmp_path / "alone.tif") != whole[:, :90]).any(), "the edge shows without them"
    assert not list(tmp_path.glob(".*")), "nothing is left beside the maps"


def test_only_sheets_of_the_same_pixels_and_date_surround_a_scene(tmp_path: Path) -> None:
    image = write_scene(tmp_path / "all.tif", (96, 160), nodata=None)
    left = cut(tmp_path / "left.tif", image, 0, 0, (96, 90))
    right = cut(tmp_path / "right.tif", image, 0, 90, (96, 70))
    out = tmp_path / "map.tif"
    around = surround(left, [right], margin_px=8, out=out)
    assert around.scene.grid.shape == (96, 98), "there is no sheet above, below or on the left"
    assert (around.top, around.left) == (0, 0)
    assert around.file is not None
    before = around.file.stat().st_mtime_ns
    assert surround(left, [right], margin_px=8, out=out).file == around.file
    assert around.file.stat().st_mtime_ns == before, "a resumed run keeps its parts"
    with rasterio.open(around.file) as data:
        assert (data.read()[:, :, 82:] == image[:, :, 82:98]).all()
    shifted = replace(
        right, grid=GeoBox((96, 70), right.grid.affine * Affine.translation(0.3, 0), right.grid.crs)
    )
    for other in (replace(right, date="2017"), shifted, right.select(["red"])):
        assert surround(left, [other], margin_px=8, out=out).scene is left


def sheet(
    folder: Path, name: str, values: NDArray[np.uint8], *, east: float, crs: str = "EPSG:25830"
) -> Sheet:
    grid = GeoBox(values.shape, Affine(10, 0, east, 0, -10, NORTH), crs)
    return Sheet(name, write_map(folder / f"{name}.tif", values, grid, legend=LEGEND))


def test_overlapping_sheets_meet_in_the_middle_in_any_order(tmp_path: Path) -> None:
    west = sheet(tmp_path, "west", np.full((40, 60), VALUES[0]), east=EAST)
    east = sheet(tmp_path, "east", np.full((40, 60), VALUES[1]), east=EAST + 400)
    made = join_sheets([west, east], tmp_path / "joined.tif")
    values = read_map(tmp_path / "joined.tif")
    assert values.shape == (40, 100)
    middle = values[20]
    assert (middle[:50] == VALUES[0]).all()
    assert (middle[50:] == VALUES[1]).all()
    join_sheets([east, west], tmp_path / "turned.tif")
    assert (tmp_path / "joined.tif").read_bytes() == (tmp_path / "turned.tif").read_bytes()
    assert made.grid.affine == west.map.grid.affine
    # outlines decide before the middle does
    own = gpd.GeoSeries([shapely.box(EAST, NORTH - 400, EAST + 450, NORTH)], crs=25830)
    rest = gpd.GeoSeries([shapely.box(EAST + 450, NORTH - 400, EAST + 900, NORTH)], crs=25830)
    outlined = [replace(west, outline=own), replace(east, outline=rest.to_crs(25829))]
    join_sheets(outlined, tmp_path / "outlined.tif")
    values = read_map(tmp_path / "outlined.tif")
    assert (values[:, :45] == VALUES[0]).all()
    assert (values[:, 45:90] == VALUES[1]).all()
    assert values.shape == (40, 90), "no further than the outlines"


def test_a_hole_of_one_sheet_is_filled_by_another(tmp_path: Path) -> None:
    holed = np.full((40, 60), VALUES[0])
    holed[10:20, 40:45] = 0
    west = sheet(tmp_path, "west", holed, east=EAST)
    east = sheet(tmp_path, "east", np.full((40, 60), VALUES[1]), east=EAST + 400)
    join_sheets([west, east], tmp_path / "joined.tif")
    assert (read_map(tmp_path / "joined.tif")[10:20, 40:45] == VALUES[1]).all()


def test_two_zones_join_without_a_gap_or_a_double_pixel(tmp_path: Path) -> None:
    to_29 = pyproj.Transformer.from_crs(25830, 25829, always_xy=True)

    def truth(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Squares of 150 m on the ground of zone 30."""
        return VALUES[((x // 150).astype(int) + (y // 150).astype(int)) % 2]

    def pixels(grid: GeoBox, change: pyproj.Transformer | None) -> NDArray[np.uint8]:
        rows, cols = np.indices(grid.shape)
        x, y = grid.affine * (cols + 0.5, rows + 0.5)
        return truth(*((x, y) if change is None else change.transform(x, y)))

    east = GeoBox((150, 150), Affine(10, 0, 203_000, 0, -10, NORTH), "EPSG:25830")
    left, bottom, right, top = (
        *to_29.transform(202_000, NORTH - 1600),
        *to_29.transform(203_300, NORTH + 100),
    )
    corner = (min(left, right) // 10 * 10, max(bottom, top) // 10 * 10)
    west = GeoBox((180, 140), Affine(10, 0, corner[0], 0, -10, corner[1]), "EPSG:25829")
    back = pyproj.Transformer.from_crs(25829, 25830, always_xy=True)
    sheets = []
    for name, grid, change, sure in (("east", east, None, 100), ("west", west, back, 50)):
        shown = pixels(grid, change)
        with ScoreWriter(tmp_path / f"{name}_c.tif", grid, ["confidence"], scale=1.0, unit="%") as writer:
            writer.write(0, 0, (sure + shown).astype(np.uint8))
        own_map = write_map(tmp_path / f"{name}.tif", shown, grid, legend=LEGEND)
        sheets.append(Sheet(name, own_map, scores={"confidence": tmp_path / f"{name}_c.tif"}))
    confidence = tmp_path / "joined_confidence.tif"
    made = join_sheets(sheets, tmp_path / "joined.tif", crs="EPSG:25830", scores={"confidence": confidence})
    values = read_map(tmp_path / "joined.tif")
    with rasterio.open(confidence) as data:
        assert (data.descriptions, data.units, data.nodata) == (("confidence",), ("%",), 255)
        scores = data.read(1).astype(int)
    assert (scores[values == 0] == 255).all()
    assert set(np.unique((scores - values)[values > 0])) == {50, 100}, "class and score are of the same sheet"
    join_sheets(sheets, tmp_path / "alone.tif", crs="EPSG:25830")
    assert (tmp_path / "alone.tif").read_bytes() == (tmp_path / "joined.tif").read_bytes()
    wanted = pixels(made.grid, None)
    rows, cols = np.indices(values.shape)
    x, y = made.grid.affine * (cols + 0.5, rows + 0.5)
    inner = (x > 202_200) & (x < 204_400) & (y < NORTH - 100) & (y > NORTH - 1400)
    assert (values[inner] > 0).all(), "no gap between the zones"
    own = x[inner] > 203_200  # deep in the eastern sheet, whose pixels are copied
    assert (values[inner][own] == wanted[inner][own]).all()
    assert (values[inner] == wanted[inner]).mean() > 0.93, "half a pixel at the edges of squares of 15 px"
    assert join_sheets(sheets[:1], tmp_path / "one.tif").grid == east


def test_what_cannot_be_joined_is_refused(tmp_path: Path) -> None:
    one = sheet(tmp_path, "one", np.full((4, 4), VALUES[0]), east=EAST)
    corine = write_map(
        tmp_path / "c.tif", np.ones((4, 4), np.uint8), one.map.grid, legend=open_legend("corine-1")
    )
    with pytest.raises(LegendError, match="The map of two has another legend than that of one"):
        join_sheets([one, Sheet("two", corine)], tmp_path / "out.tif")
    with pytest.raises(GridError, match="'zone 30' is no coordinate system"):
        join_sheets([one], tmp_path / "out.tif", crs="zone 30")
    with pytest.raises(GridError, match="do not fit to EPSG:4258"):
        join_sheets([one], tmp_path / "out.tif", crs="EPSG:4258")
    with pytest.raises(InputError, match="No confidence of one was given to join"):
        join_sheets([one], tmp_path / "out.tif", scores={"confidence": tmp_path / "c.tif"})
    for name, scale in (("coarse", 1.0), ("fine", 0.5)):
        with ScoreWriter(tmp_path / f"{name}.tif", one.map.grid, ["confidence"], scale=scale, unit="%"):
            pass
    pair = [
        replace(one, name=name, scores={"confidence": tmp_path / f"{name}.tif"})
        for name in ("coarse", "fine")
    ]
    with pytest.raises(InputError, match="The confidence of fine has other bands, scale or type than"):
        join_sheets(pair, tmp_path / "out.tif", scores={"confidence": tmp_path / "whole.tif"})
    assert not list(tmp_path.glob("whole*")), "nothing is left of it"
    assert not (tmp_path / "out.tif").exists()
