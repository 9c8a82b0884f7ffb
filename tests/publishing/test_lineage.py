"""The lineage of a published file: every step from imagery and reference, and none that is not its own."""

import shutil
from pathlib import Path
from xml.etree import ElementTree

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from tesela.cli import main
from tesela.core.publication import Publication
from tesela.io.fingerprints import fingerprint
from tesela.io.legends import open_legend
from tesela.io.lineage import imagery_dates, lineage_text, read_lineage
from tesela.io.manifest import Manifest, amend_step, record_step, recorded_above
from tesela.io.maps import write_map
from tesela.models.expert import Expert, ExpertHeader, Provenance, save_expert
from tesela.models.segmentation.unet import UnetArchitecture
from tesela.publishing import publish
from tesela.publishing.catalogue_record import make_mcf

GRID = GeoBox((256, 256), Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 4_100_000.0), "EPSG:32630")
CORINE = open_legend("corine-1")


@pytest.fixture
def map_file(tmp_path: Path) -> Path:
    values = np.where(np.arange(256)[None, :].repeat(256, 0) < 128, 3, 5).astype(np.uint8)
    values[100:104, 100:104] = 1
    return Path(write_map(tmp_path / "work" / "map.tif", values, GRID, legend=CORINE).path)


def run(*words: str | Path) -> None:
    assert main([*map(str, words), "--quiet"]) == 0


def steps_of(*paths: Path) -> list[str]:
    return [step.step for step in read_lineage(*paths)]


def test_a_published_generalised_map_names_every_step_from_imagery_and_reference(tmp_path: Path) -> None:
    left, bottom, right, top = GRID.extent.boundingbox
    middle = (left + right) / 2
    boxes = [shapely.box(left, bottom, middle, top), shapely.box(middle, bottom, right, top)]
    frame = gpd.GeoDataFrame({"CODE_18": ["311", "512"]}, geometry=boxes, crs="EPSG:32630")
    frame.to_file(tmp_path / "clc.gpkg", layer="clc")
    scene, expert = tmp_path / "scene.tif", tmp_path / "experts" / "north.safetensors"
    profile = {"driver": "GTiff", "width": 256, "height": 256, "count": 2, "dtype": "float32"}
    with rasterio.open(scene, "w", crs="EPSG:32630", transform=GRID.affine, **profile) as data:
        data.write(np.random.default_rng(1).random((2, 256, 256), np.float32))
        data.descriptions = ("red", "nir")
    net = UnetArchitecture(2, 5, encoder="mobilenet_v2", decoder_channels=(8, 8, 8, 8, 8))
    header = ExpertHeader(
        net, CORINE, ("red", "nir"), (0.5, 0.5), (0.3, 0.3), patch_size_px=64, pixel_size_m=10.0
    )
    made = Provenance(7, "2026-05-01", {"torch": "2.15.0"}, {"patches.parquet": "0" * 32})
    expert.parent.mkdir()
    save_expert(
        expert,
        Expert(ExpertHeader(**{**vars(header), "provenance": made, "training": {"epochs": 3}}), net.build()),
    )
    work = tmp_path / "work"
    run("label", tmp_path / "clc.gpkg", "--like", scene, "--legend", "corine-1", "-o", work / "labels.tif")
    run("predict", expert, scene, "-o", work / "map.tif", "--engine", "torch", "--precision", "fp32")
    run("generalise", work / "map.tif", "--mmu", "1 ha", "--min-width", "0", "-o", work / "general.tif")
    table = tmp_path / "crosswalk.csv"
    table.write_text("from,to\n1,settlements\n2,cropland\n3,forest_land\n4,wetlands\n5,wetlands\n")
    run(
        *("legend", "convert", work / "general.tif", "--to", "lulucf"),
        *("--crosswalk", table, "-o", work / "lulucf.tif"),
    )
    run("vectorise", work / "lulucf.tif", "--simplify", "20 m", "-o", work / "lulucf.gpkg")
    run(
        *("publish", work / "lulucf.tif", "--date", "2018", "-o", tmp_path / "out"),
        *("--include", work / "lulucf.gpkg"),
    )
    root = ElementTree.parse(tmp_path / "out" / "lulucf.iso.xml").getroot()
    text = next(item.text or "" for item in root.iter() if "made north.safetensors" in (item.text or ""))
    lines = text.splitlines()
    assert lines[0].startswith(
        "1. train made north.safetensors from patches.parquet on 2026-05-01: legend corine-1, seed 7, epochs 3"
    )
    assert "2. predict made map.tif from north.safetensors, scene.tif on " in lines[1]
    assert "from map.tif on 2" in lines[2]
    assert ": legend corine-1, edges keep, min_width 0 m, mmu 1 ha, rounds 1." in lines[2]
    assert lines[3].startswith("4. legend convert made lulucf.tif from general.tif")
    assert "from corine-1" in lines[3]
    assert lines[4].startswith("5. vectorise made lulucf.gpkg from lulucf.tif")
    assert "simplify 20 m" in lines[4]
    assert lines[5] == "Step 1 with torch 2.15.0."
    assert lines[6].startswith("Step 2, 3, 4, 5 with ")
    assert steps_of(work / "labels.tif") == ["label"]
    assert "from clc.gpkg" in lineage_text(read_lineage(work / "labels.tif"))


