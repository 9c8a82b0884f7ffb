"""Files and names of strangers: nothing is written outside, no input is replaced, no other file is read."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import rasterio
import torch
import typer
from affine import Affine
from odc.geo.geobox import GeoBox
from safetensors.torch import load_file, save_file

from mosaic_scenes import catalogue_of, mosaic, seen
from tesela.cli import main
from tesela.cli.app import app
from tesela.cli.checked import IN_PLACE, NEGATIVE, NOT_A_NUMBER, OUTPUTS
from tesela.core.errors import ExpertError, InputError, RecipeError
from tesela.core.file_names import check_file_name, inside
from tesela.core.legend import LandClass, Legend
from tesela.io.http import Web
from tesela.io.manifest import write_text
from tesela.io.maps import open_map, write_map
from tesela.io.outputs import check_outputs, protected, temporary_folder
from tesela.mapping.cascade import open_cascade
from tesela.models.expert import Expert, ExpertHeader, open_expert, save_expert
from tesela.models.segmentation.unet import UnetArchitecture
from tesela.publishing.products import check_cog
from tesela.recipes.schema import check_recipe
from tesela.sources.catalogue import check_addresses, find_items
from tesela.sources.providers import Catalogue

UNSAFE = ["../../x", "a/b", "a\\b", "/abs", "..", ".", ".hidden", "", " ", "a\nb", "a\0b", "CON", "a:b", "-o"]
UNSAFE.append("x" * 200)


def grid_of(shape: tuple[int, int]) -> GeoBox:
    return GeoBox(shape, Affine(10, 0, 500000, 0, -10, 4100000), "EPSG:25830")


# -- names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", UNSAFE)
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="cannot be the name of a file"):
        check_file_name(name, what="The name")


@pytest.mark.parametrize("name", ["a", "Alpujarra 2018-04", "Cáceres_1", "30SVF.2018", "x" * 100])
def test_a_plain_name_stays(name: str) -> None:
    assert check_file_name(name, what="The name") == name


@pytest.mark.parametrize("name", ["../../x", "a/b", "..", "a\0b"])
def test_names_in_recipes_cannot_lead_out_of_the_output_folder(name: str) -> None:
    plain = {
        "chain": "corine",
        "scenes": [{"name": "s", "paths": ["a.tif"]}],
        "reference": {"path": "b.gpkg"},
    }
    check_recipe(plain, where="r.toml")
    scene = {**plain, "scenes": [{"name": name, "paths": ["a.tif"]}]}
    expert = {**plain, "chain": "lulucf", "experts": [{"name": name, "legend": "lulucf-context"}]}
    for document in ({**plain, "name": name}, scene, expert):
        with pytest.raises(RecipeError, match="cannot be the name of a file"):
            check_recipe(document, where="r.toml")


def test_numbers_in_recipes_are_finite() -> None:
    plain = {
        "chain": "corine",
        "scenes": [{"name": "s", "paths": ["a.tif"]}],
        "reference": {"path": "b.gpkg"},
    }
    for value in (float("nan"), float("inf")):
        with pytest.raises(RecipeError, match="finite"):
            check_recipe({**plain, "scenes": [{**plain["scenes"][0], "scale": value}]}, where="r.toml")  # type: ignore[index]
    nodata = {**plain["scenes"][0], "nodata": float("nan")}  # type: ignore[index]
    check_recipe({**plain, "scenes": [nodata]}, where="r.toml")


# -- paths that files name ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["../a", "/etc/passwd", "b/../../a", "C:\\a", "~/a", "file:///a", "", "a\0"])
def test_a_path_in_a_file_stays_in_its_folder(path: str) -> None:
    with pytest.raises(InputError, match="leads out of its folder"):
        inside(Path("x"), path, what="The path")


def test_a_cascade_reads_no_expert_of_another_folder(tmp_path: Path) -> None:
    save_expert(tmp_path / "e.safetensors", small_expert())
    (tmp_path / "c").mkdir()
    for path in ("../e.safetensors", str(tmp_path / "e.safetensors")):
        (tmp_path / "c" / "cascade.toml").write_text(f'[[experts]]\npath = "{path}"\n')
        with pytest.raises(RecipeError, match="leads out of its folder"):
            open_cascade(tmp_path / "c")


# -- outputs -----------------------------------------------------------------------------------------


def commands() -> dict[str, click.Command]:
    group = typer.main.get_command(app)
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        for child, item in getattr(command, "commands", {"": command}).items():
            found[f"{name} {child}".strip()] = item
    return found


WRITES = ("File for", "File (", "Cube for", "CSV for", "Map of the pixels", "GeoPackage to write")


def test_the_check_knows_the_outputs_of_every_command() -> None:
    """An option whose help names a file to write must be in the table."""
    for name, command in commands().items():
        known = OUTPUTS.get(name, ("out",))
        for option in command.params:
            text = str(getattr(option, "help", ""))
            writes = text.startswith(WRITES)
            assert not writes or option.name in known, f"{name}: {option.name} is missing in cli/checked.py"
        assert set(known) <= {option.name for option in command.params} | {"out"}, name
    assert set(OUTPUTS) | set(IN_PLACE) <= set(commands())


def write_csv(path: Path) -> Path:
    path.write_text("from,to,share\n1,f,1\n", encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A map, a scene, a legend, a crosswalk, an expert and a cascade, that only have to exist."""
    monkeypatch.chdir(tmp_path)
    write_map(tmp_path / "map.tif", np.ones((40, 40), np.uint8), grid_of((40, 40)), legend=LEGEND)
    for name in ("scene.tif", "labels.tif", "m.gpkg", "e.safetensors", "t.parquet", "s.gpkg", "spectra.csv"):
        (tmp_path / name).write_bytes(b"input")
    (tmp_path / "legend.csv").write_text("value,code,name,color,parent\n1,f,Forest,#00ff00,\n")
    write_csv(tmp_path / "cross.csv")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "cascade.toml").write_text('[[experts]]\npath = "x.safetensors"\n')
    (tmp_path / "c" / "x.safetensors").write_bytes(b"input")
    return tmp_path


