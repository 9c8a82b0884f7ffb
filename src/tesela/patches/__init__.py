"""The patch table: windows of scenes with their labels, splits and shares."""

from tesela.patches.table import NONE, QUALITIES, SPLITS, PatchTable, make_patches, read_patches

__all__ = ["NONE", "QUALITIES", "SPLITS", "PatchTable", "make_patches", "read_patches"]
