"""Vectors: the one door through which every command reads polygons."""

from tesela.io.vector.address import VectorAddress, is_vector, local_file, parse_address
from tesela.io.vector.fields import NO_CODE, code_texts, find_field, new_names
from tesela.io.vector.gdal import Bounds
from tesela.io.vector.layer import (
    VectorLayer,
    bounds_text,
    count_overlaps,
    iter_layer,
    layer_of,
    open_layer,
    read_layer,
    separate_layer,
)

__all__ = [
    "NO_CODE",
    "Bounds",
    "VectorAddress",
    "VectorLayer",
    "bounds_text",
    "code_texts",
    "count_overlaps",
    "find_field",
    "is_vector",
    "iter_layer",
    "layer_of",
    "local_file",
    "new_names",
    "open_layer",
    "parse_address",
    "read_layer",
    "separate_layer",
]
