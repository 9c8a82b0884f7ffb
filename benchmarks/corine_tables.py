"""
Tables 3 to 5 of Demir and Musaoglu (2023) on the virtual region, by one `tesela compare`.

Bands (RGB, NRG) x season (April, July, September) x encoder x patch size: IoU by class and mean, by tile, with the
cost of each. Makes a region of 4.8 x 4.8 km and the recipe in a folder, runs the comparison there, prints its JSON.
A run that was stopped goes on.
"""

import argparse
import json
from pathlib import Path

from tesela.comparison.compare import compare_recipe
from tesela.simulate.region.region import write_region
from tesela.simulate.region.spectra import SEASONS

RECIPE = """\
chain = "corine"
name = "corine-tables"
out = "."
legend = "corine-1"
{scenes}
[reference]
path = "region/reference.gpkg"
field = "CODE_18"

[patches]
size_px = 64
split = "block"
block = "640 m"
min_labelled = 0.3
fractions = [0.5, 0.15, 0.35]

[training]
model = "unet"
encoder = "resnet18"
decoder = "small"
epochs = {epochs}
batch_size = 8

[mapping]
window_px = 512

[assessment]
tiles_px = {tiles}
"""
SCENE = """
[[scenes]]
name = "{season}"
paths = ["region/scene_{season}.tif"]
"""
VARY = (
    "bands=RGB:B04+B03+B02,NRG:B08+B04+B03",
    "scenes=" + ",".join(SEASONS),
    "training.encoder=resnet18,resnet34",
    "patches.size_px=32,64",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size-px", type=int, default=480)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=1)
    chosen = parser.parse_args()
    folder = chosen.folder
    if not (folder / "region" / "reference.gpkg").exists():
        write_region(
            folder / "region",
            size_px=chosen.size_px,
            seed=1,
            bands=("B02", "B03", "B04", "B08"),
            clouds="none",
        )
    scenes = "".join(SCENE.format(season=season) for season in SEASONS)
    recipe = folder / "recipe.toml"
    recipe.write_text(
        RECIPE.format(scenes=scenes, epochs=chosen.epochs, tiles=chosen.size_px // 2), encoding="utf-8"
    )
    made = compare_recipe(recipe, vary=VARY, seeds=chosen.seeds, quiet=True, report=print_stage)
    print(json.dumps(made.comparison.to_dict(), indent=1))


def print_stage(stage: str, text: str) -> None:
    """Print that a stage is done, as a line of its own."""
    import sys

    if text:
        print(f"{stage} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
