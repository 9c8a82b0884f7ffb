"""The only code that opens files: rasters, maps, vectors, legends and manifests."""

from tesela.io.crosswalks import open_crosswalk
from tesela.io.fingerprints import fingerprint
from tesela.io.legends import list_legends, open_legend
from tesela.io.manifest import Manifest, write_whole
from tesela.io.maps import ClassMap, MapReader, MapWriter, ScoreWriter, open_map, write_map
from tesela.io.parts import PartStore
from tesela.io.scenes import SceneReader, open_scene
from tesela.io.vector import VectorLayer, open_layer, read_layer

__all__ = [
    "ClassMap",
    "Manifest",
    "MapReader",
    "MapWriter",
    "PartStore",
    "SceneReader",
    "ScoreWriter",
    "VectorLayer",
    "fingerprint",
    "list_legends",
    "open_crosswalk",
    "open_layer",
    "open_legend",
    "open_map",
    "open_scene",
    "read_layer",
    "write_map",
    "write_whole",
]