@pytest.mark.parametrize(
    "call",
    [
        "predict e.safetensors scene.tif -o e.safetensors",
        "predict c scene.tif -o c/cascade.toml",
        "predict c scene.tif -o c/x.safetensors",
        "predict e.safetensors scene.tif -o new.tif --confidence scene.tif",
        "predict e.safetensors scene.tif -o new.tif --adapted e.safetensors --transfer auto",
        "predict e.safetensors scene.tif -o new.tif --entropy new.tif",
        "unmix e.safetensors cube.zarr -o e.safetensors",
        "unmix e.safetensors --endmembers spectra.csv --library spectra.csv",
        "patches scene.tif --labels labels.tif -o scene.tif",
        "patches scene.tif --labels t.parquet -o t.parquet",
        "generalise map.tif -o new.tif --change-log map.tif",
        "generalise map.tif -o new.tif --priority cross.csv --narrow cross.csv",
        "label m.gpkg --like scene.tif --legend legend.csv -o legend.csv",
        "label m.gpkg --like scene.tif --legend corine-2 --crosswalk cross.csv -o cross.csv",
        "legend convert map.tif --to lulucf --crosswalk cross.csv -o cross.csv",
        "legend convert map.tif --to lulucf -o map.tif",
        "vectorise map.tif -o new.gpkg --confidence new.gpkg",
        "update m.gpkg map.tif --field F -o m.gpkg",
        "mosaic sentinel-2 --like scene.tif --year 2018 -o scene.tif",
        "mosaic layer --collection x --asset y --like scene.tif -o scene.tif",
        "assess map.tif m.gpkg -o map.tif",
        "sample draw map.tif -o map.tif",
        "sample estimate s.gpkg map.tif -o s.gpkg",
        "account map.tif map.tif --years 2018,2019 --crosswalk cross.csv -o cross.csv",
        "legend convert map.tif --to lulucf -o ./sub/../map.tif",
        "legend convert map.tif --to lulucf -o link.tif",
    ],
)
def test_an_output_named_like_an_input_is_refused_and_the_input_stays(
    folder: Path, call: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "sub").mkdir()
    (folder / "link.tif").symlink_to("map.tif")
    if "--confidence new.gpkg" in call:
        (folder / "new.gpkg").write_bytes(b"input")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert main([*call.split(), "--quiet"]) == 1
    text = capsys.readouterr().err
    assert "would be replaced" in text or "named for two outputs" in text, text
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def kind_of(item: Any) -> str:
    """ "text", "number" or "other": what a parameter takes."""
    annotation = str(item.type_descriptor.annotation).removeprefix("<class '").removesuffix("'>")
    if annotation in ("int", "float", "int | None", "float | None"):
        return "number"
    return "text" if annotation in ("str", "str | None", "list[str]", "list[str] | None") else "other"


