"""The training for class maps: patches in, one expert out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tesela.core.standardisation import Standardisation
from tesela.models.expert import save_expert
from tesela.models.segmentation.networks import TREE_FORMS
from tesela.patches.dataset import band_statistics
from tesela.patches.table import PatchTable
from tesela.training.segmentation.fit import fit_experts
from tesela.training.segmentation.head_patches import HeadPatches, plan_head
from tesela.training.segmentation.members import train_members
from tesela.training.segmentation.settings import SegmentationSettings
from tesela.training.segmentation.sizing import sized_settings
from tesela.training.segmentation.trees import train_trees


def train_segmentation(
    table: PatchTable,
    out: str | Path,
    *,
    settings: SegmentationSettings | None = None,
    bands: Sequence[str] | None = None,
    log_dir: str | Path | None = None,
    quiet: bool = False,
    fingerprints: Mapping[str, str] | None = None,
) -> Path:
    """
    Train a model on the patches of split "train", keep what scores best on "val", write one expert.

    Parameters
    ----------
    table : PatchTable
        Patches of a side that is a multiple of the network's stride, 32 px for a U-Net.
    out : str or Path
        The ``.safetensors`` file to write.
    settings : SegmentationSettings, optional
    bands : sequence of str, optional
        Bands that the model uses, in its order; default: all of the first scene.
    log_dir, quiet
        See `tesela.training.segmentation.fit.fit_experts`.
    fingerprints : mapping of str to str, optional
        Fingerprints of the inputs, kept in the expert.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    InputError
        If a split has no patches, a scene lacks a band, patches have the wrong size, or a band has no data.
    """
    wanted = sized_settings(settings or SegmentationSettings(), table)
    chosen = wanted.resolved
    if chosen.model == "auto":
        from tesela.training.segmentation.auto import train_auto

        return train_auto(
            table, out, settings=chosen, bands=bands, log_dir=log_dir, quiet=quiet, fingerprints=fingerprints
        )
    if chosen.model in TREE_FORMS:
        expert = train_trees(table, settings=chosen, bands=bands, quiet=quiet, fingerprints=fingerprints)
        return save_expert(out, expert)
    if chosen.members > 1:
        return train_members(
            table, out, settings=wanted, bands=bands, log_dir=log_dir, quiet=quiet, fingerprints=fingerprints
        )
    names = tuple(next(iter(table.scenes.values())).band_names if bands is None else bands)
    plan = plan_head(table, chosen, bands=names)
    mean, std = band_statistics(table, "train", bands=names)
    own = HeadPatches.of(
        table,
        Path(out),
        plan=plan,
        standardisation=Standardisation.of(names, mean, std, getattr(plan, "band_dates", ())),
        settings=chosen,
        fingerprints=fingerprints,
    )
    [written] = fit_experts(
        [own.head],
        own.patches["train"],
        own.patches["val"],
        plan=plan,
        target=Path(out),
        settings=wanted,
        chances=own.chances,
        log_dir=log_dir,
        quiet=quiet,
    )
    return written
