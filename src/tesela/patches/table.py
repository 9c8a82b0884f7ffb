"""The patch table: windows of scenes with their labels, one row each."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import GridError, InputError, join_words
from tesela.core.grid import bounds_in, window_grid
from tesela.core.legend import Legend
from tesela.core.scene import Scene
from tesela.io.manifest import write_whole
from tesela.io.maps import ClassMap
from tesela.io.scene_fills import declare_fills
from tesela.patches.overlap import covered_px
from tesela.patches.strips import count_classes, footprints

if TYPE_CHECKING:
    import geopandas as gpd
    from odc.geo.geobox import GeoBox

SPLITS = ("train", "val", "test")
"""Names of the splits, in the order of fractions."""

UNBIASED = "unbiased"
"""Test split of patches of all qualities, in random blocks held out of a split by quality."""

NONE = "none"
"""Split of patches that are not used."""

QUALITIES = ("high", "medium", "low")
"""Quality classes of labels, best first."""

_KEY = b"tesela"
_VERSION = 1


@dataclass(frozen=True, eq=False)
class PatchTable:
    """
    Patches of one or several scenes, with the paths and settings to read them again.

    A patch is a square window of a scene, on the scene's own pixels.
    """

    frame: gpd.GeoDataFrame
    """
    One row per patch, in the CRS of the first scene: patch_id, scene, row, col, size_px, split, quality,
    valid (share of its pixels with imagery in all bands), labelled (share with imagery and a class),
    share_<code> (share with imagery and that class; they sum to `labelled`) and geometry (footprint).
    """
    scenes: Mapping[str, Scene]
    """Scenes by name."""
    labels: Mapping[str, str]
    """Path of the label map of each scene, by the scene's name."""
    legend: Legend
    size_px: int
    stride_px: int
    held: object = field(default=None, repr=False, compare=False)
    """What keeps the temporary files of label maps that were given no path; scenes hold their own."""

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        counts = join_words(f"{count} {split}" for split, count in self.counts.items())
        return f"<PatchTable of {self.legend.address}: {len(self)} patches of {self.size_px} px ({counts})>"

    @property
    def counts(self) -> dict[str, int]:
        """Number of patches by split, train, val and test first."""
        counts = self.frame["split"].value_counts()
        order = [*SPLITS, *sorted(set(counts.index) - set(SPLITS))]
        return {str(split): int(counts[split]) for split in order if split in counts.index}

    @property
    def share_columns(self) -> list[str]:
        """Columns of the class shares, in the order of the legend."""
        return [f"share_{code}" for code in self.legend.codes]

    def of_split(self, split: str) -> gpd.GeoDataFrame:
        """
        Rows of one split.

        Raises
        ------
        InputError
            If it has none.
        """
        rows = self.frame[self.frame["split"] == split]
        if rows.empty:
            there = join_words(f"{count} {name}" for name, count in self.counts.items())
            raise InputError(
                f"No patch is in split '{split}' (there are {there}). Split the table again "
                f"(tesela patches TABLE --split ...)."
            )
        return rows

    def class_pixels(self, split: str | None = None) -> NDArray[np.int64]:
        """Labelled pixels by class, (classes,) int64 in the order of the legend, of one split or of all."""
        rows = self.frame if split is None else self.frame[self.frame["split"] == split]
        pixels = rows[self.share_columns].to_numpy(float) * (rows["size_px"].to_numpy(float) ** 2)[:, None]
        counts: NDArray[np.int64] = np.rint(pixels.sum(axis=0)).astype(np.int64)
        return counts

    def overlap(self, split: str) -> float:
        """
        Number of patches of a split in which one of its pixels lies, on the mean; 1 where none overlap.

        Raises
        ------
        InputError
            If the split has no patches.
        """
        rows = self.of_split(split)
        return len(rows) * self.size_px**2 / covered_px(rows, self.size_px)

    def grid_of(self, scene: str, row: int, col: int) -> GeoBox:
        """Pixel grid of the patch of a scene with its upper left corner at `row`, `col`."""
        return window_grid(self.scenes[scene].grid, int(row), int(col), self.size_px, self.size_px)

    def with_splits(self, splits: Sequence[str] | NDArray[np.object_]) -> PatchTable:
        """The same patches in other splits, one name per row."""
        return replace(self, frame=self.frame.assign(split=np.asarray(splits, object)))

    def write(self, path: str | Path) -> Path:
        """
        Write as GeoParquet; the file alone opens everything again with `open_patches`.

        Paths of imagery and label maps are stored relative to the folder of the file, so that a project can
        be moved as a whole.
        """
        import pyarrow.parquet as pq

        out = Path(path)
        check_table_name(out)
        document = {
            "version": _VERSION,
            "legend": {"name": self.legend.name, "levels": self.legend.levels, "rows": self.legend.to_rows()},
            "size_px": self.size_px,
            "stride_px": self.stride_px,
            "scenes": [_moved(scene, _relative, out.parent).to_dict() for scene in self.scenes.values()],
            "labels": {name: _relative(file, out.parent) for name, file in self.labels.items()},
        }
        with write_whole(out) as part:
            plain = part.with_name("plain.parquet")
            self.frame.to_parquet(plain, index=False)
            table = pq.read_table(plain)
            metadata = dict(table.schema.metadata or {}) | {_KEY: json.dumps(document).encode()}
            pq.write_table(table.replace_schema_metadata(metadata), part)
        return out


