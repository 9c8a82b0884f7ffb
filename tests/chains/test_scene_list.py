"""Entries of scenes by pattern, folder and table, and items of a stage that are done once."""

from __future__ import annotations

import re
from pathlib import Path

import geopandas as gpd
import pytest
import shapely

from tesela.chains.scene_list import expand_scenes
from tesela.core.errors import RecipeError
from tesela.recipes.schema import check_recipe
from tesela.recipes.stage_items import do_item, forget_items, keep_items


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("chips/b.tif", "chips/a.tif", "chips/notes.txt", "masks/a.tif", "masks/b.tif", "x/a.tif"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
    return tmp_path


def test_a_pattern_or_folder_gives_one_scene_a_file_with_a_reference_by_name(folder: Path) -> None:
    entry = {"paths": "chips/*.tif", "reference": "masks/{name}.tif", "use": "train"}
    wanted = [
        {
            "paths": [f"chips/{name}.tif"],
            "reference": f"masks/{name}.tif",
            "use": "train",
            "name": name,
        }
        for name in "ab"
    ]
    assert expand_scenes([entry], folder) == wanted
    assert expand_scenes([{**entry, "paths": "chips"}], folder) == wanted, "notes.txt is no image"
    same = expand_scenes([{"paths": "*/a.tif"}], folder)
    assert [scene["name"] for scene in same] == ["chips_a", "masks_a", "x_a"]
    one = {"name": "one", "paths": ["chips/a.tif", "x/a.tif"]}
    assert expand_scenes([one, {"paths": "x/a.tif"}], folder) == [one, {"paths": ["x/a.tif"], "name": "a"}]


def test_a_table_of_sheets_gives_image_reference_outline_and_zone(folder: Path) -> None:
    table = folder / "chips" / "sheets.csv"
    table.write_text("Name;Image;Reference;Zone;use\nfirst;a.tif;../masks/a.tif;HU30;map\n;b.tif;;;\n")
    first, second = expand_scenes([{"paths": "chips/sheets.csv", "use": "train"}], folder)
    assert first == {
        "paths": ["chips/a.tif"],
        "use": "map",
        "name": "first",
        "reference": "masks/a.tif",
        "zone": 30,
    }
    assert second == {"paths": ["chips/b.tif"], "use": "train", "name": "b"}
    frame = gpd.GeoDataFrame(
        {"location": ["chips/a.tif"], "zone": [29]}, geometry=[shapely.box(0, 0, 9, 9)], crs=25829
    )
    frame.to_file(folder / "index.gpkg")
    (indexed,) = expand_scenes([{"paths": "index.gpkg"}], folder)
    assert indexed == {"paths": ["chips/a.tif"], "name": "a", "outline": "index.gpkg", "zone": 29}


def test_what_is_no_list_of_scenes_is_refused_in_one_line(folder: Path) -> None:
    (folder / "empty.csv").write_text("file\nchips/a.tif\n")
    mistakes = {
        "none/*.tif": "no file none/*.tif",
        "empty.csv": "has no column with the images, named image, path or location (it has file)",
        "chips/a.npz": "chips/a.npz is an array without coordinates; a scene is a GeoTIFF",
    }
    for paths, words in mistakes.items():
        with pytest.raises(ValueError, match=re.escape(words)):
            expand_scenes([{"paths": paths}], folder)
    with pytest.raises(ValueError, match="names one scene, but chips gives 2; leave name out"):
        expand_scenes([{"name": "a", "paths": "chips"}], folder)
    document = {"chain": "corine", "scenes": [{"paths": ["chips/*.tif"]}], "reference": {"path": "x/a.tif"}}
    with pytest.raises(RecipeError, match=r'scenes: a list holds the files of one scene.*paths = "chips/\*'):
        check_recipe(document, where="r", folder=folder)


def test_an_item_is_done_again_only_where_work_or_files_changed(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("1")
    calls = []

    def item(name: str, **settings: object) -> list[Path]:
        def work() -> list[Path]:
            calls.append(name)
            (tmp_path / f"{name}.out").write_text(name)
            return [tmp_path / f"{name}.out"]

        return do_item(tmp_path, name, settings=settings, inputs=[tmp_path / "in"], work=work)

    assert item("a") == item("a") == [tmp_path / "a.out"]
    item("b")
    assert calls == ["a", "b"]
    (tmp_path / "a.out").write_text("damaged")
    item("a")
    item("b", other=True)
    (tmp_path / "in").write_text("2")
    item("a")
    assert calls == ["a", "b", "a", "b", "a"]
    keep_items(tmp_path, ["b"])
    item("a")
    forget_items(tmp_path)
    item("b", other=True)
    assert calls[5:] == ["a", "b"]
