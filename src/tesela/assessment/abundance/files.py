"""Assessing abundance files: a map and reference shares as they lie on disk, to scores and a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tesela.assessment.abundance.assessment import AbundanceAssessment, assess_abundance
from tesela.assessment.abundance.report import write_abundance_report
from tesela.assessment.abundance.scores import SCORES, score_lines
from tesela.core.errors import InputError
from tesela.io.abundance import open_abundance
from tesela.patches.pixels import read_pixel_table


@dataclass(frozen=True)
class AbundanceJudgement:
    """Scores of one abundance map and where its report lies."""

    assessment: AbundanceAssessment
    report: Path

    @property
    def document(self) -> Mapping[str, object]:
        """All figures, for JSON."""
        return {**self.assessment.to_dict(), "report": str(self.report)}

    @property
    def lines(self) -> tuple[str, ...]:
        """Mean scores, and the page."""
        sums = self.assessment.sums
        return (
            *score_lines({name: sums.mean(name) for name in SCORES}),
            f"report    {self.report}",
        )


def is_abundance(path: str | Path) -> bool:
    """Whether a raster is an abundance map of Tesela."""
    try:
        open_abundance(path)
    except InputError:
        return False
    return True


def assess_abundance_files(
    map_file: str | Path,
    reference: str | Path,
    out: str | Path,
    *,
    within: str | Path | None = None,
    uncertainty: str | Path | None = None,
    title: str = "Abundance map assessment",
) -> AbundanceJudgement:
    """
    Judge an abundance map against reference shares and write the report.

    Parameters
    ----------
    reference : path
        Abundance map of the same pixels, as `tesela label --fractions` writes it.
    within : path, optional
        Pixel table whose test pixels are judged.
    uncertainty : path, optional
        Standard deviation of each share, for its calibration.
    """
    found = open_abundance(map_file)
    chosen = None
    if within is not None:
        chosen = read_pixel_table(within).ground("test", found.grid.shape.yx)
    judged = assess_abundance(
        found,
        open_abundance(reference),
        chosen=chosen,
        uncertainty=uncertainty,
        errors=Path(out) / "errors.tif",
    )
    facts = {"Map": str(map_file), "Reference": str(reference)}
    return AbundanceJudgement(judged, write_abundance_report(out, judged, title=title, facts=facts))
