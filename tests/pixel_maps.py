"""Small maps to generalise, and their areas."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from affine import Affine
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy import ndimage

from tesela.core.legend import LandClass, Legend
from tesela.io.maps import ClassMap, MapReader, write_map

Values = NDArray[np.uint8]

ORIENTATIONS: dict[str, Callable[[Values], Values]] = {
    "flipped left to right": np.fliplr,
    "flipped top to bottom": np.flipud,
    "rotated by 90 degrees": np.rot90,
    "rotated by 180 degrees": lambda values: np.rot90(values, 2),
    "transposed": np.transpose,
}
LEGEND = Legend("test", tuple(LandClass(v, f"c{v}", f"Class {v}", f"#0000{v:02x}") for v in range(1, 10)))


def picture(text: str) -> Values:
    """Rows of digits; a dot is nodata."""
    rows = [line.strip().replace(".", "0") for line in text.strip().splitlines()]
    return np.array([[int(digit) for digit in row] for row in rows], np.uint8)


def ranks_of(*rows: tuple[int, ...]) -> NDArray[np.int32]:
    """Ranks from rows for classes 1, 2, ..."""
    table = np.zeros((256, 256), np.int32)
    table[1 : len(rows) + 1, 1 : len(rows[0]) + 1] = rows
    return table


def areas_of(values: Values) -> list[tuple[int, int, NDArray[np.bool_]]]:
    """Class, pixels and mask of every area, by scipy."""
    areas = []
    for value in np.unique(values[values > 0]):
        labels, count = ndimage.label(values == value)
        areas += [(int(value), int((labels == k).sum()), labels == k) for k in range(1, count + 1)]
    return areas


def is_cut(values: Values, mask: NDArray[np.bool_]) -> bool:
    """Whether an area touches the edge of the map or nodata."""
    edge = mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()
    return bool(edge or (ndimage.binary_dilation(mask) & (values == 0)).any())


@st.composite
def maps(draw: st.DrawFn, *, most_px: int = 14) -> Values:
    """Small maps of up to five classes, with nodata, from noise to coarse blocks."""
    shape = (draw(st.integers(1, most_px)), draw(st.integers(1, most_px)))
    classes = draw(st.integers(1, 5))
    lowest = draw(st.sampled_from([0, 1]))
    zoom = draw(st.sampled_from([1, 1, 2, 3]))
    coarse = draw(
        arrays(np.uint8, (-(-shape[0] // zoom), -(-shape[1] // zoom)), elements=st.integers(lowest, classes))
    )
    return np.ascontiguousarray(np.kron(coarse, np.ones((zoom, zoom), np.uint8))[: shape[0], : shape[1]])


@st.composite
def rank_tables(draw: st.DrawFn) -> NDArray[np.int32]:
    return ranks_of(*draw(arrays(np.int32, (5, 5), elements=st.integers(0, 2))).tolist())


EDGES = st.sampled_from(["keep", "merge"])
UNITS = st.integers(1, 12)
WIDTHS = st.sampled_from([2.0, 2.5, 3.0, 3.33, 4.0, 5.0])


def grid_for(values: Values, pixel_m: float = 10.0) -> GeoBox:
    return GeoBox(values.shape, Affine(pixel_m, 0, 440_000, 0, -pixel_m, 4_090_000), "EPSG:25830")


def written(folder: Path, values: Values, legend: Legend = LEGEND, name: str = "map.tif") -> ClassMap:
    return write_map(folder / name, values, grid_for(values), legend=legend)


def read_all(source: ClassMap) -> Values:
    with MapReader(source) as reader:
        return reader.read(source.grid)


def landscape(side_px: int, *, seed: int = 0, classes: int = 6, noise: float = 0.1) -> tuple[Values, Values]:
    """Fractal landscape, and the same with salt and pepper."""
    rng = np.random.default_rng(seed)
    field = np.zeros((side_px, side_px))
    for cell in (64, 24, 8):
        coarse = rng.standard_normal((side_px // cell + 2, side_px // cell + 2))
        field += ndimage.zoom(coarse, cell, order=1)[:side_px, :side_px] * (cell / 64) ** 0.7
    cuts = np.quantile(field, np.linspace(0, 1, classes + 1)[1:-1])
    truth = (rng.permutation(classes) + 1).astype(np.uint8)[np.searchsorted(cuts, field)]
    noisy = np.where(rng.random(truth.shape) < noise, rng.integers(1, classes + 1, truth.shape), truth)
    return truth, noisy.astype(np.uint8)
