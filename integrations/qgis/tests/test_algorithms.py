"""The algorithms in a real QGIS: results, styles, progress, cancel, errors, models and `qgis_process`."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import processing
import pytest
from qgis.core import (
    QgsApplication,
    QgsFeatureRequest,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingModelAlgorithm,
    QgsProcessingModelChildAlgorithm,
    QgsProcessingModelChildParameterSource,
    QgsProcessingModelOutput,
    QgsProcessingModelParameter,
    QgsProcessingParameterRasterLayer,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)

from conftest import ENVIRONMENT, HERE, Feedback


def classes_of(layer):
    """Labels of the categories in a layer's legend, with their colours."""
    renderer = layer.renderer()
    if isinstance(layer, QgsRasterLayer):
        return {item.label: item.color.name() for item in renderer.classes()}
    return {item.label(): item.symbol().color().name() for item in renderer.categories()}


def test_a_recipe_runs_with_layers_of_the_project_and_shows_its_stages(made):
    run, feedback = made["run"], made["feedback"]
    assert QgsRasterLayer(run["MAP"]).isValid()
    assert Path(run["REPORT"]).name == "report.html"
    assert Path(run["EXPERT"]).name == "tiny.safetensors"
    assert [text for text in feedback.texts if text in ("label", "patches", "train", "map", "assess")] == [
        "label",
        "patches",
        "train",
        "map",
        "assess",
    ]
    assert any(line.startswith("accuracy  0.") for line in feedback.lines)


def test_a_scene_is_mapped_with_progress_and_the_map_has_the_legends_style(world, tmp_path):
    feedback = Feedback()
    out = processing.run(
        "tesela:predict",
        {
            "SCENE": world["scene"],
            "EXPERT": world["run"]["EXPERT"],
            "OUTPUT": str(tmp_path / "map.tif"),
            "CONFIDENCE": str(tmp_path / "confidence.tif"),
        },
        feedback=feedback,
    )
    assert feedback.texts[0] == "mapping"
    assert feedback.bars[-1] == 100
    shown = classes_of(QgsRasterLayer(out["OUTPUT"]))
    assert shown["1 Artificial surfaces"] == "#e6004d"
    assert QgsRasterLayer(out["CONFIDENCE"]).bandCount() == 1


def test_a_cascade_is_mapped_too(world, tmp_path):
    cascade = Path(world["run"]["EXPERT"]).with_name("cascade.toml")
    cascade.write_text('[[experts]]\npath = "tiny.safetensors"\n', encoding="utf-8")
    out = processing.run(
        "tesela:predict",
        {"SCENE": world["scene"], "EXPERT": str(cascade), "OUTPUT": str(tmp_path / "map.tif")},
    )
    assert QgsRasterLayer(out["OUTPUT"]).isValid()


def test_the_error_of_the_program_is_that_of_processing(world, tmp_path):
    damaged, out = world["folder"] / "damaged.safetensors", tmp_path / "map.tif"
    line = re.escape(f"{damaged}: is not an expert; a file made by tesela train was needed.")
    with pytest.raises(QgsProcessingException, match=f"^{line}$"):
        processing.run(
            "tesela:predict", {"SCENE": world["scene"], "EXPERT": str(damaged), "OUTPUT": str(out)}
        )
    assert not out.exists()


def test_a_cancelled_run_ends_and_continues_later(world, tmp_path):
    given = {
        "RECIPE": str(world["folder"] / "tiny.toml"),
        "SCENE": [world["scene"]],
        "SCENE_NAME": "july",
        "REFERENCE": world["reference"],
        "FOLDER": str(tmp_path / "run"),
        "UNTIL": "patches",
    }
    with pytest.raises(QgsProcessingException, match="Cancelled"):
        processing.run("tesela:run", given, feedback=Feedback(cancel_at="patches"))
    again = Feedback()
    processing.run("tesela:run", given, feedback=again)
    assert any(line.startswith("label: ") for line in again.lines)
    assert not list(tmp_path.glob("run/**/*.part"))


