"""Tree cover of the lulucf chain from what shows crowns."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest

from tesela.chains.run import run_recipe
from tesela.core.errors import RecipeError
from tesela.io.maps import MapReader, open_map
from tesela.io.scenes import open_scene
from tesela.models.expert import read_header
from tesela.recipes.schema import check_recipe
from tesela.simulate.sheet.files import SheetFiles, write_sheet

RECIPE = """
chain = "lulucf"
species = ["45"]
out = "{name}"
[[scenes]]
name = "a"
paths = ["{image}"]
[reference]
path = "{reference}"
{canopy}
"""


@pytest.fixture(scope="module")
def sheet(tmp_path_factory: pytest.TempPathFactory) -> SheetFiles:
    return write_sheet(tmp_path_factory.mktemp("sheet"), size_px=512, seed=3)


def values_of(path: Path) -> np.ndarray:
    with MapReader(open_map(path)) as reader:
        return reader.read(reader.map.grid)


def labels(sheet: SheetFiles, name: str, canopy: str) -> tuple[np.ndarray, np.ndarray]:
    """Context and tree cover."""
    folder = sheet.image.parent
    text = RECIPE.format(name=name, image=sheet.image.name, reference=sheet.reference.name, canopy=canopy)
    (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    run_recipe(folder / f"{name}.toml", until="label", quiet=True)
    return tuple(values_of(folder / name / "labels" / part / "a.tif") for part in ("context", "canopy"))  # type: ignore[return-value]


def test_heights_show_open_ground_behind_the_gate_where_covers_show_none(sheet: SheetFiles) -> None:
    context, covers = labels(sheet, "covers", "")
    _, heights = labels(sheet, "heights", '[reference.canopy]\npaths = ["ndsm.tif"]')
    forest, artificial = context == 3, context == 2
    assert not (covers[forest] == 2).any(), "every pixel of forest is tree by its cover"
    assert 0.15 < (heights[forest] == 2).mean() < 0.6
    truth = values_of(sheet.canopy)
    assert (heights == truth)[heights > 0].mean() > 0.995
    assert (heights == 0).any()
    assert artificial[heights == 0].all(), "only what is high on built land has no label"


EXPERTS = """
[reference.canopy]
paths = ["ndsm.tif"]
[[experts]]
name = "context"
legend = "lulucf-context"
[[experts]]
name = "canopy"
legend = "tree-cover"
parent = "context"
classes = ["forest"]
context_bands = true
[patches]
size_px = 64
block = "32 m"
[training]
model = "unet"
encoder = "tu-mobilenetv3_small_050"
decoder = "small"
epochs = 1
batch_size = 8
threads = 1
[mapping]
window_px = 320
engine = "torch"
precision = "fp32"
"""


@pytest.mark.slow
def test_an_expert_learns_from_and_maps_with_the_probabilities_of_the_first(sheet: SheetFiles) -> None:
    folder = sheet.image.parent
    text = RECIPE.format(name="chain", image=sheet.image.name, reference=sheet.reference.name, canopy=EXPERTS)
    (folder / "chain.toml").write_text(text, encoding="utf-8")
    done = run_recipe(folder / "chain.toml", quiet=True).run.done
    assert done == ["label", "patches", "train-context", "context", "train-canopy", "map", "assess"]
    strategy = next((folder / "chain" / "experts").iterdir()).name
    header = read_header(folder / "chain" / "experts" / strategy / "canopy" / "canopy.safetensors")
    assert header.bands[:4] == ("red", "green", "blue", "context:water")
    assert len(header.bands) == 9
    shares = open_scene(folder / "chain" / "context" / strategy / "a.tif")
    assert len(shares.bands) == 6
    made = values_of(folder / "chain" / "maps" / strategy / "a.tif")
    assert (made > 0).all()
    assert run_recipe(folder / "chain.toml", quiet=True).run.done == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": {"canopy": {"paths": ["n.tif"]}, "trees": "fccarb"}}, "both say where trees are"),
        ({"reference": {"canopy": {"paths": ["n.tif"], "roofs": ["house"]}}}, "roofs: Unknown class 'house'"),
        ({"reference": {"canopy": {"paths": []}}}, "reference.canopy.paths"),
        (
            {
                "reference": {"canopy": {"paths": ["n.tif"]}},
                "experts": [{"name": "x", "legend": "lulucf-context"}],
            },
            "no expert with the legend tree-cover reads it",
        ),
    ],
)
def test_a_canopy_that_cannot_be_drawn_is_a_mistake_of_the_recipe(
    change: dict[str, dict[str, object]], message: str
) -> None:
    document = tomllib.loads(RECIPE.format(name="x", image="a.tif", reference="b.gpkg", canopy=""))
    document["reference"] |= change["reference"]
    document |= {"experts": change["experts"]} if "experts" in change else {}
    with pytest.raises(RecipeError, match=message):
        check_recipe(document, where="recipe")
