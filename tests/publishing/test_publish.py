"""Published maps and experts: what the records say is what the files hold, and they are valid."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from repository import SCHEMAS
from tesela.cli import main
from tesela.core.errors import ExpertError, InputError
from tesela.core.legend import LandClass, Legend
from tesela.core.publication import Publication, read_period
from tesela.generalise.vectorise import vectorise_map
from tesela.io.abundance import AbundanceWriter
from tesela.io.maps import ScoreWriter, open_map, write_map
from tesela.io.stac_items import footprint, raster_item
from tesela.models.expert import Expert, ExpertHeader, Provenance, save_expert
from tesela.models.segmentation.unet import UnetArchitecture
from tesela.models.unmixers import BritsArchitecture
from tesela.models.unmixing_header import SeriesScaling
from tesela.publishing import check_cog, publish
from tesela.publishing.catalogue_record import make_mcf

LEGEND = Legend(
    "demo",
    (
        LandClass(1, "w", "Water & ice", "#0000ff"),
        LandClass(2, "l", "<Land>", "#ffff00"),
        LandClass(7, "f", "Wood", "#008800"),
    ),
)
GRID = GeoBox((600, 800), Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 4_100_000.0), "EPSG:32630")
PUBLICATION = Publication(
    'Land & "cover" <2018>',
    date="2018-07",
    license="CC-BY-4.0",
    provider="Agency & Sons <x>",
    contact="maps@agency.example",
    keywords=("León", "a<b"),
    published="2026-01-02",
)
CORE = "https://schemas.stacspec.org/v1.1.0/item-spec/json-schema/item.json"
"""Official schemas of the STAC extensions, one ``.json`` each; no package ships them, MLM's models but for."""


def stripes() -> np.ndarray:
    cols = np.arange(800)[None, :].repeat(600, axis=0)
    values = np.where(cols < 300, 1, np.where(cols < 600, 2, 7)).astype(np.uint8)
    values[:50, :50] = 0
    return values


@pytest.fixture
def map_file(tmp_path: Path) -> Path:
    return Path(write_map(tmp_path / "work" / "map.tif", stripes(), GRID, legend=LEGEND).path)


@pytest.fixture(scope="module")
def expert_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    net = UnetArchitecture(2, 3, encoder="mobilenet_v2", decoder_channels=(8, 8, 8, 8, 8))
    header = ExpertHeader(
        net,
        LEGEND,
        ("red", "nir"),
        mean=(0.1, 0.3),
        std=(0.05, 0.1),
        patch_size_px=64,
        pixel_size_m=10.0,
        training={"epochs": 3, "rule|of": "a<b"},
        scores={
            "accuracy": 0.9,
            "miou": 0.5,
            "macro_f1": 0.6,
            "iou": {"w": 0.25},
            "f1": {"w": 0.4},
            "patches": 12,
        },
        provenance=Provenance(5, "2026-05-01", {"torch": "2.15.0+cpu"}, {"patches": "abc"}),
    )
    path = tmp_path_factory.mktemp("experts") / "north-1.safetensors"
    return save_expert(path, Expert(header, net.build()))


@pytest.fixture(scope="module")
def unmixer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    net = BritsArchitecture(bands=2, classes=3, layers=1, hidden=4, embedding=3)
    header = ExpertHeader(
        net,
        LEGEND,
        ("red", "nir"),
        mean=(0.1, 0.3),
        std=(0.05, 0.1),
        patch_size_px=1,
        pixel_size_m=460.0,
        task="unmixing",
        series=SeriesScaling((1, 2, 3), ("altitude",), (500.0,), (200.0,), (0.5, 0.25, 0.25)),
        scores={"val_rmse": 0.12},
        provenance=Provenance(5, "2026-05-01"),
    )
    path = tmp_path_factory.mktemp("unmixers") / "south.safetensors"
    return save_expert(path, Expert(header, net.build()))


