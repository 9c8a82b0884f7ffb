"""The patch table: windows of scenes with their labels, splits and shares; `dataset` reads them for torch."""

from tesela.patches.split import split_patches
from tesela.patches.summary import SplitSummary, summarise
from tesela.patches.table import NONE, QUALITIES, SPLITS, UNBIASED, PatchTable, make_patches, read_patches

__all__ = [
    "NONE",
    "QUALITIES",
    "SPLITS",
    "UNBIASED",
    "PatchTable",
    "SplitSummary",
    "make_patches",
    "read_patches",
    "split_patches",
    "summarise",
]