def call_with(command: click.Command, name: str, values: dict[str, str]) -> list[str]:
    """A call with these values; what else is required gets a text or a number."""
    words: list[str] = []
    arguments: list[str] = []
    for item in command.params:
        value = values.get(str(item.name), "1" if kind_of(item) == "number" else "none.tif")
        if item.required or str(item.name) in values:
            named = [option for option in item.opts if option.startswith("-")]
            if named:
                words += [f"{max(named, key=len)}={value}"]
            else:
                arguments.append(value)
    return [*words, *arguments]


def refused(command: click.Command, name: str, words: list[str]) -> str:
    """Message with which a call is refused."""
    try:
        command.main(words, prog_name=f"tesela {name}", standalone_mode=False)
    except (RecipeError, InputError) as error:
        return str(error)
    except Exception as error:
        if type(error).__name__ not in ("BadParameter", "UsageError"):
            raise
        return str(error.format_message())  # type: ignore[attr-defined]
    return "it ran"


WRITERS = [
    (name, command) for name, command in commands().items() if "out" in {p.name for p in command.params}
]


@pytest.mark.parametrize(("name", "command"), WRITERS, ids=[name for name, _ in WRITERS])
def test_no_output_of_any_command_replaces_what_any_parameter_names(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    command: click.Command,
) -> None:
    """Every parameter with text x every output."""
    monkeypatch.chdir(tmp_path)
    Path("victim.tif").write_bytes(b"input")
    tried = 0
    for item in command.params:
        known = (*IN_PLACE.get(name, ()), *OUTPUTS.get(name, ("out",)), "help")
        if kind_of(item) != "text" or item.name in known:
            continue
        for output in OUTPUTS.get(name, ("out",)):
            words = call_with(command, name, {str(item.name): "victim.tif", output: "./victim.tif"})
            assert "would be replaced" in refused(command, name, words), words
            assert Path("victim.tif").read_bytes() == b"input"
            tried += 1
    assert tried or IN_PLACE.get(name) or name in ("demo", "init")


@pytest.mark.parametrize(("name", "command"), list(commands().items()), ids=list(commands()))
def test_no_command_takes_a_number_that_is_none(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    command: click.Command,
) -> None:
    """Every numeric option x NaN, infinite, negative, and huge."""
    monkeypatch.chdir(tmp_path)
    for item in command.params:
        if kind_of(item) != "number":
            continue
        for value in ("nan", "inf", "-inf", "-1", "1e400"):
            if (item.name in NEGATIVE and value == "-1") or (item.name in NOT_A_NUMBER and value == "nan"):
                continue
            words = call_with(command, name, {str(item.name): value})
            text = refused(command, name, words)
            assert f"--{str(item.name).replace('_', '-')}" in text, f"{words}: {text}"


def test_devices_are_no_outputs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["legend", "convert", "map.tif", "--to", "lulucf", "-o", "/dev/null"]) == 1
    assert "is a device or a pipe" in capsys.readouterr().err
    assert Path("/dev/null").is_char_device()


