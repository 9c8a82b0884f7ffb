"""The demo of the corine chain: its recipe on the virtual region."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tesela.chains.demo import keep_simulated
from tesela.io.manifest import write_text
from tesela.simulate.region.region import write_region
from tesela.simulate.region.spectra import BANDS, SEASONS


@dataclass(frozen=True)
class DemoSize:
    """Size of a demo and length of its training."""

    region_px: int
    """Side of the virtual region, in pixels of 10 m."""
    min_area_ha: float
    """Smallest area of its reference."""
    patch_px: int
    encoder: str
    decoder: str
    epochs: int


SIZES = {
    "small": DemoSize(960, 5.0, patch_px=96, encoder="resnet10t", decoder="small", epochs=50),
    "full": DemoSize(2000, 25.0, patch_px=128, encoder="resnet50", decoder="full", epochs=60),
}
"""The demo by size: minutes on two cores, or the whole region of 20 x 20 km."""

BANDS_USED = ("B02", "B03", "B04", "B08", "B11")

_RECIPE = """\
# Written by `tesela demo`: the corine chain on the virtual region. Run it again with `tesela run {file}`.
chain = "corine"
name = "demo"
out = "."
seed = {seed}
legend = "corine-2"
bands = [{bands}]

[[scenes]]
name = "virtual"
paths = [{paths}]
date = "{dates}"
{names}

[reference]
path = "region/reference.gpkg"
field = "CODE_18"

[patches]
size_px = {size}
split = "block"
block = "{block} m"
min_labelled = 0.3
fractions = [0.6, 0.15, 0.25]

[training]
model = "auto"
encoder = "{encoder}"
decoder = "{decoder}"
epochs = {epochs}
batch_size = 4

[mapping]
confidence = true
"""


def write_corine_demo(
    out: Path, *, size: str, seed: int, report: Callable[[str, str], None] = lambda stage, text: None
) -> Path:
    """Make the virtual region and the recipe in a folder; a region that exists is kept."""
    settings = SIZES[size]
    folder = out / "region"
    wanted = {"size_px": settings.region_px, "min_area_ha": settings.min_area_ha}

    def make() -> list[Path]:
        made = write_region(
            folder, size_px=settings.region_px, seed=seed, min_area_ha=settings.min_area_ha, clouds="none"
        )
        return [*made.scenes, *made.scl, made.truth, made.altitude, made.reference, made.mistakes]

    keep_simulated(folder, wanted, make, seed=seed, report=report)
    recipe = out / "corine.toml"
    text = _RECIPE.format(
        file=recipe,
        seed=seed,
        bands=", ".join(f'"{band}_{season}"' for season in SEASONS for band in BANDS_USED),
        paths=", ".join(f'"region/scene_{season}.tif"' for season in SEASONS),
        names="bands = [" + ", ".join(f'"{band}_{season}"' for season in SEASONS for band in BANDS) + "]",
        dates=", ".join(SEASONS),
        size=settings.patch_px,
        block=settings.patch_px * 10,
        encoder=settings.encoder,
        decoder=settings.decoder,
        epochs=settings.epochs,
    )
    return write_text(recipe, text)
