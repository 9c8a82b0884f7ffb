"""Samples of map files: draw points into a GeoPackage, and estimate accuracy and area from the responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tesela.core.errors import InputError, join_words
from tesela.core.legend import Legend
from tesela.io.crosswalks import open_crosswalk
from tesela.io.legends import open_legend
from tesela.io.maps import MapSource, open_map
from tesela.sampling.design import Rule, SamplingDesign, plan_sample
from tesela.sampling.draw import draw_sample
from tesela.sampling.estimates import AccuracyEstimates, estimate_accuracy
from tesela.sampling.estimators import Interval
from tesela.sampling.interpretation import LAYER, Response, write_responses
from tesela.sampling.page import write_sample_page
from tesela.sampling.responses import read_sample

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd


@dataclass(frozen=True)
class Drawn:
    """A sample for interpreters, without responses yet."""

    design: SamplingDesign
    expected_se: float | None
    """Standard error of overall accuracy if the map has the expected accuracy; None for a sample of change."""
    file: Path
    held: object = field(default=None, repr=False, compare=False)
    """What keeps a temporary file; see `tesela.io.held`."""

    def to_geodataframe(self) -> gpd.GeoDataFrame:
        """The points, with the empty fields that interpreters fill in."""
        import geopandas as gpd

        points: gpd.GeoDataFrame = gpd.read_file(self.file, layer=LAYER)
        return points

    def interpret(self, points: pd.DataFrame) -> Drawn:
        """
        Write responses into the file of the sample, from the points of `to_geodataframe` or any table.

        Parameters
        ----------
        points : DataFrame or GeoDataFrame
            Columns sample_id and reference, and perhaps confidence and note; without a response: empty, None or NaN.

        Returns
        -------
        Drawn
            This sample, for `tesela.sample_estimate` and `tesela.account`.

        Raises
        ------
        InputError
            If a column is missing, a point is not of this sample, or the file cannot be changed.
        """
        missing = [name for name in ("sample_id", "reference") if name not in points.columns]
        if missing:
            raise InputError(f"The points have no column '{missing[0]}'; take those of to_geodataframe().")
        columns = [name for name in ("reference", "confidence", "note") if name in points.columns]
        texts = points[columns].astype(object).where(points[columns].notna(), "").astype(str)
        ids = [str(int(number)) for number in points["sample_id"]]
        unknown = sorted(set(ids) - {str(number) for number in self.to_geodataframe()["sample_id"]})
        if unknown:
            raise InputError(f"sample_id {join_words(unknown, most=6)} is no point of this sample.")
        responses = {
            number: Response(**{str(name): text for name, text in row.items()})
            for number, row in zip(ids, texts.to_dict("records"), strict=True)
        }
        write_responses(self.file, lambda: responses)
        return self

    @property
    def document(self) -> dict[str, object]:
        """The plan, for JSON."""
        expected = None if self.expected_se is None else round(self.expected_se, 6)
        return {**self.design.to_dict(), "expected_se": expected, "sample": str(self.file)}


@dataclass(frozen=True)
class SampleEstimates:
    """Estimates of a map from a sample, and the path of their page."""

    estimates: AccuracyEstimates
    page: Path | None = None
    """None where no folder was given."""

    @property
    def document(self) -> Mapping[str, object]:
        """All figures, for JSON."""
        return {**self.estimates.to_dict(), "page": None if self.page is None else str(self.page)}

    def to_frame(self) -> pd.DataFrame:
        """Accuracy and area by class with 95 % intervals; see `AccuracyEstimates.to_frame`."""
        return self.estimates.to_frame()


def draw_sample_file(
    map_file: MapSource,
    out: str | Path,
    *,
    points: int | None = None,
    target_se: float | None = None,
    rule: Rule = "proportional",
    minimum: int = 50,
    expected: float | Mapping[str, float] = 0.85,
    strata: MapSource | None = None,
    hide_strata: bool = False,
    legend: Legend | str | Path | None = None,
    seed: int = 0,
) -> Drawn:
    """
    Plan a sample and draw it into a GeoPackage for interpreters.

    Parameters
    ----------
    strata : path, optional
        Class map whose classes are the strata; default: the map to assess.
    points, target_se, rule, minimum, expected, seed
        See `tesela.sampling.design.plan_sample`.
    hide_strata : bool
        Leave the stratum out of the points; it may reveal the map's class.
    """
    class_map = open_map(map_file, legend=legend)
    strata_map = class_map if strata is None else open_map(strata)
    design = plan_sample(
        strata_map,
        points=points,
        target_se=target_se,
        rule=rule,
        minimum=minimum,
        expected=expected,
        seed=seed,
    )
    file = draw_sample(strata_map, out, design=design, classes=class_map.legend, hide_strata=hide_strata)
    return Drawn(design, design.expected_se(expected), file)


def estimate_sample_file(
    map_file: MapSource,
    sample: str | Path,
    out: str | Path | None = None,
    *,
    responses: str | Path | None = None,
    field: str = "reference",
    legend: Legend | str | Path | None = None,
    source: str | None = None,
    crosswalk: str | Path | None = None,
    interval: Interval = "logit",
    title: str = "Accuracy and area from a sample",
) -> SampleEstimates:
    """
    Estimate a map's accuracy and class areas from an interpreted sample, and write the page.

    Parameters
    ----------
    responses : path, optional
        Table with sample_id and `field`, if the responses are in another file.
    source, crosswalk : optional
        Legend in which the map is assessed, and a CSV from the map's classes to those of that legend.
    """
    class_map = open_map(map_file, legend=legend)
    table = None
    if crosswalk is not None:
        table = open_crosswalk(
            class_map.legend.address, open_legend(source or class_map.legend.address), path=crosswalk
        )
    estimates = estimate_accuracy(
        read_sample(sample, class_map, crosswalk=table, responses=responses, field=field), interval=interval
    )
    if out is None:
        return SampleEstimates(estimates)
    page = write_sample_page(
        out,
        estimates,
        legend=class_map.legend if table is None else table.target,
        title=title,
        facts={"Map": class_map.path, "Sample": str(sample)},
    )
    return SampleEstimates(estimates, page)