def test_updated_polygons_name_the_old_map_and_the_steps_of_the_new_one(
    map_file: Path, tmp_path: Path
) -> None:
    run("vectorise", map_file, "-o", tmp_path / "old.gpkg")
    run("update", tmp_path / "old.gpkg", map_file, "--field", "code", "-o", tmp_path / "update.gpkg")
    assert steps_of(tmp_path / "update.gpkg") == ["vectorise", "update"]
    last = read_lineage(tmp_path / "update.gpkg")[-1]
    assert sorted(last.inputs) == ["old.gpkg", "work/map.tif"]
    assert last.settings["field"] == "code"


def test_a_file_that_was_changed_after_its_step_has_no_lineage(map_file: Path, tmp_path: Path) -> None:
    run("generalise", map_file, "--mmu", "1 ha", "--min-width", "0", "-o", tmp_path / "g.tif")
    assert steps_of(tmp_path / "g.tif") == ["generalise"]
    with rasterio.open(tmp_path / "g.tif", "r+", IGNORE_COG_LAYOUT_BREAK="YES") as data:
        data.update_tags(edited="by hand")
    assert steps_of(tmp_path / "g.tif") == []


def test_a_step_on_another_version_of_its_input_does_not_name_how_the_present_one_was_made(
    map_file: Path, tmp_path: Path
) -> None:
    run("generalise", map_file, "--mmu", "1 ha", "--min-width", "0", "-o", tmp_path / "g.tif")
    run("vectorise", tmp_path / "g.tif", "-o", tmp_path / "g.gpkg")
    assert steps_of(tmp_path / "g.gpkg") == ["generalise", "vectorise"]
    run("generalise", map_file, "--mmu", "0 ha", "--min-width", "0", "-o", tmp_path / "g.tif")
    assert steps_of(tmp_path / "g.gpkg") == ["vectorise"]


def test_files_that_moved_with_their_manifests_are_found_by_their_fingerprints(
    map_file: Path, tmp_path: Path
) -> None:
    run("generalise", map_file, "--mmu", "1 ha", "--min-width", "0", "-o", tmp_path / "a" / "g.tif")
    run("vectorise", tmp_path / "a" / "g.tif", "-o", tmp_path / "b" / "g.gpkg")
    shutil.copytree(tmp_path / "b", tmp_path / "c")
    shutil.move(tmp_path / "a" / "g.tif.manifest.json", tmp_path / "c" / "moved.manifest.json")
    shutil.rmtree(tmp_path / "a")
    assert steps_of(tmp_path / "c" / "g.gpkg") == ["generalise", "vectorise"]


