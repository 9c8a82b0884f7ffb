"""The command line: help, results, and one clear line for every bad input."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import rasterio
import typer

import tesela
from repository import ROOT
from tesela.cli import account, assess, main, maps, published, review, sample
from tesela.cli.app import app
from tesela.cli.output import print_table
from tesela.core.errors import InputError

UTM = {"crs": "EPSG:25830", "transform": rasterio.Affine(10, 0, 500000, 0, -10, 4100000)}


def commands() -> list[tuple[str, click.Command]]:
    group = typer.main.get_command(app)
    pairs = []
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        children = getattr(command, "commands", None)
        if children is None:
            pairs.append((name, command))
        else:
            pairs += [(f"{name} {child}", item) for child, item in children.items()]
    return pairs


@pytest.mark.parametrize(("name", "command"), commands(), ids=[name for name, _ in commands()])
def test_every_command_and_option_has_help_and_an_example(name: str, command: click.Command) -> None:
    assert command.help is not None
    assert f"Example: tesela {name}" in " ".join(command.help.split())
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{name}: {parameter.name} has no help"


@pytest.mark.parametrize("group", ["", *sorted({name.split()[0] for name, _ in commands() if " " in name})])
def test_lists_of_commands_fit_a_terminal_of_80_columns(
    group: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*group.split(), "--help"]) == 0
    listed = capsys.readouterr().out.split("\nCommands:\n")[1].rstrip().splitlines()
    words = [name.removeprefix(group).strip() for name, _ in commands() if name.startswith(group)]
    names = list(dict.fromkeys(name.split()[0] for name in words))
    assert [line.split()[0] for line in listed] == names, "a sentence is cut, or takes two lines"
    assert not [line for line in listed if len(line) > 80 or not line.endswith(".")]


def test_arguments_are_written_in_capitals() -> None:
    for name, command in commands():
        arguments = [item.metavar or "" for item in command.params if item.param_type_name == "argument"]
        assert not [word for word in arguments if not re.fullmatch(r"[A-Z_|]+", word)], name


def test_every_command_but_those_that_only_print_can_be_quiet() -> None:
    loud = {
        name for name, command in commands() if "--quiet" not in {o for p in command.params for o in p.opts}
    }
    published = {f"published {name}" for name in ("msmtu", "timespec", "checkpoint")}
    assert loud == {"doctor", "legend crosswalk", "legend list", "legend show", *published}


def test_the_page_of_commands_is_the_help() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "typer", "tesela.cli.app", "utils", "docs", "--name", "tesela"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (ROOT / "docs" / "cli.md").read_text().strip() == made.stdout.strip(), "run `make docs`"


def test_help_loads_no_heavy_library() -> None:
    heavy = "{'numpy', 'torch', 'rasterio', 'pydantic'}"
    code = f"import sys; from tesela.cli import main; main(['--help']); print(sorted({heavy} & set(sys.modules)))"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout.strip().endswith("[]")


def write_tif(path: Path, values: np.ndarray, **profile: object) -> Path:
    layers = values if values.ndim == 3 else values[None]
    options = {
        "driver": "GTiff",
        "dtype": layers.dtype.name,
        "count": len(layers),
        "height": layers.shape[1],
        "width": layers.shape[2],
    }
    with rasterio.open(path, "w", **(options | UTM | profile)) as data:
        data.write(layers)
    return path


def error_of(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert main([str(word) for word in words]) == 1
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1, shown.err
    assert "Traceback" not in shown.err
    return shown.err


def test_a_legend_is_shown_as_the_documented_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["legend", "show", "corine-2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["name", "level", "nodata", "classes"]
    assert document["level"] == 2
    assert len(document["classes"]) == 15
    assert document["classes"][0] == {
        "value": 11,
        "code": "11",
        "name": "Urban fabric",
        "color": "#e6004d",
        "parent": "1",
    }


def test_an_unknown_legend_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean 'corine'" in error_of(capsys, "legend", "show", "corin")


def test_a_map_is_translated_and_classes_left_out_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tif(tmp_path / "m.tif", np.array([[1, 23, 44]], np.uint8), nodata=0)
    assert (
        main(
            [
                "legend",
                "convert",
                str(tmp_path / "m.tif"),
                "--legend",
                "corine-3",
                "--to",
                "lulucf",
                "-o",
                str(tmp_path / "o.tif"),
            ]
        )
        == 0
    )
    assert "left to nodata: 334, 523" in capsys.readouterr().out
    with rasterio.open(tmp_path / "o.tif") as data:
        assert data.read(1).tolist() == [[5, 1, 0]]


def test_labels_outside_the_legend_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tif(tmp_path / "m.tif", np.array([[1, 9, 12]], np.uint8))
    convert = ["legend", "convert", tmp_path / "m.tif", "--legend", "lulucf-context", "--to", "lulucf"]
    convert += ["-o", tmp_path / "o.tif", "--crosswalk"]
    text = error_of(capsys, *convert, tmp_path / "no.csv")
    assert "no.csv does not exist" in text
    (tmp_path / "w.csv").write_text(
        "from,to\n"
        + "\n".join(f"{c},other_land" for c in ("water", "artificial", "forest", "crops", "pasture", "bare"))
    )
    text = error_of(capsys, *convert, tmp_path / "w.csv")
    assert re.search(r"holds the values 9, 12, but legend 'lulucf-context' has values 1 to 6", text)
    assert not (tmp_path / "o.tif").exists()


def test_a_scene_without_crs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tif(tmp_path / "s.tif", np.ones((64, 64), np.uint8), crs=None)
    write_tif(tmp_path / "l.tif", np.ones((64, 64), np.uint8))
    text = error_of(
        capsys,
        "label",
        tmp_path / "l.tif",
        "--like",
        tmp_path / "s.tif",
        "--legend",
        "lulucf",
        "-o",
        tmp_path / "o.tif",
    )
    assert "has no coordinate system" in text
    assert "gdal_edit.py -a_srs" in text


def test_files_of_one_scene_in_two_crs_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tif(tmp_path / "a.tif", np.ones((64, 64), np.uint8))
    write_tif(tmp_path / "b.tif", np.ones((64, 64), np.uint8), crs="EPSG:25829")
    write_tif(tmp_path / "l.tif", np.ones((64, 64), np.uint8))
    both = f"{tmp_path}/a.tif,{tmp_path}/b.tif"
    assert "two coordinate systems" in error_of(
        capsys, "label", tmp_path / "l.tif", "--like", both, "--legend", "lulucf", "-o", tmp_path / "o.tif"
    )


def test_a_reference_elsewhere_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tif(tmp_path / "s.tif", np.ones((64, 64), np.uint8))
    write_tif(
        tmp_path / "l.tif",
        np.ones((64, 64), np.uint8),
        transform=rasterio.Affine(10, 0, 700000, 0, -10, 4100000),
    )
    text = error_of(
        capsys,
        "label",
        tmp_path / "l.tif",
        "--like",
        tmp_path / "s.tif",
        "--legend",
        "lulucf",
        "-o",
        tmp_path / "o.tif",
    )
    assert "overlap" in text or "does not reach" in text
    assert not (tmp_path / "o.tif").exists()


def draw_labels(folder: Path, *options: str) -> None:
    """Labels m.tif of the class raster l.tif on the grid of the scene s.tif."""
    scene, reference, out = (str(folder / name) for name in ("s.tif", "l.tif", "m.tif"))
    assert main(["label", reference, "--like", scene, "--legend", "lulucf", "-o", out, *options]) == 0


def test_labels_are_printed_with_the_hectares_of_their_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = np.ones((64, 64), np.uint8)
    values[:16] = 2
    values[16:32] = 0
    write_tif(tmp_path / "s.tif", np.ones((64, 64), np.uint8))
    write_tif(tmp_path / "l.tif", values)
    draw_labels(tmp_path)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[2:4]]
    assert [(line[0], line[-1]) for line in lines] == [("forest_land", "20.48"), ("cropland", "10.24")]


def test_a_scene_smaller_than_a_patch_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tif(tmp_path / "s.tif", np.ones((64, 64), np.uint8))
    write_tif(tmp_path / "l.tif", np.ones((64, 64), np.uint8))
    draw_labels(tmp_path)
    text = error_of(
        capsys,
        "patches",
        tmp_path / "s.tif",
        "--labels",
        tmp_path / "m.tif",
        "--size",
        128,
        "-o",
        tmp_path / "p.parquet",
    )
    assert "64" in text
    assert "128" in text
    assert not (tmp_path / "p.parquet").exists()


def test_patches_prints_class_shares_and_warns_of_missing_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    write_tif(tmp_path / "s.tif", rng.integers(1, 255, (2, 320, 320), np.uint8))
    classes = rng.integers(1, 3, (320, 320)).astype(np.uint8)
    classes[:32, :32] = 6
    write_tif(tmp_path / "l.tif", classes)
    draw_labels(tmp_path)
    words = [
        "patches",
        str(tmp_path / "s.tif"),
        "--labels",
        str(tmp_path / "m.tif"),
        "--size",
        "32",
        "--block",
        "640 m",
    ]
    assert main([*words, "-o", str(tmp_path / "p.parquet")]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"forest_land +\d\d\.\d% +\d\d\.\d% +\d\d\.\d%", shown)
    assert re.search(r"warning: .*has no pixel of other_land", shown)
    assert (tmp_path / "p.parquet").exists()


def test_a_file_that_is_no_expert_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tif(tmp_path / "s.tif", np.ones((64, 64), np.uint8))
    (tmp_path / "e.safetensors").write_bytes(b"not an expert")
    assert "is not an expert" in error_of(
        capsys, "predict", tmp_path / "e.safetensors", tmp_path / "s.tif", "-o", tmp_path / "m.tif"
    )


def test_a_written_recipe_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "corine", "-o", str(tmp_path / "r.toml")]) == 0
    assert "not overwritten" in error_of(capsys, "init", "corine", "-o", tmp_path / "r.toml")


def test_quiet_commands_print_only_the_files_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tif(tmp_path / "s.tif", np.ones((64, 64), np.uint8))
    classes = np.ones((64, 64), np.uint8)
    classes[:32] = 2
    write_tif(tmp_path / "l.tif", classes)
    draw_labels(tmp_path, "--quiet")
    labels = str(tmp_path / "m.tif")
    polygons, other, recipe = (str(tmp_path / name) for name in ("m.gpkg", "c.tif", "r.toml"))
    assert main(["vectorise", labels, "-q", "-o", polygons]) == 0
    assert main(["legend", "convert", labels, "--to", "lulucf", "-q", "-o", other]) == 0
    assert main(["init", "corine", "-q", "-o", recipe]) == 0
    words = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert words == [["labels", labels], ["polygons", polygons], ["map", other], ["recipe", recipe]]


def test_an_interrupted_command_reports_that_it_can_continue(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tesela.models.expert.open_expert", stop)
    words = ["unmix", "e.safetensors", "c.zarr", "-o", str(tmp_path / "a.tif")]
    assert main(words) == 130
    assert capsys.readouterr().err.strip() == "Interrupted. Run the same command again to continue."


def test_a_folder_that_cannot_be_made_is_reported_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tif(tmp_path / "s.tif", np.ones((64, 64), np.uint8))
    (tmp_path / "file").write_text("text")
    out = tmp_path / "file" / "maps"
    assert "Not a directory" in error_of(
        capsys, "generalise", tmp_path / "s.tif", "--legend", "corine", "-o", out / "m.tif", "--mmu", "1 ha"
    )


def test_the_version_is_printed_without_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"tesela {tesela.__version__}"
    assert any(line.startswith(f"GDAL {rasterio.__gdal_version__}") for line in lines)
    assert any(line.startswith("torch ") for line in lines)


def test_without_a_command_it_says_what_to_do_first(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    shown = " ".join("".join(capsys.readouterr()).split())
    assert "First: `tesela demo` runs a whole chain" in shown


def test_a_run_is_planned_and_its_keys_are_set_without_a_change_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tif(tmp_path / "scene.tif", np.ones((2, 64, 64), np.float32))
    write_tif(tmp_path / "map.tif", np.ones((64, 64), np.uint8), nodata=0)
    recipe = tmp_path / "corine.toml"
    recipe.write_text(
        """chain = "corine"
