"""
Networks and the expert file: tensors in, tensors out.

This module loads torch only when an expert is opened.
"""

from tesela.models.expert import Expert, ExpertHeader, Provenance, open_expert, read_header, save_expert
from tesela.models.segmentation.unet import UnetArchitecture

__all__ = [
    "Expert",
    "ExpertHeader",
    "Provenance",
    "UnetArchitecture",
    "open_expert",
    "read_header",
    "save_expert",
]
