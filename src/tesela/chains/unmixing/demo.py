"""The demo of the unmixing chain: its recipe on a virtual region in MODIS pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tesela.chains.demo import keep_simulated
from tesela.io.manifest import write_text
from tesela.simulate.region.modis import CLIMATE, write_coarse_region


@dataclass(frozen=True)
class DemoSize:
    """Size of a demo and length of its training."""

    size_px: int
    pixel_m: float
    block_m: float
    """Side of the blocks of the split: a smaller region needs smaller blocks."""
    epochs: int


SIZES = {
    "small": DemoSize(1200, 25.0, block_m=4000, epochs=60),
    "full": DemoSize(8000, 10.0, block_m=10_000, epochs=120),
}
"""The demo by size: minutes on two cores, or 80 x 80 km at 10 m."""

_RECIPE = """\
# Written by `tesela demo`: the unmixing chain on the virtual region. Run it again with `tesela run {file}`.
chain = "unmixing"
name = "demo"
out = "."
seed = {seed}
legend = "sipna-2"
ancillary = "all"

[cube]
modis = ["region/modis"]
dem = "region/altitude.tif"

[cube.layers]
{layers}

[reference]
path = "region/truth.tif"
source = "corine"

[split]
block = ["{block} m", "{block} m"]
fractions = [0.6, 0.15, 0.25]

[training]
model = "tempcnn"
context = 2
epochs = {epochs}
batch_size = 512

[mapping]
uncertainty = true
"""


def write_unmixing_demo(
    out: Path, *, size: str, seed: int, report: Callable[[str, str], None] = lambda stage, text: None
) -> Path:
    """Make the virtual region and the recipe in a folder; a region that exists is kept."""
    settings = SIZES[size]
    folder = out / "region"

    def make() -> list[Path]:
        made = write_coarse_region(folder, size_px=settings.size_px, pixel_m=settings.pixel_m, seed=seed)
        return [*made.composites, made.truth, made.altitude, *made.climate.values()]

    wanted = {"size_px": settings.size_px, "pixel_m": settings.pixel_m}
    keep_simulated(folder, wanted, make, seed=seed, report=report)
    recipe = out / "unmixing.toml"
    text = _RECIPE.format(
        file=recipe,
        seed=seed,
        layers="\n".join(f'{name} = "region/{name}.tif"' for name in CLIMATE),
        block=f"{settings.block_m:.0f}",
        epochs=settings.epochs,
    )
    return write_text(recipe, text)