def test_a_program_that_is_not_there_is_named(world, tmp_path):
    from processing.core.ProcessingConfig import ProcessingConfig
    from tesela_qgis.provider import PROGRAM

    ProcessingConfig.setSettingValue(PROGRAM, str(tmp_path))
    try:
        with pytest.raises(QgsProcessingException, match="there is no Tesela"):
            processing.run("tesela:init", {"CHAIN": 0, "OUTPUT": str(tmp_path / "corine.toml")})
    finally:
        ProcessingConfig.setSettingValue(PROGRAM, str(ENVIRONMENT))


def test_a_model_generalises_and_vectorises(world, tmp_path):
    model = QgsProcessingModelAlgorithm("products", "products")
    model.addModelParameter(
        QgsProcessingParameterRasterLayer("map", "Map"), QgsProcessingModelParameter("map")
    )
    first = QgsProcessingModelChildAlgorithm("tesela:generalise")
    first.setChildId("generalise")
    source = QgsProcessingModelChildParameterSource
    first.addParameterSources("MAP", [source.fromModelParameter("map")])
    first.addParameterSources("MMU", [source.fromStaticValue("2 ha")])
    first.addParameterSources("MIN_WIDTH", [source.fromStaticValue("30 m")])
    model.addChildAlgorithm(first)
    second = QgsProcessingModelChildAlgorithm("tesela:vectorise")
    second.setChildId("vectorise")
    second.addParameterSources("MAP", [source.fromChildOutput("generalise", "OUTPUT")])
    output = QgsProcessingModelOutput("polygons", "polygons")
    output.setChildId("vectorise")
    output.setChildOutputName("OUTPUT")
    second.setModelOutputs({"polygons": output})
    model.addChildAlgorithm(second)
    model.initAlgorithm()
    out = processing.run(
        model, {"map": world["run"]["MAP"], "vectorise:polygons": str(tmp_path / "polygons.gpkg")}
    )
    layer = QgsVectorLayer(out["vectorise:polygons"])
    areas = [feature.geometry().area() for feature in layer.getFeatures()]
    inside = layer.extent().width() * layer.extent().height()
    assert sum(areas) == pytest.approx(inside, rel=0.02)
    assert "3 Forest and semi natural areas" in classes_of(layer)


def test_results_are_loaded_into_the_project_with_their_styles(world, tmp_path):
    from processing.core.ProcessingConfig import ProcessingConfig

    plain = tmp_path / "plain.qml"
    plain.write_text("<qgis/>", encoding="utf-8")
    ProcessingConfig.setSettingValue(ProcessingConfig.RASTER_STYLE, str(plain))
    try:
        processing.runAndLoadResults(
            "tesela:generalise",
            {
                "MAP": world["run"]["MAP"],
                "MMU": "2 ha",
                "MIN_WIDTH": "0 m",
                "OUTPUT": str(tmp_path / "g.tif"),
            },
        )
        processing.runAndLoadResults(
            "tesela:update",
            {
                "POLYGONS": world["reference"],
                "FIELD": "CODE_18",
                "MAP": world["run"]["MAP"],
                "OUTPUT": str(tmp_path / "queue.gpkg"),
            },
        )
    finally:
        ProcessingConfig.setSettingValue(ProcessingConfig.RASTER_STYLE, "")
    layers = list(QgsProject.instance().mapLayers().values())
    (raster,) = [layer for layer in layers if isinstance(layer, QgsRasterLayer)]
    assert "2 Agricultural areas" in classes_of(raster)
    vectors = {layer.source().split("layername=")[-1]: layer for layer in layers if layer is not raster}
    assert "proposals" in vectors
    assert len(vectors) == 2
    for layer in vectors.values():
        assert layer.renderer().type() == "categorizedSymbol"
        assert layer.featureCount() > 0


