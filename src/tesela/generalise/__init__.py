"""Generalisation of a map to a standard: mosaic classes, minimum width, minimum mapping unit."""

from tesela.generalise.change_log import ChangeLog, Move, Remainder
from tesela.generalise.generalise import generalise_map
from tesela.generalise.mosaic import MosaicRule, Share
from tesela.generalise.priority import PriorityTable, find_priority, load_priority
from tesela.generalise.strips import Plan
from tesela.generalise.unit import drop_small_areas
from tesela.generalise.width import drop_narrow_parts

__all__ = [
    "ChangeLog",
    "MosaicRule",
    "Move",
    "Plan",
    "PriorityTable",
    "Remainder",
    "Share",
    "drop_narrow_parts",
    "drop_small_areas",
    "find_priority",
    "generalise_map",
    "load_priority",
]
