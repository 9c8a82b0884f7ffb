"""Accuracy from a sample: files as they lie on disk, to a plan and points, and from answers to estimates and a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tesela.io.legends import load_crosswalk, load_legend
from tesela.io.maps import ClassMap, open_map
from tesela.sampling.design import Rule, SamplingDesign, plan_sample
from tesela.sampling.draw import draw_sample
from tesela.sampling.estimates import AccuracyEstimates, estimate_accuracy
from tesela.sampling.estimators import Interval
from tesela.sampling.page import write_sample_page
from tesela.sampling.responses import read_sample


@dataclass(frozen=True)
class Drawn:
    """A sample that waits for its interpreters."""

    design: SamplingDesign
    expected_se: float
    """Standard error of overall accuracy if the map is as accurate as expected."""
    file: Path

    @property
    def document(self) -> dict[str, object]:
        """The plan, for JSON."""
        return {**self.design.to_dict(), "expected_se": round(self.expected_se, 6), "sample": str(self.file)}


@dataclass(frozen=True)
class SampleEstimates:
    """What a sample says of a map, and where its page lies."""

    estimates: AccuracyEstimates
    page: Path

    @property
    def document(self) -> Mapping[str, object]:
        """All figures, for JSON."""
        return {**self.estimates.to_dict(), "page": str(self.page)}


def draw_sample_file(
    map_file: str | Path,
    out: str | Path,
    *,
    points: int | None = None,
    target_se: float | None = None,
    rule: Rule = "proportional",
    minimum: int = 50,
    expected: float | Mapping[str, float] = 0.85,
    strata: str | Path | None = None,
    hide_strata: bool = False,
    legend: str | None = None,
    seed: int = 0,
) -> Drawn:
    """
    Plan a sample and draw it into a GeoPackage for interpreters.

    Parameters
    ----------
    strata : path, optional
        Class map whose classes are the strata; default: the map that is to be judged.
    points, target_se, rule, minimum, expected, seed
        See `tesela.sampling.design.plan_sample`.
    hide_strata : bool
        Leave the stratum, which may tell the map's class, out of the points.
    """
    judged = _open(map_file, legend)
    ground = judged if strata is None else open_map(strata)
    design = plan_sample(
        ground,
        points=points,
        target_se=target_se,
        rule=rule,
        minimum=minimum,
        expected=expected,
        seed=seed,
    )
    file = draw_sample(ground, out, design=design, classes=judged.legend, hide_strata=hide_strata)
    return Drawn(design, design.expected_se(expected), file)


def estimate_sample_file(
    map_file: str | Path,
    sample: str | Path,
    out: str | Path,
    *,
    answers: str | Path | None = None,
    field: str = "reference",
    legend: str | None = None,
    source: str | None = None,
    crosswalk: str | Path | None = None,
    interval: Interval = "logit",
    title: str = "Accuracy and area from a sample",
) -> SampleEstimates:
    """
    Estimate a map's accuracy and its classes' areas from a sample that was interpreted, and write the page.

    Parameters
    ----------
    answers : path, optional
        Table with sample_id and `field`, if the answers came back in another file.
    source, crosswalk : optional
        A CSV from the map's classes to those that are judged, and the name of the latter's legend.
    """
    judged = _open(map_file, legend)
    walk = None
    if crosswalk is not None:
        walk = load_crosswalk(
            judged.legend.address, load_legend(source or judged.legend.address), path=crosswalk
        )
    found = estimate_accuracy(
        read_sample(sample, judged, crosswalk=walk, answers=answers, field=field), interval=interval
    )
    page = write_sample_page(
        out,
        found,
        legend=judged.legend if walk is None else walk.target,
        title=title,
        facts={"Map": str(map_file), "Sample": str(sample)},
    )
    return SampleEstimates(found, page)


def _open(path: str | Path, legend: str | None) -> ClassMap:
    return open_map(path, legend=None if legend is None else load_legend(legend))
