"""A network trained again on the patches of training and validation together, after the latter have chosen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tesela.models.expert import Expert, open_expert
from tesela.models.segmentation.networks import SEGMENTATION_NETWORKS
from tesela.patches.table import PatchTable
from tesela.training.segmentation.fit import fit_experts
from tesela.training.segmentation.head_patches import HeadPatches
from tesela.training.segmentation.settings import SegmentationSettings


def refit_network(
    expert: Expert,
    table: PatchTable,
    out: str | Path,
    *,
    settings: SegmentationSettings,
    log_dir: str | Path | None = None,
    quiet: bool = False,
) -> Expert:
    """
    The same network, trained from its start on the patches of "train" and "val".

    Nothing is left to choose the epoch by, so the weights that the schedule ends with are kept; the header keeps the
    scores that the expert had on the validation patches. A training that was killed continues.

    Parameters
    ----------
    expert : Expert
        A single network, trained on the patches of "train"; the new one sees the same standardisation.
    table : PatchTable
    out : str or Path
        The ``.safetensors`` file to write; taken as it is where it is there already.
    settings : SegmentationSettings
        With a named encoder and `prior` 0; `budget` is that of this training.
    log_dir, quiet
        See `tesela.training.segmentation.fit.fit_experts`.

    Raises
    ------
    InputError
        If the training diverges, or a file cannot be written.
    """
    target, header = Path(out), expert.header
    plan = header.architecture
    assert isinstance(plan, SEGMENTATION_NETWORKS[plan.kind])
    if not target.exists():
        both = table.with_splits(table.frame["split"].replace("val", "train").to_numpy(object))
        own = HeadPatches.of(
            both,
            target,
            plan=plan,
            standardisation=header.standardisation,
            settings=settings.resolved,
            fingerprints=header.provenance.fingerprints,
            validates=False,
        )
        fit_experts(
            [own.head],
            own.patches["train"],
            None,
            plan=plan,
            target=target,
            settings=settings,
            chances=_even_chances(own.chances, table),
            log_dir=log_dir,
            quiet=quiet,
        )
    again = open_expert(target)
    return Expert(replace(again.header, scores=header.scores), again.network)


def _even_chances(chances: NDArray[np.float64] | None, table: PatchTable) -> NDArray[np.float64] | None:
    """Chances of the patches by which a pixel of "val" is drawn as often as one of "train", however many cover it."""
    ratio = table.overlap("train") / table.overlap("val")
    if ratio == 1:
        return chances
    splits = table.frame["split"].to_numpy(object)
    splits = splits[(splits == "train") | (splits == "val")]
    return np.where(splits == "val", ratio, 1.0) * (1.0 if chances is None else chances)
