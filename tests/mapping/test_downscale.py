"""Coarse shares constrain a fine class map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from scipy.ndimage import gaussian_filter

from tesela.core.errors import GridError, LegendError
from tesela.core.legend import Legend, sum_to_level
from tesela.io.abundance import AbundanceMap, AbundanceWriter
from tesela.io.maps import ClassMap, ScoreWriter, open_map, write_map
from tesela.labels.fractions import read_fractions, write_fractions
from tesela.mapping.downscale import place_shares
from unmixing_scene import LEGEND

SIDE, CELL = 600, 46
"""Pixels of 10 m; a cell of MODIS is 46 of them wide."""

FINE = GeoBox((SIDE, SIDE), Affine(10, 0, 500_000, 0, -10, 4_100_000), "EPSG:32630")
SINUSOIDAL = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs"


def make_truth(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Class of each pixel, and probabilities that lean towards the commonest class."""
    rng = np.random.default_rng(seed)
    fields = np.stack([gaussian_filter(rng.normal(0, 1, (SIDE, SIDE)), 9) for _ in range(3)])
    truth = (fields / fields.std() + np.array([0.8, 0, -0.3])[:, None, None]).argmax(0)
    scores = 1.5 * np.eye(3)[truth].transpose(2, 0, 1) + rng.normal(0, 1, (3, SIDE, SIDE))
    scores += np.array([1.5, 0, 0])[:, None, None]
    parts = np.exp(scores)
    return truth, parts / parts.sum(0)


def write_pair(folder: Path, probabilities: np.ndarray) -> tuple[ClassMap, Path]:  # type: ignore[type-arg]
    """A map of the most probable classes and its probabilities, as `tesela predict` writes them."""
    values = np.asarray(LEGEND.values, np.uint8)[probabilities.argmax(0)]
    values[:40, :40] = 0
    made = write_map(folder / "map.tif", values, FINE, legend=LEGEND)
    numbers = np.rint(probabilities * 254).astype(np.uint8)
    numbers[:, :40, :40] = 255
    file = folder / "probabilities.tif"
    with ScoreWriter(file, FINE, LEGEND.names, scale=1 / 254, unit="probability") as writer:
        writer.write(0, 0, numbers)
    return made, file


def sinusoidal_cells() -> GeoBox:
    """Cells of MODIS around the pixels, turned against them."""
    to_cells = Transformer.from_crs(FINE.crs, SINUSOIDAL, always_xy=True)
    left, bottom, right, top = to_cells.transform_bounds(*FINE.boundingbox.bbox)
    side = 463.3127165694
    left, top = np.floor(left / side) * side, np.ceil(top / side) * side
    rows, cols = (int(np.ceil(length / side)) for length in (top - bottom, right - left))
    return GeoBox((rows, cols), Affine(side, 0, left, 0, -side, top), SINUSOIDAL)


def test_shares_of_turned_cells_are_kept_and_the_map_comes_nearer_to_the_truth(tmp_path: Path) -> None:
    truth, probabilities = make_truth()
    source, file = write_pair(tmp_path, probabilities)
    true_map = write_map(
        tmp_path / "truth.tif", np.asarray(LEGEND.values, np.uint8)[truth], FINE, legend=LEGEND
    )
    cells = sinusoidal_cells()
    # a class map summed into shares: what a model can be trained on where there is no other reference
    shares = write_fractions(true_map.path, tmp_path / "shares.tif", like=cells, legend=LEGEND)
    placed = place_shares(source, file, shares, tmp_path / "placed.tif")
    classes, before = open_map(placed.map.path), open_map(source.path)
    seen = read_values(before) > 0
    assert ((read_values(classes) > 0) == seen).all()
    right = [float((read_values(item) == read_values(true_map))[seen].mean()) for item in (before, classes)]
    assert right[1] > right[0] + 0.05
    made = read_fractions(classes.path, like=cells, legend=LEGEND)
    whole = (made.cover > 0.999) & np.isfinite(shares.read()).all(0)
    assert whole.sum() > 100
    error = np.abs(made.shares - shares.read())[:, whole]
    assert error.max() < 0.02  # pixels belong to one cell, but those at its border lie in two
    assert placed.cells > whole.sum()
    assert placed.changed == int((read_values(classes) != read_values(before)).sum())


