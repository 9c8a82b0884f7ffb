"""From a reference map to a class mask on a scene's grid."""

from tesela.labels.masks import LabelReader, open_reference, write_labels

__all__ = ["LabelReader", "open_reference", "write_labels"]
