"""Uncertain areas: where a map is least sure of its classes, one area of one class in each block, as a review queue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray

from tesela.core.errors import InputError
from tesela.core.grid import window_grid
from tesela.core.legend import NODATA
from tesela.generalise.labelling import label_regions
from tesela.generalise.uncertainty import UncertaintyFiles, UncertaintyReader
from tesela.io.layers import category_style, legend_categories, write_layers
from tesela.io.manifest import record_step
from tesela.io.maps import ClassMap
from tesela.io.outputs import check_file_outputs
from tesela.io.pixel_areas import pixel_area_m2
from tesela.io.update_queue import PROPOSALS, QUEUE, ClassChoice, QueueFacts, queue_tables

if TYPE_CHECKING:
    import geopandas as gpd

BLOCK_PX = 32
"""Default side of a block."""
LEAST_SHARE = 1 / 16
"""Least share of a block that an area covers."""
MOST = 200
"""Areas in a queue, if no number is given."""


@dataclass(frozen=True)
class UncertainAreas:
    """What `rank_areas` found."""

    path: Path
    """The queue."""
    frame: gpd.GeoDataFrame
    """Its proposals, in order of rank."""
    candidates: int
    """Blocks with an area that could be asked about."""

    @property
    def classes(self) -> list[tuple[str, int, float]]:
        """Code, areas and hectares of each class in the queue."""
        sums = self.frame.groupby("old_code")["area_ha"].agg(["count", "sum"])
        return [(str(code), int(row["count"]), float(row["sum"])) for code, row in sums.iterrows()]

    def to_dict(self) -> dict[str, object]:
        """Document for `--json`."""
        return {
            "queue": str(self.path),
            "areas": len(self.frame),
            "candidates": self.candidates,
            "area_ha": float(self.frame["area_ha"].sum()),
            "classes": [{"code": code, "areas": count, "area_ha": ha} for code, count, ha in self.classes],
        }


def rank_areas(
    source: ClassMap,
    out: str | Path,
    uncertainty: UncertaintyFiles,
    *,
    labels: str | Path | ClassMap | None = None,
    block_px: int = BLOCK_PX,
    most: int = MOST,
) -> UncertainAreas:
    """
    Write the areas in which a map is most uncertain as a queue for `tesela review serve`.

    A candidate is a connected area of one class within a square block, of at least a sixteenth of the block: the one
    with the highest mean uncertainty in its block, so that the queue is spread over the map. Uncertainty sampling by
    confidence, margin and entropy follows [Settles2009]_. The map is read block row by block row.

    Parameters
    ----------
    source : ClassMap
        The map; also of an area without any reference.
    out : str or Path
        The queue, a GeoPackage as `tesela.io.update_queue` describes it. Proposals have the class of the map as old
        code and, from `probabilities` or `against`, the second class of the area as new code, and the field
        uncertainty, 0 to 1.
    labels : str, Path or ClassMap, optional
        Labels on which the expert was trained: their pixels are left out.
    block_px : int
        Side of the blocks in pixels.
    most : int
        Areas to write.

    Raises
    ------
    InputError
        If nothing shows uncertainty, a file is of another kind, or no area is left.
    """
    path = Path(out)
    if path.suffix.lower() != ".gpkg":
        raise InputError(f"{out}: a queue is a GeoPackage; give it the extension .gpkg.")
    if not uncertainty.given:
        raise InputError(
            f"{source.path}: nothing shows where this map is uncertain; give its confidence, entropy or probabilities, "
            f"or another map to compare with (--confidence, --entropy, --probabilities, --against FILE)."
        )
    if block_px < 4 or most < 1:
        raise InputError(f"Blocks of {block_px} px, {most} areas: at least 4 px and 1 area are needed.")
    inputs = [_path(item) for item in (source, *uncertainty.given, *([] if labels is None else [labels]))]
    check_file_outputs([path], inputs=inputs)
    with ExitStack() as stack:
        pixels = stack.enter_context(UncertaintyReader(source, uncertainty, labels))
        best = list(_best_areas(pixels, block_px))
        if not best:
            raise InputError(
                f"{source.path}: no block of {block_px} px has an area of one class with values of uncertainty"
                + (" and without labels." if labels is not None else ". Do the rasters cover the map?")
            )
        chosen = sorted(best, key=lambda area: -area.uncertainty)[:most]
        frame, blocks = _frames(chosen, pixels, block_px)
    choices = [ClassChoice(item.code, item.name, item.color) for item in source.legend.classes]
    write_layers(
        path,
        {QUEUE: blocks, PROPOSALS: frame, **queue_tables(choices, QueueFacts(source.path, "", ""))},  # type: ignore[dict-item]
        styles={PROPOSALS: category_style("old_code", legend_categories(source.legend))},
    )
    record_step(
        "review rank", [path], inputs=inputs, settings={"block_px": block_px, "most": most},
        legend=source.legend.address,
    )  # fmt: skip
    return UncertainAreas(path, frame, len(best))


@dataclass(frozen=True)
class Area:
    """An area of one class in a block."""

    row: int
    """First row of the block."""
    col: int
    number: int
    """Of the region in its block."""
    value: int
    uncertainty: float
    second: int
    """Value of the class that is meant, if it is not that of the map; 0 for none."""


def _best_areas(pixels: UncertaintyReader, block_px: int) -> Iterator[Area]:
    """The most uncertain area of each block that has one."""
    rows, cols = pixels.source.grid.shape
    for row in range(0, rows, block_px):
        high = min(block_px, rows - row)
        values, uncertainty, second = pixels.read(window_grid(pixels.source.grid, row, 0, high, cols))
        for col in range(0, cols, block_px):
            cut = np.s_[:, col : col + block_px]
            area = _best_area(values[cut], uncertainty[cut], second[cut], least_px=block_px**2 * LEAST_SHARE)
            if area is not None:
                yield Area(row, col, *area)


def _best_area(
    values: NDArray[np.uint8], uncertainty: NDArray[np.float32], second: NDArray[np.uint8], *, least_px: float
) -> tuple[int, int, float, int] | None:
    """Number, class, mean uncertainty and second class of the most uncertain region; None without a large one."""
    numbers, count = label_regions(np.ascontiguousarray(values))
    if not count:
        return None
    inside = numbers >= 0
    sizes = np.bincount(numbers[inside], minlength=count)
    sums = np.bincount(numbers[inside], uncertainty[inside], minlength=count)
    means = np.where(sizes >= least_px, sums / sizes, -1)
    best = int(means.argmax())
    if means[best] < 0:
        return None
    where = numbers == best
    votes = np.bincount(second[where], minlength=256)
    votes[NODATA] = 0
    return best, int(values[where][0]), float(means[best]), int(votes.argmax()) if votes.any() else NODATA


def _frames(
    chosen: list[Area], pixels: UncertaintyReader, block_px: int
) -> tuple[gpd.GeoDataFrame, gpd.GeoDataFrame]:
    """Rows of the proposals and of their blocks."""
    import geopandas as gpd
    from rasterio.features import shapes

    grid, legend = pixels.source.grid, pixels.legend
    outlines, sides, sizes, whole = [], [], [], []
    for area in chosen:
        high, wide = (
            min(block_px, side - at) for side, at in zip(grid.shape, (area.row, area.col), strict=True)
        )
        block = window_grid(grid, area.row, area.col, high, wide)
        values, _, _ = pixels.read(block)
        mask = label_regions(values)[0] == area.number
        traced = shapes(mask.astype(np.uint8), mask=mask, transform=block.affine)
        outlines.append(shapely.union_all([shapely.geometry.shape(shape) for shape, _ in traced]))
        sides.append(
            shapely.Polygon([block.affine * at for at in ((0, 0), (wide, 0), (wide, high), (0, high))])
        )
        sizes.append(int(mask.sum()))
        whole.append(high * wide)
    number = np.arange(1, len(chosen) + 1)
    uncertainty = np.array([item.uncertainty for item in chosen])
    codes = {NODATA: ""} | {item.value: item.code for item in legend.classes}
    new = np.array([codes[item.second] for item in chosen], object)
    crs = grid.crs.to_wkt() if grid.crs is not None else None
    nothing = np.full(len(chosen), "", object)
    frame = gpd.GeoDataFrame(
        {
            "feature": number,
            "rank": number,
            "verdict": np.full(len(chosen), "uncertain", object),
            "old_code": np.array([codes[item.value] for item in chosen], object),
            "new_code": new,
            "new_class": new,
            "uncertainty": uncertainty,
            "area_ha": np.array(sizes) * pixel_area_m2(grid) / 10_000,
            "share": np.array(sizes) / np.array(whole),
            "decision": nothing,
            "note": nothing,
        },
        geometry=outlines,
        crs=crs,
    )
    blocks = gpd.GeoDataFrame(
        {"feature": number, "rank": number, "urgency": uncertainty * 100, "verdict": frame["verdict"]},
        geometry=sides,
        crs=crs,
    )
    return frame, blocks


def _path(item: str | Path | ClassMap) -> str | Path:
    return item.path if isinstance(item, ClassMap) else item
