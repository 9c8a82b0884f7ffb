"""
Whether unmixing experts know how wrong they are: intervals of shares on test blocks, before and after calibration.

Makes the small virtual region of `tesela demo unmixing` in a folder, trains each model on its pixels, and prints which
part of the reference lies inside intervals of 50, 68, 80, 90 and 95 %, with RMSE and claimed deviation, as JSON.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from tesela.assessment.abundance.calibration import ShareCalibration
from tesela.chains.run import run_recipe
from tesela.chains.unmixing.demo import write_unmixing_demo
from tesela.core.legend import sum_to_level
from tesela.models.expert import Expert
from tesela.patches.pixels import PixelTable, read_pixel_table
from tesela.training.unmixing.calibration import unmix_pixels
from tesela.training.unmixing.settings import UnmixingSettings
from tesela.training.unmixing.train import train_unmixing

TEST = 2
MODELS: dict[str, UnmixingSettings] = {
    "tempcnn, dirichlet": UnmixingSettings(head="dirichlet", epochs=60),
    "tempcnn, 3 members": UnmixingSettings(ensemble_size=3, epochs=40),
    "brits": UnmixingSettings(model="brits", epochs=10),
    "forest": UnmixingSettings(model="forest", context=1, trees=60),
}


def judge(expert: Expert, table: PixelTable, level: int) -> dict[str, object] | None:
    """Coverage on the test pixels; None where the expert does not tell its doubt."""
    test = table.splits == TEST
    found = unmix_pixels(expert, table, test, level=level)
    if found.deviation is None:
        return None
    truth = sum_to_level(table.targets[test].T, expert.header.legend, level).T
    inside = ShareCalibration.of(truth, found.shares, found.deviation).coverage
    return {
        "inside_percent": {name: round(100 * part, 1) for name, part in inside.items()},
        "rmse_percent": round(100 * float(np.sqrt(np.square(truth - found.shares).mean())), 2),
        "claimed_percent": round(100 * float(np.sqrt(np.square(found.deviation).mean())), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", help="default: a temporary one")
    parser.add_argument("--epochs", type=int, help="instead of each model's own, to try the script")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(given.folder or temporary)
        run_recipe(write_unmixing_demo(folder, size="small", seed=0), until="pixels", quiet=True)
        table = read_pixel_table(folder / "pixels" / "pixels.safetensors")
    document = {}
    for name, settings in MODELS.items():
        plan = settings if given.epochs is None else replace(settings, epochs=given.epochs)
        expert = train_unmixing(table, plan)
        own = Expert(replace(expert.header, variance=()), expert.network)
        document[name] = {
            f"level {level}": {"own": judge(own, table, level), "calibrated": judge(expert, table, level)}
            for level in (1, 2)
        }
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