def test_a_stage_of_a_recipe_and_a_table_of_a_database_leave_no_manifest_beside(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with recorded_above():
        assert record_step("label", [tmp_path / "a.txt"], inputs=[]) is None
    assert record_step("update", ["postgresql://host/base|layername=a"], inputs=[]) is None
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_step_that_changes_its_output_in_place_amends_its_manifest(map_file: Path, tmp_path: Path) -> None:
    run("generalise", map_file, "--mmu", "1 ha", "--min-width", "0", "-o", tmp_path / "g.tif")
    with rasterio.open(tmp_path / "g.tif", "r+", IGNORE_COG_LAYOUT_BREAK="YES") as data:
        data.update_tags(shares="kept")
    amend_step(tmp_path / "g.tif", inputs=[map_file.with_suffix(".qml")], settings={"shares": "kept"})
    text = lineage_text(read_lineage(tmp_path / "g.tif"))
    assert "generalise made g.tif from map.qml, map.tif on " in text
    assert "shares kept" in text
    assert amend_step(map_file, inputs=[], settings={}) is None


def test_a_key_in_an_address_does_not_reach_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    address = "/vsis3/bucket/a.tif?signature=abc"
    path = record_step("label", [tmp_path / "a.txt", None], inputs=[address, None])
    assert path is not None
    assert "abc" not in path.read_text(encoding="utf-8")
    assert read_lineage(tmp_path / "a.txt")[0].inputs.keys() == {"/vsis3/bucket/a.tif"}


def test_the_lineage_follows_the_manifests_back_to_the_sources(map_file: Path, tmp_path: Path) -> None:
    work, content = tmp_path / "work", fingerprint(map_file)
    scenes = [{"name": "map", "date": "2018-07-05"}, {"name": "other", "date": "2019-01-01"}]
    (tmp_path / "experts").mkdir()
    Manifest("train", {"epochs": 3}, {"../in.tif": "x"}, {"e.safetensors": "y"}, "demo", 4).write(
        tmp_path / "experts"
    )
    Manifest("map", {"scenes": scenes}, {"../experts/e.safetensors": "y"}, {"map.tif": content}).write(work)
    (tmp_path / "report").mkdir()
    Manifest("assess", {}, {"../maps/map.tif": content}, {"report.html": "r"}).write(tmp_path / "report")
    steps = read_lineage(map_file)
    assert [step.step for step in steps] == ["train", "map"]
    assert imagery_dates(steps, scene="map") == "2018-07-05"
    assert imagery_dates(steps) == "2018-07-05/2019-01-01"
    assert lineage_text(steps).startswith("1. train made e.safetensors from in.tif on ")
    assert ": legend demo, seed 4, epochs 3" in lineage_text(steps)
    made = publish(map_file, tmp_path / "out", Publication("Map"))
    assert '"datetime": "2018-07-05T00:00:00Z"' in made.item.read_text(encoding="utf-8")
    assert "from in.tif on " in (tmp_path / "out" / "map.iso.xml").read_text(encoding="utf-8")


def test_a_manifest_above_the_files_folder_counts_and_words_are_no_dates(
    map_file: Path, tmp_path: Path
) -> None:
    scenes = [
        {"name": "a", "date": "spring"},
        {"name": "b", "date": "2018"},
        {"name": "c", "date": "2018-04/2018-09"},
    ]
    outputs = {"work/map.tif": fingerprint(map_file)}
    Manifest("map", {"scenes": scenes}, {}, outputs, versions={"numpy": "2"}).write(tmp_path)
    steps = read_lineage(map_file)
    assert [step.step for step in steps] == ["map"]
    assert imagery_dates(steps, scene="a") == ""
    assert imagery_dates(steps) == "2018-01-01/2018-12-31"
    assert lineage_text(steps).endswith("\nAll with numpy 2.")


def test_a_mosaic_shows_the_months_of_its_name(map_file: Path) -> None:
    outputs = {"map.tif": fingerprint(map_file)}
    Manifest("mosaic", {"periods": ["2018-04", "2018-06to08"]}, {}, outputs).write(map_file.parent)
    steps = read_lineage(map_file)
    assert imagery_dates(steps, scene="2018-06to08") == "2018-06/2018-08"
    words = make_mcf(map_file, GRID, None, publication=Publication("Map", date="2018"))["identification"]
    assert words["keywords"]["inspire"]["keywords"] == ["Orthoimagery"]  # type: ignore[index]
    assert imagery_dates(steps) == "2018-04-01/2018-08-31"


def test_a_file_that_no_manifest_lists_has_no_lineage(map_file: Path) -> None:
    Manifest("map", {}, {}, {"another.tif": "z"}).write(map_file.parent)
    assert read_lineage(map_file) == ()
