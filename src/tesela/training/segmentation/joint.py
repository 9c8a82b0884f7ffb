"""The joint training: several experts learn on one network, of which each gets its own head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from tesela.core.errors import InputError
from tesela.core.legend import IGNORE
from tesela.core.standardisation import Standardisation
from tesela.patches.dataset import band_statistics
from tesela.patches.table import PatchTable
from tesela.training.segmentation.data import Patches, Sample
from tesela.training.segmentation.fit import fit_experts
from tesela.training.segmentation.head_patches import HeadPatches, Place, plan_head
from tesela.training.segmentation.settings import SegmentationSettings
from tesela.training.segmentation.sizing import sized_settings

NONE = -1
"""In place of the number of a patch that a head does not have."""


class JointPatches(Dataset[Sample]):
    """
    Patches of several heads: one image, and the labels of each head.

    Parameters
    ----------
    heads : sequence of Patches
        Patches of each head, all of one size.
    numbers : (patches, heads) array of int64
        Number of each patch among those of each head; `NONE` for a head without labels there.
    """

    def __init__(self, heads: Sequence[Patches], numbers: NDArray[np.int64]) -> None:
        self.heads, self.numbers = tuple(heads), numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Sample:
        """Image (bands, size, size) float32 and labels (heads, size, size) int64, 255 for none."""
        numbers = self.numbers[index].tolist()
        samples = [
            None if number == NONE else patches[number]
            for patches, number in zip(self.heads, numbers, strict=True)
        ]
        image, some = next(sample for sample in samples if sample is not None)
        nothing = torch.full_like(some, IGNORE)
        return image, torch.stack([nothing if sample is None else sample[1] for sample in samples])


def train_joint(
    tables: Sequence[PatchTable],
    outs: Sequence[Path],
    *,
    target: Path,
    settings: SegmentationSettings,
    bands: Sequence[str] | None = None,
    log_dir: str | Path | None = None,
    quiet: bool = False,
    fingerprints: Mapping[str, str] | None = None,
) -> list[Path]:
    """
    Train several experts on one network, and write each as a file of its own.

    Encoder and decoder are shared, so the experts differ in their last layer alone, and a cascade of them runs the
    shared stages once (`tesela.mapping.shared_backbone`). Each patch is shown with the labels of all experts that have
    some there; the loss is the mean of theirs. A patch of an expert with few patches is drawn more often: a share of
    the draws goes to the patches of each expert. The epoch is chosen by the mean score of the experts, each over the
    classes that its validation labels hold.

    Parameters
    ----------
    tables : sequence of PatchTable
        Patches of each expert, of one size, each patch in the same split of all; the first gives means and deviations
        of the bands, and the size of the network where the settings leave it open.
    outs : sequence of Path
        The ``.safetensors`` file of each expert.
    target : Path
        Names the state of the training, in a folder ``.training`` beside it, and its logs.
    settings : SegmentationSettings
        Of a network; `budget` is that of all experts together.
    bands : sequence of str, optional
        Bands that the network uses, in its order; default: all of the first scene.
    log_dir, quiet
        See `tesela.training.segmentation.fit.fit_experts`.
    fingerprints : mapping of str to str, optional
        Fingerprints of the inputs, kept in the experts.

    Returns
    -------
    list of Path
        `outs`.

    Raises
    ------
    InputError
        If the sizes of the patches differ, a split of a table has no patches, a scene lacks a band, or a band has no
        data.
    """
    first = tables[0]
    sizes = sorted({table.size_px for table in tables})
    if len(sizes) > 1:
        raise InputError(
            f"Patches of {' and '.join(map(str, sizes))} px cannot be trained on jointly: cut all to one size."
        )
    wanted = sized_settings(settings, first)
    chosen = wanted.resolved
    names = tuple(next(iter(first.scenes.values())).band_names if bands is None else bands)
    joint = plan_head(first, chosen, bands=names, classes=sum(len(table.legend) for table in tables))
    dates = getattr(joint, "band_dates", ())
    standardisation = Standardisation.of(names, *band_statistics(first, "train", bands=names), dates)
    heads = [
        HeadPatches.of(
            table,
            out,
            plan=plan_head(table, chosen, bands=names),
            standardisation=standardisation,
            settings=chosen,
            fingerprints=fingerprints,
        )
        for table, out in zip(tables, outs, strict=True)
    ]
    numbers, chances = join_draws([item.places["train"] for item in heads], [item.chances for item in heads])
    val_numbers, _ = join_draws([item.places["val"] for item in heads], [None] * len(heads))
    return fit_experts(
        [item.head for item in heads],
        JointPatches([item.patches["train"] for item in heads], numbers),
        JointPatches([item.patches["val"] for item in heads], val_numbers),
        plan=joint,
        target=target,
        settings=wanted,
        chances=chances,
        log_dir=log_dir,
        quiet=quiet,
    )


def join_draws(
    places: Sequence[Sequence[Place]], chances: Sequence[NDArray[np.float64] | None]
) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
    """
    Patches of several heads by place, and how often each is drawn.

    An equal share of the draws goes to each head, by its own chances; a patch of several heads gets the shares of all.
    A patch that a head never draws has no labels of it.

    Parameters
    ----------
    places : sequence of sequences of (scene, row, column)
        Patches of each head.
    chances : sequence of (patches,) arrays of float
        How often each patch of a head is drawn, relative to the others of this head; None: all alike.

    Returns
    -------
    (patches, heads) array of int64
        Number of each patch among those of each head; `NONE` where it is not among them.
    (patches,) array of float64, or None
        Chances that sum to 1; None where all are equal.

    Examples
    --------
    >>> a, b = ("scene", 0, 0), ("scene", 0, 32)
    >>> numbers, chances = join_draws([[a, b], [b]], [None, None])
    >>> numbers.tolist(), chances.tolist()
    ([[0, -1], [1, 0]], [0.25, 0.75])
    """
    own = [
        np.ones(len(mine)) if given is None else np.asarray(given, float)
        for mine, given in zip(places, chances, strict=True)
    ]
    rows: dict[Place, int] = {}
    for mine, drawn in zip(places, own, strict=True):
        for place in (place for place, chance in zip(mine, drawn, strict=True) if chance > 0):
            rows.setdefault(place, len(rows))
    numbers = np.full((len(rows), len(places)), NONE, np.int64)
    joined = np.zeros(len(rows))
    for head, (mine, drawn) in enumerate(zip(places, own, strict=True)):
        used = np.flatnonzero(drawn > 0)
        at = np.array([rows[mine[number]] for number in used.tolist()], np.int64)
        numbers[at, head] = used
        joined[at] += drawn[used] / drawn.sum() / len(places)
    return numbers, None if np.allclose(joined, joined[0], rtol=1e-9) else joined
