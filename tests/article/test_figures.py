"""The figures of finished runs: tiny runs of each chain whose files are written here, without a training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from PIL import Image

from pdf_text import pdf_words
from tesela.article.draw import draw_figures
from tesela.article.drawing import Source
from tesela.article.scenes import differences_part, mapped_scene
from tesela.assessment.pictures import DIFFERENCE
from tesela.chains.run import build_chain, run_recipe
from tesela.chains.run_record import find_run
from tesela.cli import main
from tesela.core.errors import InputError, RecipeError
from tesela.core.legend import Legend
from tesela.io.abundance import AbundanceWriter, open_abundance
from tesela.io.cube_writer import CubeWriter
from tesela.io.images import write_bands
from tesela.io.legends import open_legend
from tesela.io.maps import open_map, write_map
from tesela.io.msmtu import BANDS, TIMES
from tesela.io.scenes import open_scene
from tesela.patches.table import make_patches

SIDE, TILE = 96, 32
GRID = GeoBox((SIDE, SIDE), Affine(10, 0, 440_000, 0, -10, 4_090_000), "EPSG:25830")

CORINE = """
chain = "corine"
name = "tiny"
out = "run"
[[scenes]]
name = "valley"
paths = ["scene.tif"]
[reference]
path = "gone.gpkg"
[patches]
size_px = 32
[assessment]
tiles_px = 64
"""

LULUCF = """
chain = "lulucf"
name = "tiny"
out = "run"
species = ["24"]
[[scenes]]
name = "sheet"
paths = ["scene.tif"]
[reference]
path = "gone.gpkg"
"""

UNMIXING = """
chain = "unmixing"
name = "tiny"
out = "run"
legend = "{legend}"
[cube]
path = "cube.zarr"
[reference]
path = "shares.tif"
[split]
block = ["3 km", "3 km"]
fractions = [0.5, 0.25, 0.25]
"""


def write_scene(folder: Path) -> None:
    """An image of three bands."""
    pixels = np.random.default_rng(0).integers(1, 255, (3, SIDE, SIDE)).astype(np.uint8)
    write_bands(folder / "scene.tif", pixels, GRID, names=("red", "green", "blue"))


def squares(values: Sequence[int], side: int = 8) -> NDArray[np.uint8]:
    """Class values in squares."""
    drawn = np.random.default_rng(1).choice(values, (SIDE // side, SIDE // side))
    return np.kron(drawn, np.ones((side, side), int)).astype(np.uint8)


@pytest.fixture
def corine(tmp_path: Path) -> Path:
    """A run whose map is wrong in the middle tile only; the right third of the patches is the test area."""
    (tmp_path / "corine.toml").write_text(CORINE)
    write_scene(tmp_path)
    legend = open_legend("corine-2")
    used = [legend[code].value for code in ("11", "21", "31")]
    labels = squares(used)
    labels[:2] = 0
    wrong = labels.copy()
    wrong[TILE : 2 * TILE, TILE:] = legend["51"].value
    run = tmp_path / "run"
    for name, values in (("labels", labels), ("maps", wrong)):
        (run / name).mkdir(parents=True)
        write_map(run / name / "valley.tif", values, GRID, legend=legend)
    scene, reference = open_scene(tmp_path / "scene.tif"), open_map(run / "labels" / "valley.tif")
    table = make_patches([replace(scene, name="valley")], [reference], size_px=TILE)
    (run / "patches").mkdir()
    split = ["test" if col >= TILE else "train" for col in table.frame["col"]]
    table.with_splits(split).write(run / "patches" / "patches.parquet")
    return tmp_path


@pytest.mark.slow
def test_a_corine_run_is_drawn_in_one_command(corine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["figures", str(corine / "run"), "--dpi", "60", "-q"]) == 0
    lines = capsys.readouterr().out.splitlines()
    folder = corine / "run" / "figures"
    assert [line.split()[:2] for line in lines] == [["corine", number] for number in "456"]
    assert len(lines) == 3
    for number in "456":
        with Image.open(folder / f"corine-{number}.png") as picture:
            assert picture.width == pytest.approx(180 / 25.4 * 60, abs=2), "both columns of a journal"
        content = (folder / f"corine-{number}.pdf").read_bytes()
        words = pdf_words(content)
        assert "(d) Pixels that" in words
        assert ("test area" in words) == (number == "4"), "the details lie in it"
        assert " m" in words, "a scale bar"
        assert "(b) reference" in (folder / f"corine-{number}.txt").read_text()
        assert b"/CreationDate" not in content


def test_the_legend_names_the_classes_that_are_drawn_and_no_others(corine: Path) -> None:
    draw_figures(corine / "run", corine / "out", only=["4"], dpi=60)
    words = pdf_words((corine / "out" / "corine-4.pdf").read_bytes())
    for name in ("11 Urban fabric", "21 Arable land", "31 Forests", "51 Inland waters"):
        assert name in words
    for item in open_legend("corine-2").classes:
        if item.code not in ("11", "21", "31", "51"):
            assert f"{item.code} {item.name}"[:20] not in words


def test_details_are_the_parts_with_the_highest_and_the_lowest_iou_in_the_test_area(
    corine: Path,
) -> None:
    run = find_run(corine / "run")
    scene = mapped_scene(Source(build_chain(run.recipe, run.folder, quiet=True), run.file))
    best, worst = scene.details()
    assert worst.mean_iou == 0
    assert worst.window.boundingbox.top == 4_090_000 - 10 * TILE, "the middle row"
    assert best.mean_iou == 1
    assert best.window.boundingbox.left >= 440_000 + 10 * TILE, "the left column is not evaluated"
    assert best.window.shape == worst.window.shape == (TILE, TILE), (
        "thirds: the map is less than two tiles wide"
    )


def test_a_generalised_map_takes_the_place_of_the_differences(corine: Path) -> None:
    run = corine / "run"
    (run / "report").mkdir()
    source = open_map(run / "maps" / "valley.tif")
    source.save(run / "report" / "generalised.tif")
    drawn = draw_figures(run, only=["4"], dpi=60)
    assert "generalised" in drawn.captions["4"]
    assert "(d) Generalised map" in pdf_words(drawn.files["4"][1].read_bytes())


def test_the_same_run_gives_the_same_bytes(corine: Path) -> None:
    both = [draw_figures(corine / "run", corine / name, only=["6"], dpi=60) for name in ("a", "b")]
    for kind in (0, 1):
        assert both[0].files["6"][kind].read_bytes() == both[1].files["6"][kind].read_bytes()


@pytest.mark.parametrize(
    ("missing", "stage"),
    [("maps/valley.tif", "map"), ("labels/valley.tif", "label"), ("patches/patches.parquet", "patches")],
)
def test_what_is_missing_is_one_line_that_names_the_stage(
    corine: Path, missing: str, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (corine / "run" / missing).unlink()
    assert main(["figures", str(corine / "run"), "--only", "5", "-q"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tesela: Figure 5: ")
    assert f"tesela run corine.toml --until {stage}" in line


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--only", "7"], "Unknown figure of corine '7'"),
        (["--dpi", "5"], "dpi is 5; give 50 to 1200"),
        (["--scene", "hill"], "Unknown mapped scene 'hill'"),
    ],
)
def test_a_wrong_option_is_one_line(
    corine: Path, words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["figures", str(corine / "run"), *words, "-q"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no run of a recipe is found here"):
        draw_figures(tmp_path)


@pytest.fixture
def lulucf(tmp_path: Path) -> Path:
    """A run of three experts: context, canopy in its forest, species under its trees."""
    (tmp_path / "lulucf.toml").write_text(LULUCF)
    write_scene(tmp_path)
    context = open_legend("lulucf-context")
    rows = [
        {**row, "level": str(level), "parent": "" if level == 1 else row["code"]}
        for level in (1, 2, 3)
        for row in context.to_rows()
    ]
    below = (("2", "21", "tree", "forest"), ("2", "22", "open", "forest"), ("3", "22", "open", "open"))
    rows += [
        {"level": level, "value": value, "code": code, "name": f"Name of {code}", "parent": parent}
        for level, value, code, parent in (*below, ("3", "31", "24", "tree"))
    ]
    legend = Legend.from_rows("tiny", rows)
    run = tmp_path / "run"
    for folder in (run / "labels" / "context", run / "maps" / "loss", run / "report" / "reference"):
        folder.mkdir(parents=True)
    first = [context[code].value for code in ("water", "forest")]
    write_map(run / "labels" / "context" / "sheet.tif", squares(first), GRID, legend=context)
    values = [legend[code].value for code in ("water", "24", "open")]
    write_map(run / "maps" / "loss" / "sheet.tif", squares(values), GRID, legend=legend)
    write_map(run / "report" / "reference" / "sheet.tif", squares(values), GRID, legend=legend)
    return tmp_path


def test_a_lulucf_run_is_drawn_in_one_command(lulucf: Path) -> None:
    drawn = draw_figures(lulucf / "run", dpi=60)
    assert list(drawn.files) == ["1a", "1b", "2"]
    assert not drawn.missing
    for number, width in (("1a", 90), ("1b", 90), ("2", 180)):
        with Image.open(drawn.files[number][0]) as picture:
            assert picture.width == pytest.approx(width / 25.4 * 60, abs=2)
    labels, cascade = (pdf_words(drawn.files[number][1].read_bytes()) for number in ("1b", "2"))
    assert "Water" in labels
    assert "Crops" not in labels
    for text in ("(a) Context", "(b) Canopy", "(c) Species", "(d) Labels of all experts", "Name of 24"):
        assert text in cascade
    assert drawn.captions["2"].endswith("(a) context, (b) canopy, (c) species, (d) labels of all experts.")


def test_the_cascade_is_not_drawn_before_it_was_assessed(lulucf: Path) -> None:
    (lulucf / "run" / "report" / "reference" / "sheet.tif").unlink()
    drawn = draw_figures(lulucf / "run", dpi=60)
    assert list(drawn.files) == ["1a", "1b"]
    assert "tesela run lulucf.toml --until assess" in drawn.missing["2"]


@pytest.fixture
def unmixing(tmp_path: Path) -> Path:
    """A run up to its pixels, and a map that is the reference of level 2 under noise."""
    return write_unmixing(tmp_path, "sipna-2")


def write_unmixing(folder: Path, legend_name: str) -> Path:
    """A run in a legend."""
    grid = GeoBox((30, 24), Affine(500, 0, 400_000, 0, -500, 4_100_000), "EPSG:25830")
    rng, legend = np.random.default_rng(0), open_legend(legend_name)
    shares = np.moveaxis(rng.dirichlet(np.full(len(legend), 0.3), (30, 24)), -1, 0)
    with CubeWriter(folder / "cube.zarr", grid, times=TIMES, bands=BANDS, layers=()) as cube:
        cube.write(0, 0, rng.random((12, 7, 30, 24)))
    with AbundanceWriter(folder / "shares.tif", grid, legend) as file:
        file.write_shares(0, 0, shares)
    recipe = folder / "unmixing.toml"
    recipe.write_text(UNMIXING.format(legend=legend_name))
    run_recipe(recipe, until="pixels", quiet=True)
    noisy = shares + rng.random(shares.shape) * 0.2
    (folder / "run" / "maps").mkdir()
    with AbundanceWriter(folder / "run" / "maps" / "abundances.tif", grid, legend) as file:
        file.write_shares(0, 0, noisy / noisy.sum(axis=0))
    assert open_abundance(folder / "run" / "maps" / "abundances.tif").legend == legend
    return folder


def write_comparison(run: Path, *, models: Sequence[str], levels: Sequence[int] = (2, 1)) -> None:
    """What `tesela compare --vary training.model=...` leaves, as far as the bars read it."""
    legend = open_legend("sipna-2")
    settings = [
        {
            "setting": {"training.model": model},
            "metrics": {
                f"{name}, level {level}": {
                    "mean": 5.0 + k,
                    "sd": None,
                    "classes": {item.name: 4.0 + k for item in legend.level(level).classes},
                }
                for level in levels
                for name in ("RMSE", "MAE")
            },
        }
        for k, model in enumerate(models)
    ]
    (run / "compare").mkdir()
    (run / "compare" / "compare.json").write_text(json.dumps({"settings": settings}))


@pytest.mark.slow
def test_an_unmixing_run_is_drawn_in_one_command(unmixing: Path) -> None:
    run = unmixing / "run"
    write_comparison(run, models=["brits", "tempcnn"])
    drawn = draw_figures(run, dpi=60)
    assert list(drawn.files) == ["8", "11", "12", "13", "14", "15", "16"]
    assert not drawn.missing
    words = {number: pdf_words(pdf.read_bytes()) for number, (_, pdf) in drawn.files.items()}
    for number in ("11", "14"):
        assert "brits" in words[number]
        assert "tempcnn" in words[number]
    for number in ("11", "12"):
        assert "Agricultural lands" in words[number], "level 1"
        assert "Greenhouses" not in words[number]
    for number in ("14", "15"):
        assert "Greenhouses" in words[number], "level 2"
    for number in ("8", "13", "16"):
        assert "grid north of ETRS89 / UTM zone 30N" in words[number]
        assert " km" in words[number], "a scale bar"
    for png, _ in drawn.files.values():
        with Image.open(png) as picture:
            assert picture.width == pytest.approx(180 / 25.4 * 60, abs=3)


def test_without_a_comparison_the_bars_need_the_expert(unmixing: Path) -> None:
    with pytest.raises(InputError, match=r"Figure 11: .*tesela run unmixing.toml --until train"):
        draw_figures(unmixing / "run", only=["11"])


def test_a_comparison_of_too_many_settings_is_refused(unmixing: Path) -> None:
    write_comparison(unmixing / "run", models=[f"m{k}" for k in range(7)])
    with pytest.raises(InputError, match="compares 7 settings; bars show up to 6"):
        draw_figures(unmixing / "run", only=["14"])


def test_a_legend_of_one_level_has_no_figures_of_the_second(tmp_path: Path) -> None:
    write_unmixing(tmp_path, "sipna-1")
    drawn = draw_figures(tmp_path / "run", dpi=60)
    assert list(drawn.files) == ["8", "12", "13"]
    assert "has no level 2" in drawn.missing["15"]


def test_a_run_is_found_by_its_record_its_recipe_or_the_folder_above(unmixing: Path) -> None:
    run = unmixing / "run"
    record = json.loads((run / "run.json").read_text())
    assert record["folder"] == ".."
    assert record["file"] == "unmixing.toml"
    for path in (run, unmixing / "unmixing.toml"):
        assert find_run(path).out.resolve() == run.resolve()
    (run / "run.json").unlink()
    assert find_run(run).recipe.name == "tiny"
    (run / "run.json").write_text("{")
    with pytest.raises(RecipeError, match=r"run\.json: cannot be read"):
        find_run(run)


def test_the_record_holds_the_keys_that_a_command_set(unmixing: Path) -> None:
    run_recipe(unmixing / "unmixing.toml", until="label", changes=["name=other"], quiet=True)
    assert find_run(unmixing / "run").recipe.name == "other"


def test_the_legend_of_differences_has_no_gap() -> None:
    part = differences_part(np.array([[0, 0.2, 0.85, np.nan]], np.float32))
    assert [entry.label for entry in part.entries] == list(DIFFERENCE)[:5]
    assert not differences_part(np.full((1, 2), np.nan, np.float32)).entries
