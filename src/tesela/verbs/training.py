"""Verbs that train: from a patch table or a pixel table to an expert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tesela.verbs.answers import Place

if TYPE_CHECKING:
    from torch import Tensor

    from tesela.patches.pixels import PixelTable
    from tesela.patches.table import PatchTable
    from tesela.training.segmentation.settings import SegmentationSettings
    from tesela.training.unmixing.settings import UnmixingSettings
    from tesela.verbs.experts import Expert


def train_segmentation(
    table: PatchTable | str | Path,
    settings: SegmentationSettings | None = None,
    out: str | Path | None = None,
    *,
    bands: Sequence[str] | None = None,
    log_dir: str | Path | None = None,
    quiet: bool = False,
    fingerprints: Mapping[str, str] | None = None,
) -> Expert:
    """
    Train an expert for class maps; see `tesela.training.segmentation.train.train_segmentation`.

    Parameters
    ----------
    table : PatchTable or path
        Patches in splits, see `patches`.
    settings : SegmentationSettings, optional
    out : path, optional
        The ``.safetensors`` file; an interrupted training continues. Default: the expert comes back in memory.
    bands, log_dir, quiet, fingerprints
        See there.

    Raises
    ------
    InputError
        If a split has no patches, a scene lacks a band, patches have the wrong size, or a band has no data.
    """
    from tesela.patches.missing_files import check_files
    from tesela.patches.table import open_patches
    from tesela.training.segmentation.train import train_segmentation as train
    from tesela.verbs.experts import open_expert

    opened = open_patches(table) if isinstance(table, str | Path) else table
    if isinstance(table, str | Path):
        check_files(opened, table)
    place = Place.of(out, "expert.safetensors")
    file = train(
        opened,
        place.path,
        settings=settings,
        bands=bands,
        log_dir=log_dir,
        quiet=quiet,
        fingerprints=fingerprints,
    )
    return open_expert(file)


def train_unmixing(
    table: PixelTable | str | Path,
    settings: UnmixingSettings | None = None,
    out: str | Path | None = None,
    *,
    start: Mapping[str, Tensor] | None = None,
    quiet: bool = False,
    fingerprints: Mapping[str, str] | None = None,
) -> Expert:
    """
    Train an expert for unmixing; see `tesela.training.unmixing.train.train_unmixing`.

    Parameters
    ----------
    table : PixelTable or path
        Pixels in splits.
    settings : UnmixingSettings, optional
    out : path, optional
        The ``.safetensors`` file; default: the expert comes back in memory.
    start, quiet, fingerprints
        See there.
    """
    from tesela.patches.pixels import read_pixel_table
    from tesela.training.unmixing.train import train_unmixing as train
    from tesela.verbs.experts import open_expert

    opened = read_pixel_table(table) if isinstance(table, str | Path) else table
    return open_expert(train(opened, settings, out=out, start=start, quiet=quiet, fingerprints=fingerprints))
