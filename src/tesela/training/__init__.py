"""
One readable training recipe per task.

`tesela.training.segmentation` loads torch and lightning; the settings do not.
"""

from tesela.training.settings import SegmentationSettings

__all__ = ["SegmentationSettings"]
