"""What a head learns from: the patches of its table, standardised, and how often each of them is drawn."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import InputError, join_words
from tesela.core.standardisation import Standardisation
from tesela.models.expert import ExpertHeader, Provenance
from tesela.models.segmentation.networks import SegmentationArchitecture, plan_network
from tesela.patches.dataset import PatchDataset
from tesela.patches.table import QUALITIES, PatchTable
from tesela.patches.wide import WidePatches
from tesela.training.segmentation.data import Patches
from tesela.training.segmentation.finish import adjust_expert
from tesela.training.segmentation.heads import Head
from tesela.training.segmentation.imagery import training_imagery
from tesela.training.segmentation.losses import patch_weights
from tesela.training.segmentation.settings import SegmentationSettings

Place = tuple[str, int, int]
"""Scene, row and column of a patch."""


@dataclass(frozen=True)
class HeadPatches:
    """A head with its patches."""

    head: Head
    patches: Mapping[str, Patches]
    """Of "train" and, where the training validates, of "val"."""
    places: Mapping[str, Sequence[Place]]
    """Of the patches of each split, in their order."""
    chances: NDArray[np.float64] | None
    """How often each training patch is drawn, relative to the others; None: each once an epoch."""

    @classmethod
    def of(
        cls,
        table: PatchTable,
        out: Path,
        *,
        plan: SegmentationArchitecture,
        standardisation: Standardisation,
        settings: SegmentationSettings,
        fingerprints: Mapping[str, str] | None = None,
        validates: bool = True,
    ) -> HeadPatches:
        """
        Patches of a table, and the head that learns its legend.

        Parameters
        ----------
        out : Path
            The expert to write.
        plan : SegmentationArchitecture
            The network of the expert.
        standardisation : Standardisation
            Of the network's input.
        settings : SegmentationSettings
            With `published` resolved.
        fingerprints : mapping of str to str, optional
            Fingerprints of the inputs, kept in the expert.
        validates : bool
            Whether patches of "val" are wanted.

        Raises
        ------
        InputError
            If a split has no patches, a scene lacks a band, or no patch would be drawn.
        """
        bands, mean, std = (
            standardisation.bands,
            *map(np.array, (standardisation.mean, standardisation.std)),
        )
        read = functools.partial(
            PatchDataset, table, bands=bands, mean=mean, std=std, dates=standardisation.dates
        )
        margin_px = round(settings.shift * table.size_px)
        train = read("train", margin_px=margin_px)
        val = {"val": read("val")} if validates else {}
        shares = table.of_split("train")[table.share_columns].to_numpy(float)
        header = ExpertHeader(
            architecture=plan,
            legend=table.legend,
            bands=bands,
            mean=standardisation.mean,
            std=standardisation.std,
            patch_size_px=table.size_px,
            pixel_size_m=next(iter(table.scenes.values())).pixel_size_m,
            imagery=training_imagery(table, bands=bands, mean=mean, std=std, seed=settings.seed),
            provenance=Provenance(fingerprints=dict(fingerprints or {})),
        )
        finish = functools.partial(adjust_expert, table=table, settings=settings)
        return cls(
            Head(header, out, shares, sum(map(len, val.values())), finish),
            {"train": WidePatches(train, margin_px=margin_px) if margin_px else train, **val},
            {split: item.rows for split, item in {"train": train, **val}.items()},
            draw_chances(table, settings),
        )


def plan_head(
    table: PatchTable, settings: SegmentationSettings, *, bands: Sequence[str], classes: int | None = None
) -> SegmentationArchitecture:
    """
    The network for the patches of a table, checked before anything long.

    Parameters
    ----------
    settings : SegmentationSettings
        With `published` resolved.
    bands : sequence of str
        Names of its input bands, in order.
    classes : int, optional
        Its channels; default: the classes of the table's legend.

    Raises
    ------
    InputError
        If the patches have the wrong size, or there are none to validate on.
    ExpertError
        If there is no such encoder.
    """
    plan = plan_network(
        settings.model,
        band_names=bands,
        classes=len(table.legend) if classes is None else classes,
        encoder=settings.encoder,
        decoder=settings.decoder,
    )
    stride = plan.stride
    if table.size_px % stride:
        raise InputError(
            f"The patches are {table.size_px} px wide, but model '{settings.model}' needs a multiple of {stride} px. "
            f"Cut them again (tesela patches --size {max(1, round(table.size_px / stride)) * stride})."
        )
    table.of_split("val")
    return plan


def draw_chances(table: PatchTable, settings: SegmentationSettings) -> NDArray[np.float64] | None:
    """How often each training patch is drawn: by its quality, and by its classes with the strategy "sampling"."""
    quality = quality_chances(table, settings.quality_weights)
    if settings.imbalance_strategy != "sampling":
        return quality
    shares = table.of_split("train")[table.share_columns].to_numpy(float)
    return patch_weights(shares) * (1 if quality is None else quality)


def quality_chances(table: PatchTable, weights: Sequence[float]) -> NDArray[np.float64] | None:
    """
    How often each training patch is drawn, by its quality class; None if all are drawn alike.

    Parameters
    ----------
    weights : sequence of 3 float
        Of high, medium and low quality; patches without a class count as high.

    Raises
    ------
    InputError
        If no patch would be drawn.
    """
    if len(set(weights)) == 1:
        return None
    by_quality = dict(zip(QUALITIES, weights, strict=True))
    qualities = table.of_split("train")["quality"].astype(str)
    chances = np.array([by_quality.get(item, weights[0]) for item in qualities], float)
    if not chances.any():
        raise InputError(
            f"quality_weights {list(weights)} leave no training patch: all are of quality "
            f"{join_words(sorted(set(qualities)))}. Give that quality a weight above 0."
        )
    return None if len(set(chances.tolist())) == 1 else chances