def test_a_map_is_assessed_against_polygons_and_against_a_map(world, tmp_path):
    polygons = QgsVectorLayer(world["reference"], "reference")
    QgsProject.instance().addMapLayer(polygons)
    for number, (reference, field) in enumerate(
        ((polygons, "CODE_18"), (str(world["folder"] / "truth.tif"), None))
    ):
        out = processing.run(
            "tesela:assess",
            {
                "MAP": world["run"]["MAP"],
                "REFERENCE": reference,
                "FIELD": field,
                "OUTPUT": str(tmp_path / str(number)),
            },
        )
        assert Path(out["REPORT"]).exists()
        document = json.loads((Path(out["OUTPUT"]) / "assessment.json").read_text(encoding="utf-8"))
        assert document["legend"]


def test_selected_polygons_of_a_layer_in_memory_are_exported_first(world, tmp_path):
    polygons = QgsVectorLayer(world["reference"], "reference")
    held = polygons.materialize(QgsFeatureRequest())
    QgsProject.instance().addMapLayer(held)
    out = processing.run(
        "tesela:update",
        {
            "POLYGONS": held,
            "FIELD": "CODE_18",
            "MAP": world["run"]["MAP"],
            "OUTPUT": str(tmp_path / "queue.gpkg"),
        },
    )
    assert QgsVectorLayer(out["PROPOSALS"]).featureCount() > 0


def test_a_layer_of_a_service_is_refused(world, tmp_path):
    tiles = QgsRasterLayer("type=xyz&url=file:///nowhere/%7Bz%7D/%7Bx%7D/%7By%7D.png", "tiles", "wms")
    QgsProject.instance().addMapLayer(tiles)
    with pytest.raises(QgsProcessingException, match="tiles is no file of pixels"):
        processing.run("tesela:generalise", {"MAP": tiles, "OUTPUT": str(tmp_path / "g.tif")})


def test_a_batch_of_two_scenes_runs_in_one_context(world, tmp_path):
    algorithm = QgsApplication.processingRegistry().createAlgorithmById("tesela:predict")
    rows = [
        {"SCENE": world["scene"], "EXPERT": world["run"]["EXPERT"], "OUTPUT": str(tmp_path / f"{k}.tif")}
        for k in range(2)
    ]
    context = QgsProcessingContext()
    for row in rows:
        values, ok = algorithm.create().run(
            {**row, "ENGINE": 1, "TRANSFER": 0, "TTA": False, "ANY_SCENE": False}, context, Feedback()
        )
        assert ok
        assert Path(values["OUTPUT"]).exists()


def test_qgis_process_finds_the_installed_plugin(made, tmp_path):
    profile = tmp_path / ".local" / "share" / "QGIS" / "QGIS3" / "profiles" / "default"
    plugins, settings = profile / "python" / "plugins", profile / "QGIS" / "QGIS3.ini"
    for folder in (plugins, settings.parent):
        folder.mkdir(parents=True)
    (plugins / "tesela_qgis").symlink_to(HERE.parent / "tesela_qgis")
    settings.write_text(
        "[PythonPlugins]\ntesela_qgis=true\nprocessing=true\n"
        f"[Processing]\nConfiguration\\TESELA_PROGRAM={ENVIRONMENT}\n",
        encoding="utf-8",
    )
    variables = {name: value for name, value in os.environ.items() if name != "XDG_DATA_HOME"}
    variables["HOME"] = str(tmp_path)
    out = tmp_path / "g.tif"
    call = [
        shutil.which("qgis_process.bin") or "qgis_process",
        "run",
        "tesela:generalise",
        "--",
        f"MAP={made['run']['MAP']}",
        "MMU=2 ha",
    ]
    done = subprocess.run([*call, f"OUTPUT={out}"], env=variables, capture_output=True, text=True)
    assert out.exists(), done.stdout + done.stderr
    assert "moved" in done.stdout
