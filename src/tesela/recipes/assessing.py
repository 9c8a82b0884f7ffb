"""Assessing files: a map and a reference as they lie on disk, to scores and a report."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tesela.core.errors import InputError
from tesela.core.scene import Scene
from tesela.evaluation import Assessment, assess
from tesela.evaluation.report import write_report
from tesela.io.legends import load_crosswalk, load_legend
from tesela.io.maps import open_map
from tesela.io.raster import open_scene
from tesela.io.vector import open_layer, read_layer
from tesela.labels import write_labels

if TYPE_CHECKING:
    import geopandas as gpd


@dataclass(frozen=True)
class Judgement:
    """Scores of one map and where its report lies."""

    assessment: Assessment
    report: Path

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know to use the figures."""
        return self.assessment.notes

    @property
    def document(self) -> Mapping[str, object]:
        """All figures, for JSON."""
        return {**self.assessment.to_dict(), "report": str(self.report)}

    @property
    def lines(self) -> tuple[str, ...]:
        """The last lines of a run: accuracy, mIoU, macro F1, map and report."""
        return (
            *score_lines(self.assessment),
            f"map       {self.assessment.map_path}",
            f"report    {self.report}",
        )


def score_lines(assessment: Assessment) -> tuple[str, ...]:
    """Headline scores, one line each."""
    scores = assessment.scores
    return (
        f"accuracy  {scores.accuracy:.4f}",
        f"mIoU      {scores.mean_iou:.4f}",
        f"macro F1  {scores.macro_f1:.4f}",
    )


def assess_files(
    map_file: str | Path,
    reference: str | Path,
    out: str | Path,
    *,
    field: str | None = None,
    layer: str | None = None,
    source: str | None = None,
    crosswalk: str | Path | None = None,
    legend: str | None = None,
    level: int | None = None,
    tiles_px: int = 2048,
    within: str | Path | None = None,
    image: str | Path | None = None,
    title: str = "Map assessment",
) -> Judgement:
    """
    Judge a map against a reference and write the report.

    Parameters
    ----------
    reference : path
        A class map in the map's legend, or polygons or a raster that are first drawn on the map's grid.
    field, layer, source, crosswalk
        How to read the reference; see `tesela.labels.write_labels`.
    legend : str, optional
        Legend of the map, if its file does not say it.
    within : path, optional
        Polygons to judge in; of a patch table, its test patches.
    image : path, optional
        Scene to show in the report.
    """
    found = open_map(map_file, legend=None if legend is None else load_legend(legend))
    walk = None if crosswalk is None else load_crosswalk(source or "reference", found.legend, path=crosswalk)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        drawn = write_labels(
            reference,
            folder / "reference.tif",
            like=found.grid,
            legend=found.legend,
            source=source,
            field=field,
            crosswalk=walk,
            layer=layer,
        )
        judged = assess(
            found,
            drawn,
            tiles_px=tiles_px,
            within=None if within is None else read_areas(within),
            level=level,
        )
        scene: Scene | None = None if image is None else open_scene(image, nonfinite="nodata")
        report = write_report(
            out,
            judged,
            map=found,
            reference=drawn,
            scene=scene,
            title=title,
            facts={"Map": str(map_file), "Reference": str(reference)},
        )
    return Judgement(judged, report)


def read_areas(path: str | Path) -> gpd.GeoDataFrame:
    """
    Polygons to judge in; of a patch table, those of its test split.

    Raises
    ------
    InputError
        If there are none.
    """
    frame = read_layer(open_layer(path))
    if "split" in frame.columns:
        frame = frame[frame["split"] == "test"]
    if frame.empty:
        raise InputError(f"{path}: holds no polygons to judge in (of a patch table, no test patches).")
    return frame