@pytest.fixture(scope="module")
def cascade_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two experts of two folders whose files have one name; the second splits the wood of the first."""
    folder = tmp_path_factory.mktemp("cascades")
    kinds = Legend("kinds", (LandClass(1, "p", "Pine", "#004400"), LandClass(2, "o", "Oak", "#448800")))
    for name, legend, day in (("cover", LEGEND, "2026-05-01"), ("kinds", kinds, "2026-05-03")):
        net = UnetArchitecture(2, len(legend), encoder="mobilenet_v2", decoder_channels=(8, 8, 8, 8, 8))
        header = ExpertHeader(
            net,
            legend,
            ("red", "nir"),
            mean=(0.1, 0.3),
            std=(0.05, 0.1),
            patch_size_px=64,
            pixel_size_m=10.0,
            training={"epochs": 3, "weights": "imagenet" if name == "cover" else None},
            scores={"accuracy": 0.9},
            provenance=Provenance(5, day, {"torch": "2.15.0+cpu"}),
        )
        (folder / name).mkdir()
        save_expert(folder / name / "expert.safetensors", Expert(header, net.build()))
    (folder / "cascade.toml").write_text(
        'name = "Wood land"\n[[experts]]\npath = "cover/expert.safetensors"\nname = "cover"\n'
        '[[experts]]\npath = "kinds/expert.safetensors"\nname = "kinds"\nparent = "cover"\nclasses = ["f"]\n'
        "min_confidence = 0.25\n",
        encoding="utf-8",
    )
    return folder / "cascade.toml"


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def shipped_schemas() -> dict[str, Any]:
    """STAC 1.1 and GeoJSON as pystac ships them, PROJJSON as PROJ does: by address."""
    import pyproj.datadir
    from pystac.validation.local_validator import get_local_schema_cache

    projjson = read(Path(pyproj.datadir.get_data_dir()) / "projjson.schema.json")
    return {**get_local_schema_cache(), "https://proj.org/schemas/v0.7/projjson.schema.json": projjson}


def problems(item: dict[str, Any], schema: str, schemas: dict[str, Any]) -> list[str]:
    from jsonschema import Draft7Validator
    from referencing import Registry, Resource

    registry = Registry().with_resources(
        [(name, Resource.from_contents(text)) for name, text in schemas.items()]
    )
    return [error.message for error in Draft7Validator(schemas[schema], registry=registry).iter_errors(item)]


@pytest.fixture(params=["map", "abundance", "image", "expert", "unmixer", "cascade"])
def item(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Items of all kinds of product."""
    if request.param in ("map", "expert", "unmixer", "cascade"):
        path = request.getfixturevalue(f"{request.param}_file")
        return read(publish(path, tmp_path / "out", PUBLICATION).item)
    path = tmp_path / f"{request.param}.tif"
    sinusoidal = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs"
    grid = GeoBox((20, 30), Affine(463.3, 0, -4e5, 0, -463.3, 4.2e6), sinusoidal)
    if request.param == "abundance":
        with AbundanceWriter(path, grid, LEGEND) as writer:
            writer.write_shares(0, 0, np.full((3, 20, 30), 1 / 3))
    else:
        with ScoreWriter(path, grid, ["confidence", "entropy"], scale=0.5, unit="%") as writer:
            writer.write(0, 0, np.zeros((2, 20, 30), np.uint8))
    return read(publish(path, tmp_path / "out", PUBLICATION).item)


def test_items_are_valid_stac(item: dict[str, Any]) -> None:
    assert problems(item, CORE, shipped_schemas()) == []


@pytest.mark.skipif(
    not SCHEMAS.is_dir(), reason=f"no schemas of the STAC extensions in {SCHEMAS} (TESELA_SCHEMAS)"
)
def test_items_are_valid_under_each_of_their_extensions(item: dict[str, Any]) -> None:
    extra = [read(path) for path in SCHEMAS.glob("*.json")]
    schemas = shipped_schemas() | {schema["$id"].rstrip("#"): schema for schema in extra}
    for address in item["stac_extensions"]:
        assert problems(item, address, schemas) == [], address