def open_patches(path: str | Path) -> PatchTable:
    """
    Read a patch table.

    Raises
    ------
    InputError
        If there is no such file, or it is no patch table.
    """
    import geopandas as gpd
    import pyarrow.parquet as pq

    if not Path(path).exists():
        raise InputError(f"{path}: no such file.")
    try:
        metadata = pq.read_schema(path).metadata or {}
        frame = gpd.read_parquet(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:  # of damaged metadata, too
        raise InputError(f"{path}: not a GeoParquet file ({str(error).partition(chr(10))[0]}).") from None
    if _KEY not in metadata:
        raise InputError(
            f"{path}: is not a patch table: it has no metadata of Tesela. Make one (tesela patches)."
        )
    try:
        return _table_of(path, frame, json.loads(metadata[_KEY]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path}: its header is damaged ({type(error).__name__}: {error}). Make the table again (tesela patches)."
        ) from None


read_patches = open_patches
"""Its name in scripts written before 29 November 2026."""


def _table_of(path: str | Path, frame: gpd.GeoDataFrame, document: dict[str, Any]) -> PatchTable:
    if document["version"] != _VERSION:
        raise InputError(
            f"{path}: is a patch table of version {document['version']}, this Tesela reads version "
            f"{_VERSION}. Make it again (tesela patches)."
        )
    folder = Path(path).resolve().parent  # that of the file itself, also through a link
    scenes = [_moved(Scene.from_dict(item), _absolute, folder) for item in document["scenes"]]
    return PatchTable(
        frame=frame,
        scenes={scene.name: scene for scene in scenes},
        labels={name: _absolute(file, folder) for name, file in document["labels"].items()},
        legend=Legend.from_rows(
            document["legend"]["name"], document["legend"]["rows"], levels=document["legend"]["levels"]
        ),
        size_px=document["size_px"],
        stride_px=document["stride_px"],
    )


def make_patches(
    scenes: Sequence[Scene],
    labels: Sequence[ClassMap],
    *,
    size_px: int = 256,
    stride_px: int | None = None,
    min_labelled: float = 0.5,
) -> PatchTable:
    """
    Cut scenes and their label maps into patches.

    Patches start at the multiples of the stride and are completely inside their scene. Patches without imagery, or
    with too few labelled pixels, are left out. Imagery and labels are read once, by strips.

    Parameters
    ----------
    scenes : sequence of Scene
        Each with a different name.
    labels : sequence of ClassMap
        One per scene, in the same order, or one for all; on any grid, read by nearest pixel.
    size_px : int
        Side of a patch.
    stride_px : int, optional
        Distance between the corners of neighbours; default: the size, so that patches do not overlap.
    min_labelled : float
        Least share of a patch's pixels with a class, 0 to 1.

    Raises
    ------
    InputError
        If scenes and label maps cannot be paired, no patch has enough labelled pixels, or a scene has a fill value that
        its file does not declare.
    GridError
        If a scene is smaller than a patch, or its label map does not overlap it.
    """
    import geopandas as gpd
    import pandas as pd

    stride = size_px if stride_px is None else stride_px
    scenes = [declare_fills(scene) for scene in scenes]
    pairs = _pairs(scenes, labels, size_px=size_px, stride_px=stride, min_labelled=min_labelled)
    legend = pairs[0][1].legend
    rows: list[dict[str, object]] = []
    squares = []
    best, imagery = 0.0, 0.0
    for scene, label_map in pairs:
        origins, counts, valid = count_classes(scene, label_map, size_px=size_px, stride_px=stride)
        shares = counts[:, 1:] / size_px**2
        labelled = shares.sum(axis=1)
        best, imagery = max(best, float(labelled.max())), max(imagery, float(valid.max()))
        chosen = np.flatnonzero((valid > 0) & (labelled >= min_labelled) & (labelled > 0))
        rows += [
            {
                "patch_id": f"{scene.name}-{origins[index][0]:06d}-{origins[index][1]:06d}",
                "scene": scene.name,
                "row": origins[index][0],
                "col": origins[index][1],
                "size_px": size_px,
                "split": NONE,
                "quality": "",
                "labelled": labelled[index],
                "valid": valid[index],
                **{f"share_{code}": share for code, share in zip(legend.codes, shares[index], strict=True)},
            }
            for index in chosen
        ]
        squares.append(footprints(scene, [origins[index] for index in chosen], size_px=size_px))
    if not rows and not imagery:
        raise InputError(
            f"No patch of {size_px} px has imagery: the scenes hold no data there. Check their nodata value and their "
            f"bands."
        )
    if not rows:
        raise InputError(
            f"No patch of {size_px} px has labels on {min_labelled:.0%} of its pixels (the best has {best:.0%}). Check "
            "that the label maps cover the scenes, or lower the minimum (--min-labelled)."
        )
    home = squares[0].crs
    geometry = pd.concat([series.to_crs(home) for series in squares], ignore_index=True)
    frame = gpd.GeoDataFrame(pd.DataFrame(rows), geometry=gpd.GeoSeries(geometry, crs=home))
    return PatchTable(
        frame=frame,
        scenes={scene.name: scene for scene, _ in pairs},
        labels={scene.name: label_map.path for scene, label_map in pairs},
        legend=legend,
        size_px=size_px,
        stride_px=stride,
        held=[label_map.held for _, label_map in pairs],
    )


def _pairs(
    scenes: Sequence[Scene], labels: Sequence[ClassMap], *, size_px: int, stride_px: int, min_labelled: float
) -> list[tuple[Scene, ClassMap]]:
    if size_px < 1 or stride_px < 1:
        raise InputError(
            f"Patches of {size_px} px every {stride_px} px: size and stride must be at least 1 px."
        )
    if not 0 <= min_labelled <= 1:
        raise InputError(
            f"The minimum labelled share is {min_labelled}; give a number from 0 to 1, such as 0.5."
        )
    if not scenes or len(labels) not in (1, len(scenes)):
        raise InputError(
            f"{len(scenes)} scenes and {len(labels)} label maps were given; give one map per scene, in the "
            "same order, or one for all."
        )
    names = [scene.name for scene in scenes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"Two scenes have the name {join_words(twice)}; give each a different name (the name of its file)."
        )
    pairs = list(zip(scenes, labels if len(labels) > 1 else list(labels) * len(scenes), strict=True))
    for scene, label_map in pairs:
        if label_map.legend != labels[0].legend:
            raise InputError(
                f"{label_map.path} has the legend '{label_map.legend.address}', {labels[0].path} "
                f"'{labels[0].legend.address}'; a patch table has one legend. Translate one map "
                "(tesela legend convert)."
            )
        rows, cols = scene.grid.shape
        if min(rows, cols) < size_px:
            raise GridError(
                f"Scene '{scene.name}' has {rows} x {cols} px, a patch needs {size_px} x {size_px} px. Use "
                f"smaller patches (--size {_smaller(min(rows, cols))}) or a larger scene."
            )
        _check_overlap(scene, label_map)
    return pairs


def _smaller(side_px: int) -> int:
    """Largest multiple of 32 px, else power of two, that fits."""
    return side_px // 32 * 32 or 1 << (side_px.bit_length() - 1)


def _check_overlap(scene: Scene, labels: ClassMap) -> None:
    assert scene.grid.crs is not None
    theirs, mine = bounds_in(labels.grid, scene.grid.crs.to_wkt()), scene.grid.extent.boundingbox
    if theirs[0] < mine[2] and theirs[2] > mine[0] and theirs[1] < mine[3] and theirs[3] > mine[1]:
        return
    raise GridError(
        f"The labels of {labels.path} do not overlap scene '{scene.name}': they extend over {_words(theirs)}, the "
        f"scene over {_words(mine)} (left, bottom, right, top in {scene.grid.crs}). Give the labels of this "
        "scene."
    )


def _words(box: Sequence[float]) -> str:
    return " ".join(f"{side:.6g}" if abs(side) < 1000 else f"{side:.0f}" for side in box)


def _moved(scene: Scene, move: Callable[[str, Path], str], folder: Path) -> Scene:
    return replace(scene, bands=tuple(replace(band, path=move(band.path, folder)) for band in scene.bands))


def _is_local(path: str) -> bool:
    return "://" not in path and not path.startswith("/vsi")


def _relative(path: str, folder: Path) -> str:
    if not _is_local(path):
        return path
    try:
        return Path(os.path.relpath(Path(path).resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive
        return str(Path(path).resolve())


def _absolute(path: str, folder: Path) -> str:
    return path if not _is_local(path) else os.path.normpath(folder / path)


def check_table_name(path: str | Path) -> None:
    """
    Check that a patch table is named as what it is.

    Raises
    ------
    InputError
        If the name does not end in .parquet.
    """
    if Path(path).suffix.lower() != ".parquet":
        raise InputError(f"{path}: a patch table is written as GeoParquet; end the name in .parquet.")
