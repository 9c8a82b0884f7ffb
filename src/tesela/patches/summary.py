"""The summary of a patch table: area and class shares of each split, and missing classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tesela.core.errors import join_words
from tesela.patches.table import NONE, SPLITS, UNBIASED, PatchTable


@dataclass(frozen=True)
class SplitSummary:
    """Patches, area and class shares of each split."""

    patches: dict[str, int]
    """Number of patches by split; "none" are not used."""
    area_ha: dict[str, float]
    """Labelled area by split in hectares; overlaps of patches count for each patch."""
    shares: dict[str, dict[str, float]]
    """Share of each class in the labelled area of a split, by class code and split; they sum to 1 in a split."""
    warnings: tuple[str, ...]
    """One line for each warning."""

    def to_dict(self) -> dict[str, object]:
        """Document for `--json`."""
        return {
            "patches": self.patches,
            "area_ha": self.area_ha,
            "shares": self.shares,
            "warnings": list(self.warnings),
        }

    def rows(self) -> list[tuple[str, ...]]:
        """Rows of the printed table: quantity, then one column per split."""
        splits = list(self.area_ha)
        lines = [("patches", *(str(self.patches.get(split, 0)) for split in splits))]
        lines.append(("labelled ha", *(f"{self.area_ha[split]:,.0f}" for split in splits)))
        for code, shares in self.shares.items():
            lines.append((code, *(f"{shares[split]:.1%}" for split in splits)))
        return lines


def summarise(table: PatchTable) -> SplitSummary:
    """
    Summarise each split of a table, with a warning where a class is missing in a split.

    Classes that do not occur in the table are left out.
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
        missing = [
            f"{table.legend.codes[i]} {table.legend.names[i]}" for i in present if not pixels[split][i]
        ]
        if missing:
            lines.append(f"{split} has no pixel of {join_words(missing)}: {_EFFECT[split]}.")
    lost = table.counts.get(NONE, 0)
    if lost:
        share = lost / len(table)
        lines.append(
            f"{lost} of {len(table)} patches ({share:.0%}) are in no split: they overlap two splits, or none."
        )
    return lines


_EFFECT = {
    "train": "the model cannot learn them",
    "val": "the validation scores leave them out",
    "test": "the test scores leave them out",
    UNBIASED: "the unbiased scores leave them out",
}
"""Consequence of a class that is missing in a split."""