@pytest.mark.parametrize("kind", ["expert", "unmixer", "cascade"])
def test_items_of_experts_are_read_by_the_models_of_the_extensions_own_package(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    from stac_model.schema import MLModelProperties

    properties = read(publish(request.getfixturevalue(f"{kind}_file"), tmp_path, PUBLICATION).item)[
        "properties"
    ]
    extension = {key: value for key, value in properties.items() if key.startswith("mlm:")}
    for output in extension["mlm:output"]:  # stac-model takes these four fields of a class, the extension all
        output["classification:classes"] = [
            {key: item[key] for key in ("value", "name", "description", "color_hint") if key in item}
            for item in output["classification:classes"]
        ]
    again = json.loads(MLModelProperties.model_validate(extension).model_dump_json(by_alias=True))
    for ours, theirs in zip(extension["mlm:input"], again["mlm:input"], strict=True):
        assert {key: theirs[key] for key in ours if key != "resize_type"} == {
            key: value for key, value in ours.items() if key != "resize_type"
        }
    for ours, theirs in zip(extension["mlm:output"], again["mlm:output"], strict=True):
        assert {key: theirs[key] for key in ours} == ours
    rest = extension.keys() - {"mlm:input", "mlm:output"}
    assert {key: again[key] for key in rest} == {key: extension[key] for key in rest}
    with pytest.raises(ValueError, match="mlm:tasks"):
        MLModelProperties.model_validate(extension | {"mlm:tasks": ["guessing"]})


def test_an_item_without_a_time_is_not_valid_stac(item: dict[str, Any]) -> None:
    del item["properties"]["datetime"]
    assert problems(item, CORE, shipped_schemas()) != []


def test_pystac_reads_an_item_as_it_was_meant(map_file: Path, tmp_path: Path) -> None:
    import pystac
    from pystac.extensions.projection import ProjectionExtension

    item = pystac.Item.from_file(str(publish(map_file, tmp_path / "out", PUBLICATION).item))
    assert item.id == "map"
    assert item.common_metadata.start_datetime is not None
    assert item.common_metadata.start_datetime.isoformat() == "2018-07-01T00:00:00+00:00"
    asset = item.assets["data"]
    projected = ProjectionExtension.ext(asset)
    assert projected.code == "EPSG:32630"
    assert projected.shape == [600, 800]
    assert projected.transform == [10.0, 0.0, 500_000.0, 0.0, -10.0, 4_100_000.0]
    classes = {item["value"]: item for item in asset.extra_fields["classification:classes"]}
    assert set(classes) == {0, 1, 2, 7}
    assert classes[1] == {
        "value": 1,
        "name": "water-ice",
        "title": "Water & ice",
        "description": "w Water & ice",
        "color_hint": "0000FF",
    }
    assert classes[0]["nodata"] is True
    with rasterio.open(asset.get_absolute_href()) as data:
        assert data.colormap(1)[1] == (0, 0, 255, 255)


def test_every_asset_of_an_item_is_a_file_beside_it(map_file: Path, tmp_path: Path) -> None:
    polygons = vectorise_map(open_map(map_file), tmp_path / "work" / "polygons.parquet").path
    made = publish(map_file, tmp_path / "out", PUBLICATION, beside=[polygons])
    assets = read(made.item)["assets"]
    names = {asset["href"].removeprefix("./") for asset in assets.values()}
    assert names | {"map.json"} == {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        *("map.tif", "map.qml", "map.tif.aux.xml", "map.iso.xml"),
        *("polygons.parquet", "polygons.qml"),
    }
    assert assets["polygons-parquet"]["type"] == "application/vnd.apache.parquet"


def test_published_polygons_are_geoparquet(map_file: Path, tmp_path: Path) -> None:
    import pyarrow.parquet

    path = vectorise_map(open_map(map_file), tmp_path / "polygons.parquet").path
    geo = json.loads(pyarrow.parquet.read_schema(path).metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    assert geo["columns"]["geometry"]["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    assert geo["columns"]["geometry"]["crs"]["id"] == {"authority": "EPSG", "code": 32630}


def test_a_published_map_passes_the_validator_of_rio_cogeo(map_file: Path, tmp_path: Path) -> None:
    from click.testing import CliRunner
    from rio_cogeo.scripts.cli import cogeo

    made = publish(map_file, tmp_path / "out", PUBLICATION)
    done = CliRunner().invoke(cogeo, ["validate", "--strict", str(made.files[0])])
    assert done.output.strip().endswith("is a valid cloud optimized GeoTIFF")


def test_a_raster_that_is_no_cog_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "plain.tif"
    profile = {"driver": "GTiff", "width": 1200, "height": 1200, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", crs="EPSG:32630", transform=GRID.affine, **profile):
        pass
    with pytest.raises(InputError, match=r"plain.tif: is not a cloud-optimised GeoTIFF .*rio cogeo create"):
        publish(path, tmp_path / "out", PUBLICATION)
    assert not (tmp_path / "out").exists()


def test_the_item_of_an_expert_says_how_to_feed_it_and_what_comes_out(
    expert_file: Path, tmp_path: Path
) -> None:
    made = publish(expert_file, tmp_path, Publication("North", license="MIT"))
    item = read(made.item)
    properties = item["properties"]
    assert item["geometry"] is None
    assert properties["datetime"] == "2026-05-01T00:00:00Z"
    assert properties["mlm:tasks"] == ["semantic-segmentation"]
    assert properties["mlm:framework_version"] == "2.15.0"
    taken, given = properties["mlm:input"][0], properties["mlm:output"][0]
    assert taken["bands"] == ["red", "nir"]
    assert taken["input"]["shape"] == [-1, 2, 64, 64]
    assert taken["value_scaling"] == [
        {"type": "z-score", "mean": 0.1, "stddev": 0.05},
        {"type": "z-score", "mean": 0.3, "stddev": 0.1},
    ]
    assert given["result"]["shape"] == [-1, 3, 64, 64]
    assert [item["value"] for item in given["classification:classes"]] == [0, 1, 2, 7]
    assert item["assets"]["model"]["raster:bands"] == [{"name": "red"}, {"name": "nir"}]
    net = UnetArchitecture(2, 3, encoder="mobilenet_v2", decoder_channels=(8, 8, 8, 8, 8))
    assert properties["mlm:total_parameters"] == sum(item.numel() for item in net.build().parameters())


def test_the_item_of_an_unmixing_expert_names_months_and_layers(unmixer_file: Path, tmp_path: Path) -> None:
    item = read(publish(unmixer_file, tmp_path, PUBLICATION).item)
    properties = item["properties"]
    assert properties["mlm:tasks"] == ["regression"]
    series, layers = properties["mlm:input"]
    assert series["input"]["shape"] == [-1, 3, 2]
    assert "months 1, 2, 3" in series["description"]
    assert layers["bands"] == ["altitude"]
    assert layers["value_scaling"] == [{"type": "z-score", "mean": 500.0, "stddev": 200.0}]
    assert properties["mlm:output"][0]["result"]["shape"] == [-1, 3]
    assert [band["name"] for band in item["assets"]["model"]["raster:bands"]] == ["red", "nir", "altitude"]
    card = (tmp_path / "south.md").read_text(encoding="utf-8")
    assert "tesela unmix south.safetensors CUBE" in card
    assert "| altitude | 500 | 200 |" in card
    assert "RMSE of the shares 0.12." in card


def test_a_published_cascade_can_be_applied_and_its_card_lists_the_gates(
    cascade_file: Path, tmp_path: Path
) -> None:
    from tesela.mapping.cascade import open_cascade

    made = publish(cascade_file.parent, tmp_path, Publication("Woods", license="MIT"))
    assert {path.name for path in made.files} == {
        *("cover.safetensors", "kinds.safetensors", "cover.md", "kinds.md"),
        *("wood-land.toml", "wood-land.md", "wood-land.json"),
    }
    before, after = open_cascade(cascade_file), open_cascade(tmp_path / "wood-land.toml")
    assert after.legend == before.legend
    assert [member.gate for member in after.members] == [member.gate for member in before.members]
    assert (tmp_path / "kinds.safetensors").read_bytes() == (
        cascade_file.parent / "kinds/expert.safetensors"
    ).read_bytes()
    item = read(made.item)
    properties = item["properties"]
    assert properties["datetime"] == "2026-05-03T00:00:00Z"
    assert [each["name"] for each in properties["mlm:input"]] == ["cover", "kinds"]
    assert properties["mlm:hyperparameters"]["kinds.parent"] == "cover"
    assert properties["mlm:hyperparameters"]["kinds.min_confidence"] == 0.25
    assert properties["mlm:pretrained"] is True
    assert properties["mlm:pretrained_source"] == "imagenet"
    (output,) = properties["mlm:output"]
    assert [each["value"] for each in output["classification:classes"]] == [0, 1, 2, 7, 3, 4]
    assert {asset["href"] for asset in item["assets"].values() if "mlm:model" in asset["roles"]} == {
        "./cover.safetensors",
        "./kinds.safetensors",
    }
    card = (tmp_path / "wood-land.md").read_text(encoding="utf-8")
    assert "tesela predict wood-land.toml SCENE" in card
    assert "| kinds | U-Net, encoder mobilenet_v2 | kinds | cover: f | 0.25 | [kinds.md](kinds.md) |" in card
    assert "| Pine | Wood |" in card


def test_experts_of_a_cascade_whose_files_would_fall_together_are_refused(
    cascade_file: Path, tmp_path: Path
) -> None:
    text = cascade_file.read_text(encoding="utf-8").replace('name = "Wood land"', 'name = "Kinds"')
    cascade_file.with_name("same.toml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"kinds\.md: two files of the cascade 'Kinds'"):
        publish(cascade_file.with_name("same.toml"), tmp_path / "out", PUBLICATION)
    assert not (tmp_path / "out").exists()


def test_an_expert_with_damaged_tensors_is_not_published(expert_file: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.safetensors"
    content = bytearray(expert_file.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(ExpertError, match="tensors are not those that were written"):
        publish(damaged, tmp_path / "out", PUBLICATION)
    assert not (tmp_path / "out" / "damaged.safetensors").exists()


def test_a_model_card_shows_the_header_and_keeps_its_tables_whole(expert_file: Path, tmp_path: Path) -> None:
    publish(expert_file, tmp_path, PUBLICATION)
    card = (tmp_path / "north-1.md").read_text(encoding="utf-8")
    assert "tesela predict north-1.safetensors SCENE" in card
    assert "| red | 0.1 | 0.05 |" in card
    assert "| 1 | w | Water & ice | 0.2500 | 0.4000 |" in card
    assert "| 2 | l | &lt;Land> | - | - |" in card
    assert "| rule\\|of | a&lt;b |" in card
    assert "accuracy 0.9, mIoU 0.5, macro F1 0.6 on 12 validation patches" in card


def test_the_iso_record_is_read_back_by_owslib(map_file: Path, tmp_path: Path) -> None:
    from lxml import etree
    from owslib.iso import MD_Metadata

    publish(map_file, tmp_path, PUBLICATION)
    record = MD_Metadata(etree.parse(tmp_path / "map.iso.xml"))
    about = record.identification[0]
    assert record.identifier == "map"
    assert about.title == PUBLICATION.title
    assert "l <Land>" in about.abstract
    assert about.contact[0].organization == "Agency & Sons <x>"
    assert about.contact[0].email == "maps@agency.example"
    assert (about.temporalextent_start, about.temporalextent_end) == ("2018-07-01", "2018-07-31")
    assert record.referencesystem.code == "http://www.opengis.net/def/crs/EPSG/0/32630"
    west, south = float(about.bbox.minx), float(about.bbox.miny)
    assert (west, south) == pytest.approx(footprint(GRID)[1][:2])
    words = [word.name for group in about.keywords for word in group.keywords]
    assert words == ["land cover", "León", "a<b", "Land cover"]
    assert about.uselimitation == ["CC-BY-4.0"]
    assert about.distance == ["10"]
    assert about.uom == ["m"]
    assert record.contact[0].organization == "Agency & Sons <x>"
    assert about.keywords[-1].thesaurus["date"] == "2008-06-01"


def test_the_metadata_control_file_lacks_nothing_but_the_address_of_the_contact(map_file: Path) -> None:
    from pygeometa.core import validate_mcf

    document = make_mcf(map_file, GRID, LEGEND, publication=PUBLICATION)
    missing = "individualname positionname phone fax address city administrativearea postalcode country"
    document["contact"] = {
        "pointOfContact": dict.fromkeys(missing.split(), "x") | document["contact"]["pointOfContact"]
    }  # type: ignore[index]
    assert validate_mcf(document)


def test_a_system_without_a_code_is_written_in_full(tmp_path: Path) -> None:
    grid = GeoBox((20, 30), Affine(463.3, 0, 0, 0, -463.3, 4.2e6), "+proj=sinu +R=6371007.181 +units=m")
    source = write_map(tmp_path / "work" / "m.tif", np.ones((20, 30), np.uint8), grid, legend=LEGEND)
    made = publish(source.path, tmp_path, PUBLICATION)
    data = read(made.item)["assets"]["data"]
    assert data["proj:code"] is None
    assert data["proj:wkt2"].startswith("PROJCRS[")
    text = ElementTree.parse(tmp_path / "m.iso.xml").getroot()
    assert any((item.text or "").startswith("PROJCRS[") for item in text.iter())


def test_a_footprint_across_the_antimeridian_is_cut_there() -> None:
    grid = GeoBox((4000, 6000), Affine(100.0, 0.0, 0.0, 0.0, -100.0, 6_700_000.0), "EPSG:32601")
    geometry, (west, south, east, north) = footprint(grid)
    assert geometry["type"] == "MultiPolygon"
    assert west > 170
    assert east < -170
    assert south < north


def test_publishing_twice_gives_the_same_bytes(map_file: Path, tmp_path: Path) -> None:
    def bytes_of(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in publish(map_file, folder, PUBLICATION).files}

    once = bytes_of(tmp_path / "once")
    assert bytes_of(tmp_path / "twice") == once
    assert bytes_of(tmp_path / "once") == once


@pytest.mark.parametrize(
    ("text", "period"),
    [
        ("2018", ("2018-01-01", "2018-12-31")),
        ("2020-02", ("2020-02-01", "2020-02-29")),
        ("2018-07-15", ("2018-07-15", "2018-07-15")),
        ("2018-12/2019", ("2018-12-01", "2019-12-31")),
    ],
)
def test_a_period_runs_from_its_first_to_its_last_day(text: str, period: tuple[str, str]) -> None:
    assert read_period(text) == period


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"title": "Land\ncover"}, r"'Land\\ncover' holds a line break .* \(--title\)"),
        ({"provider": "Agency\x07"}, r"\(--provider\)"),
        ({"license": "not a license!"}, "is no SPDX identifier"),
        ({"contact": "x y"}, "is no e-mail address"),
    ],
)
def test_words_that_a_record_cannot_hold_are_refused(fields: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Publication(**{"title": "Land cover", **fields})


def test_a_file_that_would_replace_a_record_is_refused(map_file: Path, tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text("{}")
    with pytest.raises(InputError, match=r"map\.json: is written for the product"):
        publish(map_file, tmp_path / "out", PUBLICATION, beside=[tmp_path / "map.json"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["July", "2018-13", "2018-02-30", "2018-1-1-1", "", "2019/2018"])
def test_what_is_no_period_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"is no date|ends before"):
        read_period(text)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: Publication(" "), "needs a title"),
        (lambda folder: Publication("x", contact="nobody"), "no e-mail address"),
        (lambda folder: raster_item(folder / "work/map.tif", Publication("Map")), "'Map' has no date"),
        (lambda folder: publish(folder / "none.tif", folder, PUBLICATION), "none.tif: no such file"),
        (
            lambda folder: publish(folder / "work/map.tif", folder, PUBLICATION, beside=["a.exe"]),
            "a.exe: no such file",
        ),
        (
            lambda folder: publish(folder / "work/map.tif", folder, PUBLICATION, beside=["x/map.tif"]),
            "map.tif: two files",
        ),
        (
            lambda folder: publish(folder / "work/map.tif", folder, PUBLICATION, beside=["a.csv"]),
            "a.csv: no such file",
        ),
    ],
)
def test_what_cannot_be_published_is_reported_in_one_line(
    make: Callable[[Path], object], message: str, map_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        make(tmp_path)


def test_a_stranger_posing_as_an_expert_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"no expert")
    with pytest.raises(ExpertError, match="is not an expert"):
        publish(tmp_path / "x.safetensors", tmp_path / "out", PUBLICATION)


def test_a_check_of_a_cog_passes_silently(map_file: Path) -> None:
    check_cog(map_file)


def test_the_command_publishes_and_reports_what_is_missing(
    map_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["publish", str(map_file), "-o", str(tmp_path / "out"), "--date", "2018"]) == 0
    printed = capsys.readouterr().out
    assert "note: no provider is given" in printed
    assert f"item  {tmp_path / 'out' / 'map.json'}" in printed
    assert main(["publish", str(map_file), "-o", str(tmp_path / "out"), "--date", "2018", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["item"].endswith("map.json")