name = "plan"
out = "run"
legend = "corine-1"
[reference]
path = "map.tif"
[[scenes]]
name = "april"
paths = ["absent.tif"]
[patches]
size_px = 32
""",
        encoding="utf-8",
    )
    before = recipe.read_bytes()
    assert "absent.tif" in error_of(capsys, "run", recipe, "--dry-run")
    words = ["run", str(recipe), "--set", 'scenes.april.paths=["scene.tif"]', "--dry-run"]
    assert main(words) == 0
    inputs, table = capsys.readouterr().out.split("\n\n")
    assert "64 x 64 px" in inputs
    assert "reference map.tif  raster, 64 x 64 px" in inputs
    assert "at most 4 of 32 px, about 2 to train; few: more scenes" in inputs
    assert "memory" in inputs
    rows = [line.split() for line in table.splitlines()]
    assert rows[0][:2] == ["stage", "state"]
    assert rows[2][:3] == ["label", "to", "run"]
    assert rows[3][:3] == ["patches", "after", "label"]
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [stage["name"] for stage in document["stages"]] == ["label", "patches", "train", "map", "assess"]
    assert document["memory_bytes"] > 1e9
    assert not (tmp_path / "run").exists()
    assert recipe.read_bytes() == before
    assert "entry of scenes 'may'" in error_of(capsys, "run", recipe, "--set", "scenes.may.paths=[1]")
    assert "KEY=VALUE" in error_of(capsys, "run", recipe, "--set", "training.epochs")
    assert "epochs" in error_of(capsys, *words, "--set", "training.epochs=many")


@pytest.mark.parametrize(
    ("call", "now"),
    [
        ("assess map.tif --draw-sample s.gpkg --size 90", "tesela sample draw MAP -o POINTS.gpkg"),
        ("assess map.tif --sample=s.gpkg -o report", "tesela sample estimate SAMPLE MAP -o DIR"),
        ("assess map.tif reference.tif --seed 1 -o report", "tesela sample draw MAP -o POINTS.gpkg --seed N"),
        ("account a.tif b.tif --years 1,2 --draw-samples 9 --minimum 5", "tesela sample changes MAP_A MAP_B"),
        ("account a.tif b.tif --change-layer 5ha --confidence c,d", "tesela change-layer MAP_A MAP_B"),
        ("generalise map.tif --ledger log.csv -o out.tif", "tesela generalise MAP --change-log FILE"),
        ("sample draw map.tif --size 90 -o points.gpkg", "tesela sample draw MAP --points N -o POINTS.gpkg"),
        (
            "change-layer a.tif b.tif --years 1,2 --min-area 5ha -o out",
            "tesela change-layer MAP_A MAP_B --years",
        ),
        ("published timespec a --fractions .6,.2,.2 -o b", "tesela published timespec FOLDER --shares A,B,C"),
        ("review patches.parquet --rank --folds 4", "tesela review rank TABLE"),
        ("review patches.parquet --agreement", "tesela review agreement TABLE"),
        ("review --export a.csv patches.parquet", "tesela review export TABLE -o FILE"),
        ("--debug review patches.parquet --port 0", "tesela review serve TABLE"),
    ],
)
def test_a_former_call_is_answered_with_the_new_command(
    call: str, now: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(call.split()) == 2
    shown = capsys.readouterr()
    assert f"is now `{now}" in shown.err
    assert (shown.out, shown.err.count("\n")) == ("", 1)


def test_every_former_call_names_a_command_and_options_that_exist() -> None:
    options = {name: {opt for item in command.params for opt in item.opts} for name, command in commands()}
    for module in (account, assess, maps, published, review, sample):
        for former, calls in module.FORMER.items():
            for flag, call in calls.items():
                words = call.split()
                name = " ".join(words[1:3] if words[1] in ("published", "sample", "review") else words[1:2])
                assert {word for word in words if word.startswith("-")} <= options[name], call
                assert flag not in options.get(former, set()), f"{former} {flag} is an option today"


def test_a_table_wraps_its_last_column_on_a_terminal_and_nowhere_else(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [["GPU", "missing", "a driver for the device, or no device is  here"], ["CPU", "ok", "2 cores"]]
    print_table(rows, header=["what", "state", "remedy"])
    assert capsys.readouterr().out.splitlines()[2].endswith("no device is  here")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    print_table(rows, header=["what", "state", "remedy"])
    assert capsys.readouterr().out.splitlines() == [
        "what  state    remedy",
        "----  -------  -------------------------",
        "GPU   missing  a driver for the device,",
        "               or no device is  here",
        "CPU   ok       2 cores",
    ]


def test_a_scene_of_one_date_for_an_expert_of_several_is_told_about_dates(tmp_path: Path) -> None:
    write_tif(tmp_path / "july.tif", np.ones((8, 8), np.uint8), nodata=0)
    scene = tesela.open_scene(tmp_path / "july.tif")
    with pytest.raises(InputError, match=r"Unknown band 'july_april'.*a file of each date.*--dates"):
        scene.select(["july_april", "july_may"])
    with pytest.raises(InputError, match=r"Unknown band 'red'.*Name the bands.*--bands"):
        scene.select(["red"])
