"""Files for the tests, made by Tesela's own environment: a virtual region, a recipe, and damaged inputs."""

import sys
from pathlib import Path

from tesela.simulate.region.region import write_region

RECIPE = """
chain = "corine"
name = "tiny"
out = "run"
legend = "corine-1"
bands = ["B08", "B04", "B03"]
[[scenes]]
name = "july"
paths = ["missing.tif"]
[reference]
path = "missing.gpkg"
field = "CODE_18"
[patches]
size_px = 32
block = "640 m"
[training]
model = "boosting"
trees = 20
pixels = 3000
[mapping]
engine = "torch"
"""


def make_world(folder: Path) -> None:
    """A region of 2.4 km and a recipe whose scene and reference are layers of the project."""
    write_region(
        folder,
        size_px=240,
        seasons=("july",),
        bands=("B08", "B04", "B03"),
        seed=3,
        clouds="none",
        min_area_ha=1,
    )
    (folder / "tiny.toml").write_text(RECIPE, encoding="utf-8")
    (folder / "damaged.safetensors").write_bytes(b"no expert at all")


if __name__ == "__main__":
    make_world(Path(sys.argv[1]))
