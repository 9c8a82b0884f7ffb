"""The summary of a patch table: what each split holds, and what it lacks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tesela.core.errors import join_words
from tesela.patches.table import NONE, SPLITS, UNBIASED, PatchTable


@dataclass(frozen=True)
class SplitSummary:
    """Patches, ground and class shares of each split."""

    patches: dict[str, int]
    """Number of patches by split; "none" are those left out."""
    area_ha: dict[str, float]
    """Labelled ground by split in hectares; ground that several patches show counts for each."""
    shares: dict[str, dict[str, float]]
    """Part of each class in a split's labelled ground, by class code and split; they sum to 1 in a split."""
    warnings: tuple[str, ...]
    """One line for each thing that a person should know."""

    def to_dict(self) -> dict[str, object]:
        """Document for `--json`."""
        return {
            "patches": self.patches,
            "area_ha": self.area_ha,
            "shares": self.shares,
            "warnings": list(self.warnings),
        }

    def rows(self) -> list[tuple[str, ...]]:
        """Rows of a table for people: what, then one column per split."""
        splits = list(self.area_ha)
        lines = [("patches", *(str(self.patches.get(split, 0)) for split in splits))]
        lines.append(("labelled ha", *(f"{self.area_ha[split]:.0f}" for split in splits)))
        for code, found in self.shares.items():
            lines.append((code, *(f"{found[split]:.1%}" for split in splits)))
        return lines


def summarise(table: PatchTable) -> SplitSummary:
    """
    Count what each split of a table holds, and warn where a class is missing from one.

    Classes that occur nowhere in the table are left out.
    """
    from tesela.patches.areas import metric_footprints

    splits = [split for split in (*SPLITS, UNBIASED) if split in table.counts]
    pixels = {split: table.class_pixels(split) for split in splits}
    pixel_m2 = metric_footprints(table).area.to_numpy() / table.size_px**2
    labelled = table.frame[table.share_columns].to_numpy(float).sum(axis=1) * table.size_px**2
    split_of = table.frame["split"].to_numpy(object)
    present = np.flatnonzero(table.class_pixels() > 0)
    shares = {
        table.legend.codes[index]: {
            split: float(pixels[split][index] / max(1, pixels[split].sum())) for split in splits
        }
        for index in present
    }
    return SplitSummary(
        patches=table.counts,
        area_ha={split: float((labelled * pixel_m2)[split_of == split].sum() / 1e4) for split in splits},
        shares=shares,
        warnings=tuple(_warnings(table, splits, present.tolist())),
    )


def _warnings(table: PatchTable, splits: list[str], present: list[int]) -> list[str]:
    pixels = {split: table.class_pixels(split) for split in splits}
    lines = []
    for split in splits:
        lacking = [
            f"{table.legend.codes[i]} {table.legend.names[i]}" for i in present if not pixels[split][i]
        ]
        if lacking:
            lines.append(f"{split} lacks {join_words(lacking)}: such classes are not {_LACK[split]}.")
    lost = table.counts.get(NONE, 0)
    if lost:
        share = lost / len(table)
        lines.append(
            f"{lost} of {len(table)} patches ({share:.0%}) are in no split: they touch ground of two, or of "
            "none."
        )
    return lines


_LACK = {"train": "learned", "val": "watched in training", "test": "judged", UNBIASED: "judged without bias"}
