"""
Networks and the expert file: tensors in, tensors out.

`tesela.models.unet` and `tesela.models.weights` load torch; what stands here only when an expert is opened.
"""

from tesela.models.architecture import UnetArchitecture
from tesela.models.expert import Expert, ExpertHeader, Provenance, load_expert, read_header, save_expert

__all__ = [
    "Expert",
    "ExpertHeader",
    "Provenance",
    "UnetArchitecture",
    "load_expert",
    "read_header",
    "save_expert",
]
