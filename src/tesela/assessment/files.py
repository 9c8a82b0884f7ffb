"""Assessment of files: from a map and a reference on disk to scores and a report."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tesela import __version__
from tesela.assessment.assessment import Assessment, Generalised, assess
from tesela.assessment.borders import EDGES_PX, pixel_side_m
from tesela.assessment.reference_labels import draw_reference
from tesela.assessment.report import write_report
from tesela.assessment.scores import Scores
from tesela.core.crosswalk import Crosswalk
from tesela.core.errors import GridError, InputError
from tesela.core.legend import Legend
from tesela.core.plain_text import check_text
from tesela.generalise.generalise import generalise_map
from tesela.io.fingerprints import fingerprint
from tesela.io.manifest import Manifest
from tesela.io.maps import ClassMap, MapSource, open_map
from tesela.io.scenes import SceneSource, open_scene
from tesela.io.vector import is_vector, layer_of, open_layer, read_layer, separate_layer
from tesela.pages.pdf import BROWSERS, find_browser, print_page

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class AssessmentFiles:
    """Scores of one map, and the paths of its report."""

    assessment: Assessment
    report: Path | None = None
    """The page; None where no folder was given."""
    generalised: Generalised | None = None
    pdf: Path | None = None
    notes: tuple[str, ...] = ()
    """What a reader must know to use the figures, and what the report lacks."""

    @property
    def document(self) -> Mapping[str, object]:
        """All figures, for JSON."""
        return {
            **self.assessment.to_dict(),
            "generalised": None if self.generalised is None else self.generalised.to_dict(),
            "notes": list(self.notes),
            "report": None if self.report is None else str(self.report),
            "pdf": None if self.pdf is None else str(self.pdf),
        }

    @property
    def lines(self) -> tuple[str, ...]:
        """The last lines of a run: accuracy, mIoU, macro F1, map and report."""
        return (
            *score_lines(self.assessment, self.generalised),
            f"map       {self.assessment.map_path}",
            *(() if self.report is None else (f"report    {self.report}",)),
            *(() if self.pdf is None else (f"pdf       {self.pdf}",)),
        )

    @property
    def scores(self) -> Scores:
        """Scores of all evaluated pixels."""
        return self.assessment.scores

    def to_frame(self, table: str = "classes") -> pd.DataFrame:
        """Scores by class, or "overall" with intervals; see `Assessment.to_frame`."""
        return self.assessment.to_frame(table)

    def _repr_html_(self) -> str:
        return self.assessment._repr_html_()


def score_lines(assessment: Assessment, generalised: Generalised | None = None) -> tuple[str, ...]:
    """Headline scores, one line each; in a second column those after generalising."""
    scores = assessment.scores
    headline = {"accuracy": scores.accuracy, "mIoU": scores.mean_iou, "macro F1": scores.macro_f1}
    lines = [f"{name:9} {value:.4f}" for name, value in headline.items()]
    if generalised is not None:
        after = generalised.assessment.scores
        columns = zip(lines, (after.accuracy, after.mean_iou, after.macro_f1), strict=True)
        lines = [f"{line}   {value:.4f} generalised ({generalised.rule})" for line, value in columns]
    if assessment.calibration is not None:
        lines.append(f"ECE       {assessment.calibration.error():.4f}")
    return tuple(lines)


def assess_files(
    map_file: MapSource,
    reference: str | Path,
    out: str | Path | None = None,
    *,
    field: str | None = None,
    layer: str | None = None,
    source: str | None = None,
    crosswalk: str | Path | Crosswalk | None = None,
    legend: Legend | str | Path | None = None,
    level: int | None = None,
    tiles_px: int = 2048,
    within: str | Path | None = None,
    regions: str | Path | None = None,
    region_field: str | None = None,
    borders_m: Sequence[float] | None = None,
    confidence: str | Path | None = None,
    mmu_m2: float = 0.0,
    min_width_m: float = 0.0,
    image: SceneSource | None = None,
    title: str = "Map assessment",
    pdf: bool = False,
    progress: Progress | None = None,
) -> AssessmentFiles:
    """
    Assess a map against a reference and write the report.

    Parameters
    ----------
    map_file : path, ClassMap or DataArray of classes
    reference : path
        A class map in the map's legend, or polygons or a raster, which are first written on the map's grid.
    out : path, optional
        Folder of the report; its ``manifest.json`` lists inputs and settings. Default: nothing is written.
    field, source, crosswalk
        How to read the reference; see `tesela.labels.write_labels`.
    layer : str, optional
        Layer of the polygons in `reference`, `within` and `regions`; needed for files with several.
    legend : Legend, name or path, optional
        Legend of the map, if its file does not name it.
    within : path, optional
        Polygons to which the assessment is confined; of a patch table, its test patches.
    regions : path, optional
        Polygons that get their own scores, grouped by `region_field`.
    borders_m : sequence of float, optional
        Bins of distance from class borders, in metres; default: 1, 2, 5 and 10 px of the map.
    confidence : path, optional
        Confidence raster of the map.
    mmu_m2, min_width_m : float
        Mapping unit and minimum width of the reference: the map is generalised to them, with the priorities of its
        legend where it has any, and assessed again. The generalised map is ``generalised.tif`` in `out`.
    image : path, DataArray or Scene, optional
        Scene to show in the report.
    pdf : bool
        Print the report as PDF as well, with the machine's Chromium; without one, a note gives the reason.
    """
    started = time.perf_counter()
    check_text(title, what="The title")
    map = open_map(map_file, legend=legend)
    scene = None if image is None else open_scene(image, invalid="nodata")
    edges = EDGES_PX if borders_m is None else _in_pixels(map, borders_m)
    reference_layer = layer_of(reference, layer) if is_vector(reference) else None
    if layer is not None and not any(
        layer_of(path, layer) for path in (reference, within, regions) if path is not None and is_vector(path)
    ):
        raise InputError(
            f"No file given has several layers of polygons, one of which --layer {layer} would name; leave it out."
        )
    areas = None if within is None else read_areas(within, layer=layer_of(within, layer))
    parts = None if regions is None else read_regions(regions, layer=layer_of(regions, layer))
    given = {
        "Map": map.path,
        "Reference": reference,
        "Assessed in": within,
        "Regions": regions,
        "Confidence": confidence,
        "Image": None if scene is None else image if isinstance(image, str | Path) else scene.name,
    }
    inputs = {name: str(path) for name, path in given.items() if path is not None}
    with ExitStack() as stack:
        folder_of_labels = stack.enter_context(tempfile.TemporaryDirectory())
        folder = Path(folder_of_labels if out is None else out)
        labels, told = draw_reference(
            map,
            reference,
            Path(folder_of_labels) / "reference.tif",
            field=field,
            layer=reference_layer,
            source=source,
            crosswalk=crosswalk,
        )
        depth = told if level is None else level
        compare = partial(
            assess,
            reference=labels,
            level=depth,
            tiles_px=tiles_px,
            within=areas,
            regions=parts,
            region_field=region_field,
            edges_px=edges,
            progress=progress,
        )
        assessment = replace(compare(map, confidence=confidence), reference_path=str(reference))
        generalised = assess_generalised(
            map,
            folder / "generalised.tif",
            lambda made: replace(compare(made), reference_path=str(reference)),
            mmu_m2=mmu_m2,
            min_width_m=min_width_m,
            progress=progress,
        )
        if out is None:
            return AssessmentFiles(assessment, generalised=generalised, notes=assessment.notes)
        report = write_report(
            folder,
            assessment,
            map=map,
            reference=labels,
            scene=scene,
            title=title,
            facts=_facts(inputs, generalised),
            generalised=generalised,
        )
    pdf_file, notes = _print(report) if pdf else (None, ())
    outputs = [folder / "assessment.json", *([] if generalised is None else [folder / "generalised.tif"])]
    Manifest(
        step="assess",
        settings={
            "level": depth,
            "tiles_px": tiles_px,
            "region_field": region_field,
            "edges_px": edges,
            "mmu_m2": mmu_m2,
            "min_width_m": min_width_m,
            "reference": {"field": field, "layer": layer, "source": source},
        },
        inputs={path: fingerprint(path) for path in inputs.values() if Path(path).is_file()},
        outputs={path.name: fingerprint(path) for path in outputs},
        legend=assessment.legend.address,
        seconds=round(time.perf_counter() - started, 3),
    ).write(folder)
    return AssessmentFiles(
        assessment, report, generalised=generalised, pdf=pdf_file, notes=(*assessment.notes, *notes)
    )


def assess_generalised(
    map: ClassMap,
    out: Path,
    compare: Callable[[ClassMap], Assessment],
    *,
    mmu_m2: float,
    min_width_m: float,
    progress: Progress | None = None,
) -> Generalised | None:
    """
    Generalise a map, with the priorities of its legend where it has any, and assess it again.

    Parameters
    ----------
    out : path
        The generalised map.
    compare : callable
        Assesses a map against the reference.

    Returns
    -------
    Generalised or None
        None without a unit and a width.
    """
    if not (mmu_m2 or min_width_m):
        return None
    made, _ = generalise_map(
        map, out, mmu_m2=mmu_m2, min_width_m=min_width_m, priority="auto", progress=progress
    )
    return Generalised(made, compare(made), mmu_m2=mmu_m2, min_width_m=min_width_m)


def _facts(inputs: Mapping[str, str], generalised: Generalised | None) -> dict[str, str]:
    """Provenance of the report; the page shows the paths of map and reference itself."""
    facts = {name: path for name, path in inputs.items() if name not in ("Map", "Reference")}
    if generalised is not None:
        facts["Generalised"] = f"{generalised.rule}; priorities of the legend where it has any"
    for name, path in inputs.items():
        if Path(path).is_file():
            facts[f"Fingerprint of {name.lower()}"] = fingerprint(path)
    return {**facts, "Tesela": __version__}


def _print(report: Path) -> tuple[Path | None, tuple[str, ...]]:
    """The report as PDF, or the reason why there is none."""
    browser = find_browser()
    if browser is None:
        return None, (f"No PDF: there is no Chromium on this machine (looked for {', '.join(BROWSERS)}).",)
    return print_page(report, report.with_suffix(".pdf"), browser=browser), ()


def _in_pixels(map: ClassMap, lengths_m: Sequence[float]) -> tuple[float, ...]:
    side_m = pixel_side_m(map.grid)
    if side_m is None:
        raise GridError(
            f"{map.path}: its pixels have no single side in metres ({map.grid.crs}), so distances from borders "
            f"cannot be in metres. Leave them out: the default distances are in pixels."
        )
    return tuple(length / side_m for length in lengths_m)


def read_regions(path: str | Path, *, layer: str | None = None) -> gpd.GeoDataFrame:
    """Polygons that get their own scores; ground under two belongs to the later one in the file."""
    opened = open_layer(path, layer=layer)
    frame = read_layer(opened)
    apart: gpd.GeoDataFrame = frame.set_geometry(separate_layer(opened, frame), crs=frame.crs)
    opened.report()
    return apart


def read_areas(path: str | Path, *, layer: str | None = None) -> gpd.GeoDataFrame:
    """
    Polygons to which an assessment is confined; of a patch table, those of its test split.

    Raises
    ------
    InputError
        If there are none.
    """
    frame = read_layer(open_layer(path, layer=layer))
    if "split" in frame.columns:
        frame = frame[frame["split"] == "test"]
    if frame.empty:
        raise InputError(
            f"{path}: has no polygons to assess in (a patch table needs patches of the split 'test')."
        )
    return frame
