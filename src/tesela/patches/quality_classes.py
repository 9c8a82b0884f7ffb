"""Tiers of label quality in the patch table: who gave them, people or a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tesela.core.errors import InputError
from tesela.patches.table import QUALITIES, PatchTable

REVIEW, AUTOMATIC = "review", "automatic"
"""Sources of a tier, column quality_source: people, or models that doubt the label."""


def with_tiers(table: PatchTable, tiers: Mapping[str, str], *, source: str) -> PatchTable:
    """
    The same patches with tiers in the columns quality and quality_source.

    Parameters
    ----------
    tiers : mapping of str to str
        "high", "medium" or "low" by patch_id. Other patches keep what they have; a tier that is there is not replaced
        by an automatic one.
    source : {"review", "automatic"}
    """
    frame = table.frame
    patches = frame["patch_id"].astype(str).to_list()
    quality = frame["quality"].to_list()
    sources = frame["quality_source"].to_list() if "quality_source" in frame.columns else [""] * len(frame)
    for place, patch in enumerate(patches):
        kept = source == AUTOMATIC and quality[place] and sources[place] != AUTOMATIC
        if patch in tiers and not kept:
            quality[place], sources[place] = tiers[patch], source
    return replace(table, frame=frame.assign(quality=quality, quality_source=sources))


def automatic_tiers(table: PatchTable, *, shares: Sequence[float] = (0.6, 0.2, 0.2)) -> PatchTable:
    """
    Give tiers by the doubt of models, least doubted first, to patches that nobody reviewed.

    They are a stand-in where nobody has time to look: column quality_source says "automatic". A low automatic tier
    says that models doubt a label, not that it is wrong; do not publish scores on patches chosen so.

    Parameters
    ----------
    table : PatchTable
        Ranked: with the column doubt, see `tesela.patches.ranking`.
    shares : sequence of float
        Parts of the patches that become high, medium and low.

    Raises
    ------
    InputError
        If the table is not ranked, or the shares are no three that sum to 1.
    """
    if "doubt" not in table.frame.columns:
        raise InputError(
            "Automatic tiers need the doubt of models in each patch. Rank the table first (tesela review PATCHES "
            "--rank)."
        )
    if len(shares) != len(QUALITIES) or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise InputError(
            f"The shares of the tiers are {', '.join(f'{share:g}' for share in shares)}; give three that sum to 1, for "
            f"{', '.join(QUALITIES)}."
        )
    frame = table.frame[table.frame["doubt"].notna()]
    order = np.argsort(frame["doubt"].to_numpy(float), kind="stable")
    bounds = np.rint(np.cumsum(shares)[:-1] * len(order)).astype(int)
    patches = frame["patch_id"].astype(str).to_numpy(object)[order]
    tiers = {
        str(patch): tier
        for tier, part in zip(QUALITIES, np.split(patches, bounds), strict=True)
        for patch in part
    }
    return with_tiers(table, tiers, source=AUTOMATIC)
