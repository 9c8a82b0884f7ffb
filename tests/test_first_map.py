"""The recipes of docs/first-map.md on the real data: they are whole, and give the patches that the page speaks of."""

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

import tesela
from repository import DATA, ROOT
from tesela.chains.run import run_recipe

pytestmark = pytest.mark.documents

WRITE: Callable[[Path], list[str]] = runpy.run_path(str(ROOT / "benchmarks/first_map.py"))["write_files"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if not all(
        (DATA / name).exists() for name in ("lanjaron_l8_clc", "modis_clc_lombardy", "eolearn_s2_slovenia")
    ):
        pytest.skip("the data of docs/first-map.md are neither in TESELA_DATA nor in ../shared/data")
    commands = WRITE(tmp_path)
    assert "tesela run corine.toml" in commands
    return tmp_path


def test_the_recipe_of_corine_has_patches_enough_and_larger_ones_are_noted_as_few(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = folder / "corine.toml"
    run_recipe(recipe, until="patches", quiet=True)
    assert "Few patches" not in caplog.text
    run_recipe(recipe, until="patches", quiet=True, changes=["patches.size_px=128"])
    assert "Few patches of 128 px: train 7" in caplog.text


def test_the_recipe_of_monthly_series_makes_its_cube_and_shares(folder: Path) -> None:
    run_recipe(folder / "unmixing.toml", until="pixels", quiet=True)
    assert len(tesela.open_cube(folder / "runs/unmixing/cube/cube.zarr").bands) == 1


def test_the_images_of_several_dates_give_the_patches_of_the_page(folder: Path) -> None:
    text = (folder / "first.py").read_text(encoding="utf-8").partition("expert =")[0]
    names: dict[str, object] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(compile(text, "first.py", "exec"), names)
    patches = names["patches"]
    assert isinstance(patches, tesela.PatchTable)
    assert patches.counts == {"train": 5, "val": 2, "test": 2}