def test_cells_of_whole_pixels_get_exactly_their_number_of_pixels(tmp_path: Path) -> None:
    _, probabilities = make_truth(1)
    source, file = write_pair(tmp_path, probabilities)
    cells = GeoBox((13, 13), FINE.affine * Affine.scale(CELL), FINE.crs)
    shares = np.zeros((3, 13, 13), np.float32)
    shares[0], shares[2] = 0.25, 0.75
    shares[:, 3, 4] = np.nan
    with AbundanceWriter(tmp_path / "shares.tif", cells, LEGEND) as writer:
        writer.write_shares(0, 0, shares)
    amounts = AbundanceMap(str(tmp_path / "shares.tif"), cells, LEGEND)
    values = read_values(place_shares(source, file, amounts, tmp_path / "placed.tif").map)
    old = read_values(source)

    def cell(row: int, col: int) -> tuple[slice, slice]:
        return slice(CELL * row, CELL * (row + 1)), slice(CELL * col, CELL * (col + 1))

    whole = values[cell(5, 6)]
    assert [(whole == value).sum() for value in LEGEND.values] == [529, 0, 1587]
    assert (values[cell(3, 4)] == old[cell(3, 4)]).all()  # no shares
    assert (values[cell(12, 12)] == 0).sum() == 0
    # class 1 lies where its probability is highest compared with class 3
    lead = (np.log(probabilities[0]) - np.log(probabilities[2]))[cell(5, 6)]
    assert lead[whole == 1].mean() > lead[whole == 3].mean() + 1


def test_shares_of_a_coarser_level_leave_the_classes_below_free(tmp_path: Path) -> None:
    _, probabilities = make_truth(2)
    source, file = write_pair(tmp_path, probabilities)
    cells = GeoBox((6, 6), FINE.affine * Affine.scale(100), FINE.crs)
    coarse = LEGEND.level(1)
    with AbundanceWriter(tmp_path / "shares.tif", cells, coarse) as writer:
        writer.write_shares(0, 0, np.tile(np.array([0.6, 0.4], np.float32)[:, None, None], (1, 6, 6)))
    amounts = AbundanceMap(str(tmp_path / "shares.tif"), cells, coarse)
    values = read_values(place_shares(source, file, amounts, tmp_path / "placed.tif").map)
    block = values[100:200, 100:200]
    present = np.array([(block == value).mean() for value in LEGEND.values])
    assert sum_to_level(present, LEGEND, 1).tolist() == pytest.approx([0.6, 0.4], abs=1e-6)
    assert (present > 0).all()


def test_other_legends_and_cells_finer_than_pixels_are_refused(tmp_path: Path) -> None:
    _, probabilities = make_truth(3)
    source, file = write_pair(tmp_path, probabilities)
    other = Legend.from_rows("other", [{"value": "1", "code": "9", "name": "Ice", "color": "#ffffff"}])
    cells = GeoBox((6, 6), FINE.affine * Affine.scale(100), FINE.crs)
    with pytest.raises(LegendError, match="which is no level of the map's"):
        place_shares(source, file, AbundanceMap("none.tif", cells, other), tmp_path / "out.tif")
    with pytest.raises(GridError, match="from 2 to 4096 px are needed"):
        place_shares(source, file, AbundanceMap("none.tif", FINE, LEGEND), tmp_path / "out.tif")
    assert not (tmp_path / "out.tif").exists()


def read_values(source: ClassMap) -> np.ndarray:  # type: ignore[type-arg]
    """Values of a whole map."""
    import rasterio

    with rasterio.open(source.path) as data:
        return np.asarray(data.read(1))