def test_parts_of_a_shapefile_and_sources_of_a_vrt_are_inputs(tmp_path: Path) -> None:
    for name in ("a.shp", "a.dbf", "part.tif"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "m.vrt").write_text(
        "<VRTDataset><VRTRasterBand><SimpleSource><SourceFilename relativeToVRT='1'>part.tif</SourceFilename>"
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    for output, source in (("a.dbf", "a.shp"), ("part.tif", "m.vrt")):
        with pytest.raises(RecipeError, match="would be replaced"):
            check_outputs([tmp_path / output], inputs=[tmp_path / source])


def test_what_a_command_makes_beside_its_output_replaces_no_input(tmp_path: Path) -> None:
    """The style beside a map, the images in a folder: known only when they are written."""
    (tmp_path / "a.qml").write_text("input")
    with protected([tmp_path / "a.qml"]), pytest.raises(InputError, match="is read by this command"):
        write_text(tmp_path / "a.qml", "output")
    assert (tmp_path / "a.qml").read_text() == "input"
    write_text(tmp_path / "a.qml", "output")
    assert (tmp_path / "a.qml").read_text() == "output"


def test_folders_of_killed_runs_are_removed_and_those_in_use_stay(tmp_path: Path) -> None:
    target = tmp_path / "map.tif"
    left = tmp_path / ".map.tif.abcdefgh"
    other = tmp_path / ".map.tif.original"  # of somebody else
    for one in (left, other):
        one.mkdir()
        (one / "content").write_bytes(b"x")
    (left / ".tesela-held").touch()
    with temporary_folder(target) as first:
        assert not left.exists()
        with temporary_folder(target) as second:
            assert first.exists()
            assert second.exists()
    assert [path.name for path in tmp_path.iterdir()] == [".map.tif.original"]


def test_a_folder_is_known_for_ours_until_it_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it removes its folder, a run leaves one that the next run removes."""
    removed: list[str] = []
    unlink = Path.unlink

    def dies(self: Path, missing_ok: bool = False) -> None:
        removed.append(self.name)
        if len(removed) == 2:
            raise KeyboardInterrupt
        unlink(self, missing_ok)

    target = tmp_path / "map.tif"
    monkeypatch.setattr(Path, "unlink", dies)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    with suppress(KeyboardInterrupt), temporary_folder(target) as folder:
        for name in ("1", "2", "3"):
            (folder / name).touch()
    monkeypatch.undo()
    assert len(removed) == 2
    assert folder.exists()
    with temporary_folder(target):
        assert not folder.exists()


# -- numbers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("predict e.safetensors scene.tif -o o.tif --overlap -5", "--overlap is -5"),
        ("predict e.safetensors scene.tif -o o.tif --prior nan", "--prior is nan"),
        ("predict e.safetensors scene.tif -o o.tif --scale inf", "--scale is inf"),
        ("predict e.safetensors scene.tif -o o.tif --window 99999999", "--window is 99999999 px"),
        ("patches scene.tif --labels labels.tif -o o.parquet --min-labelled nan", "--min-labelled is nan"),
        ("patches scene.tif --labels labels.tif -o o.parquet --size -1", "--size is -1"),
        ("mosaic sentinel-2 --like scene.tif --year 2018 -o o --max-cloud nan", "--max-cloud is nan"),
        ("sample draw map.tif -o o.gpkg --target-error nan", "--target-error is nan"),
        ("account map.tif map.tif --years 1,2 -o o --independent inf", "--independent is inf"),
        ("assess map.tif m.gpkg -o o --tiles -3", "--tiles is -3"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(
    folder: Path, call: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(call.split()) == 1
    assert message in capsys.readouterr().err


def test_widths_that_would_fill_the_memory_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generalise", "map.tif", "--min-width", "40000 km", "-o", "o.tif", "-q"]) == 1
    assert "no part of it is so wide" in capsys.readouterr().err


@pytest.mark.parametrize(
    "call",
    [
        "generalise map.tif -o o.tif -q --mmu",
        "generalise map.tif -o o.tif -q --min-width",
        "vectorise map.tif -o o.gpkg -q --simplify",
    ],
)
def test_quantities_that_are_none_are_refused(
    folder: Path, call: str, capsys: pytest.CaptureFixture[str]
) -> None:
    unit = "ha" if call.endswith("mmu") else "m"
    for number in ("nan", "inf", "-1", "1e300", "1e400"):
        assert main([*call.split(), f"{number} {unit}"]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert f"'{number} {unit}' is" in line


# -- catalogues --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "href", ["file:///etc/passwd", "/etc/passwd", "/vsicurl/http://x/a.tif", "../a.tif", "zip+file://a"]
)
def test_a_catalogue_of_a_server_names_no_local_file(href: str) -> None:
    with pytest.raises(InputError, match="a file of this machine"):
        check_addresses({"id": "i", "assets": {"B04": {"href": href}}}, root=None)


def test_addresses_that_nobody_reads_are_left_out() -> None:
    item = {"id": "i", "assets": {"a": {"href": "https://x/a.tif"}, "b": {"href": "gs://b/a.tif"}}}
    assert set(check_addresses(item, root=None)["assets"]) == {"a"}


def test_a_local_catalogue_reads_its_own_folder_only(tmp_path: Path) -> None:
    catalogue = catalogue_of(tmp_path / "stac", [seen(3, 1000)])
    made = mosaic(str(catalogue), tmp_path / "out")
    assert Path(made.image).exists()
    outside = tmp_path / "secret.tif"
    item_file = next(path for path in catalogue.rglob("*.json") if '"Feature"' in path.read_text())
    document = json.loads(item_file.read_text())
    name = next(iter(document["assets"]))
    for href in (str(outside), "../" * 8 + "etc/passwd", f"file://{outside}", f"/vsizip/{outside}"):
        document["assets"][name]["href"] = href
        item_file.write_text(json.dumps(document))
        with pytest.raises(InputError, match="not in the folder of its catalogue"):
            mosaic(str(catalogue), tmp_path / "out2")


def test_a_catalogue_that_links_to_itself_ends(tmp_path: Path) -> None:
    links = [{"rel": "child", "href": "./catalog.json"}, {"rel": "child", "href": "b/../b/catalog.json"}]
    back = [{"rel": "child", "href": "../catalog.json"}, {"rel": "item", "href": "./catalog.json"}]
    (tmp_path / "b").mkdir()
    base = {"type": "Catalog", "id": "c", "description": "c", "stac_version": "1.0.0"}
    (tmp_path / "catalog.json").write_text(json.dumps({**base, "links": links}))
    (tmp_path / "b" / "catalog.json").write_text(json.dumps({**base, "links": back}))
    days = {"first": date(2018, 1, 1), "last": date(2018, 2, 1)}
    items = find_items(Catalogue(str(tmp_path)), Web(), collection=None, bounds=(0, 0, 1, 1), **days)
    assert items == []


# -- experts and products ----------------------------------------------------------------------------

LEGEND = Legend("known", (LandClass(1, "f", "Forest", "#004400"), LandClass(2, "c", "Crops", "#448800")))


def small_expert() -> Expert:
    net = UnetArchitecture(2, 2, encoder="mobilenet_v2", decoder_channels=(8, 8, 8, 8, 8))
    header = ExpertHeader(
        net, LEGEND, ("red", "nir"), (0.1, 0.3), (0.05, 0.1), patch_size_px=64, pixel_size_m=10.0
    )
    return Expert(header, net.build())


def unsigned_header(file: Path) -> dict[str, Any]:
    """Header without the digests of its file, as a stranger may write it."""
    content = file.read_bytes()
    metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    header: dict[str, Any] = json.loads(metadata["tesela"])
    del header["digests"]
    return header


def test_experts_with_absurd_numbers_are_refused(tmp_path: Path) -> None:
    file = save_expert(tmp_path / "e.safetensors", small_expert())
    assert open_expert(file).header.bands == ("red", "nir")
    tensors, metadata = load_file(file), {"tesela": json.dumps(unsigned_header(file))}
    name = next(key for key, tensor in tensors.items() if tensor.is_floating_point() and tensor.numel() > 8)
    for value, message in ((np.nan, "holds NaN"), (np.inf, "no training gives"), (1e30, "no training gives")):
        changed = {**tensors, name: torch.full_like(tensors[name], value)}
        save_file(changed, tmp_path / "bad.safetensors", metadata=metadata)
        with pytest.raises(ExpertError, match=message):
            open_expert(tmp_path / "bad.safetensors")


def test_headers_that_ask_for_huge_arrays_are_refused(tmp_path: Path) -> None:
    file = save_expert(tmp_path / "e.safetensors", small_expert())
    ours = unsigned_header(file)
    wide = {**ours["architecture"], "decoder_channels": [2048] * 5}
    for key, value in (("patch_size_px", 10**9), ("architecture", wide)):
        save_file(
            load_file(file), tmp_path / "b.safetensors", metadata={"tesela": json.dumps({**ours, key: value})}
        )
        with pytest.raises(ExpertError, match=r"must be positive|has shape"):
            open_expert(tmp_path / "b.safetensors")


def test_a_cog_with_a_missing_tile_is_not_published(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(1, 3, (1500, 1500)).astype(np.uint8)
    write_map(tmp_path / "map.tif", values, grid_of(values.shape), legend=LEGEND)
    check_cog(tmp_path / "map.tif")
    content = (tmp_path / "map.tif").read_bytes()
    for share in (0.25, 0.6, 0.95):
        (tmp_path / "cut.tif").write_bytes(content[: int(len(content) * share)])
        with rasterio.open(tmp_path / "cut.tif") as data:  # its header is whole
            assert data.shape == (1500, 1500)
        with pytest.raises(InputError, match="cannot be read, the file is broken or cut"):
            check_cog(tmp_path / "cut.tif")
    assert open_map(tmp_path / "map.tif").legend.codes == ("f", "c")
