"""
One readable training recipe per task.

`tesela.training.segmentation.train` loads torch and lightning; the settings do not.
"""

from tesela.training.segmentation.settings import SegmentationSettings

__all__ = ["SegmentationSettings"]
