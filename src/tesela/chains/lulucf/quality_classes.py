"""Quality tiers in a chain: verdicts taken over from a reviewed table, and one split for several experts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tesela.core.errors import InputError
from tesela.patches.table import NONE, PatchTable


def take_qualities(table: PatchTable, reviewed: PatchTable) -> PatchTable:
    """
    The table with the verdicts of a reviewed one, by patch; patches that nobody reviewed have none.

    Raises
    ------
    InputError
        If the tables have no patch in common: they were cut differently.
    """
    known = dict(zip(reviewed.frame["patch_id"], reviewed.frame["quality"], strict=True))
    if reviewed.size_px != table.size_px or not set(known) & set(table.frame["patch_id"]):
        raise InputError(
            f"The reviewed table has patches of {reviewed.size_px} px that are not those of this recipe "
            f"({table.size_px} px). Review the recipe's own patches (tesela run --until patches, tesela review)."
        )
    found = [known.get(patch, "") for patch in table.frame["patch_id"]]
    return replace(table, frame=table.frame.assign(quality=np.array(found, object)))


def follow_splits(table: PatchTable, first: PatchTable) -> PatchTable:
    """
    The table with the splits and verdicts of another one, by patch; patches that it lacks are used for nothing.

    Raises
    ------
    InputError
        If none is left to train on.
    """
    splits = dict(zip(first.frame["patch_id"], first.frame["split"], strict=True))
    tiers = dict(zip(first.frame["patch_id"], first.frame["quality"], strict=True))
    patches = table.frame["patch_id"]
    found = replace(
        table, frame=table.frame.assign(quality=np.array([tiers.get(item, "") for item in patches], object))
    ).with_splits(np.array([splits.get(item, NONE) for item in patches], object))
    for split in ("train", "val"):
        if split not in found.counts:
            raise InputError(
                f"No patch of split '{split}' has labels in '{table.legend.address}'. Take smaller blocks or larger "
                f"shares for it, or more scenes."
            )
    return found
