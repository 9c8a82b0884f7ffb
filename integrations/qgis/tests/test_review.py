"""The review panel in a real QGIS: keys on the map write answers that Tesela reads."""

import processing
import pytest
from qgis.core import QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.gui import QgsMapCanvas
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QApplication, QMainWindow
from tesela_qgis.review_dock import ReviewDock
from tesela_qgis.review_items import ReviewError, ReviewItems, items_in


@pytest.fixture
def dock(qgis, world):
    window = QMainWindow()
    canvas = QgsMapCanvas(window)
    window.setCentralWidget(canvas)
    scene = QgsProject.instance().addMapLayer(QgsRasterLayer(world["scene"], "scene"))
    canvas.setLayers([scene])
    canvas.setDestinationCrs(scene.crs())
    canvas.setExtent(scene.extent())
    panel = ReviewDock(canvas, window)
    window.addDockWidget(Qt.RightDockWidgetArea, panel)
    window.resize(1200, 800)
    window.show()
    window.activateWindow()
    QApplication.setActiveWindow(window)
    canvas.setFocus()
    QApplication.processEvents()
    yield panel
    panel.remove()
    window.close()


def press(dock, *keys):
    for key in keys:
        QTest.keyClick(dock.canvas.viewport(), key)
        QApplication.processEvents()


def decisions(path):
    layer = QgsVectorLayer(f"{path}|layername=proposals", "fresh", "ogr")
    return {row.id(): row["decision"] for row in layer.getFeatures() if row["decision"]}


def test_keys_on_the_map_accept_reject_choose_skip_and_undo(dock, world):
    dock.open_file(world["queue"])
    proposed = [fid for fid in dock.items.order if dock.items.item(fid).new]
    dock._go(proposed[0])
    first = dock.item
    press(dock, Qt.Key_A)
    assert decisions(world["queue"]) == {first.fid: first.new}
    second = dock.item
    assert second.fid != first.fid
    press(dock, Qt.Key_R)
    assert decisions(world["queue"]) == {first.fid: first.new, second.fid: second.old}
    third = dock.item
    press(dock, Qt.Key_P)
    assert dock.item.fid != third.fid
    press(dock, Qt.Key_U)
    assert dock.item.fid == second.fid
    assert decisions(world["queue"]) == {first.fid: first.new}
    assert dock.bar.text() == f"1 of {len(dock.items.order)} answered"


def test_another_class_is_typed_with_its_code_and_a_note(dock, world):
    dock.open_file(world["queue"])
    item = dock.item
    press(dock, Qt.Key_T)
    QTest.keyClicks(dock.note, "a reservoir")
    QTest.keyClick(dock.note, Qt.Key_Return)
    press(dock, Qt.Key_5)
    assert dock.search.text() == "5"
    QTest.keyClicks(dock.search, "12")
    QTest.keyClick(dock.search, Qt.Key_Return)
    assert decisions(world["queue"]) == {item.fid: "512"}
    assert dock.items.item(item.fid).note == "a reservoir"


def test_the_map_shows_the_change_in_its_middle(dock, world):
    dock.open_file(world["queue"])
    QApplication.processEvents()
    layer, canvas = dock.items.layer, dock.canvas
    box = canvas.mapSettings().layerExtentToOutputExtent(layer, dock.item.shape.boundingBox())
    assert canvas.extent().contains(box)
    assert canvas.extent().center().distance(box.center()) < 0.02 * canvas.extent().width()
    band = dock._bands[-1]
    assert band.isVisible()
    press(dock, Qt.Key_H)
    assert not band.isVisible()
    press(dock, Qt.Key_H)
    assert band.isVisible()


def test_the_decisions_are_applied_to_the_old_map(dock, world, tmp_path):
    dock.open_file(world["queue"])
    while dock.bar.value() < len(dock.items.order):
        press(dock, Qt.Key_A if dock.item.new else Qt.Key_R)
    accepted = sum(dock.items.item(fid).answer == dock.items.item(fid).new for fid in dock.items.order)
    assert dock.apply.isVisible()
    wanted = []
    dock.apply_wanted.connect(lambda *given: wanted.append(given))
    dock.apply.click()
    assert wanted == [(world["queue"], False)]
    out = processing.run(
        "tesela:update-apply",
        {"QUEUE": wanted[0][0], "UNDECIDED": 0, "OUTPUT": str(tmp_path / "new.gpkg")},
    )
    changes = QgsVectorLayer(out["CHANGES"])
    assert accepted > 5
    assert changes.featureCount() >= accepted
    assert {row["outcome"] for row in changes.getFeatures()} == {"accepted"}
    assert QgsVectorLayer(out["OUTPUT"]).featureCount() > QgsVectorLayer(world["reference"]).featureCount()


def test_points_of_a_sample_are_answered_by_digit_and_estimated(dock, world, tmp_path):
    dock.open_file(world["sample"])
    assert dock.item.title == "point 1"
    assert not dock.buttons["accept"].isVisible()
    press(dock, Qt.Key_A)  # means nothing for a point
    assert dock.item.title == "point 1"
    map_layer = QgsRasterLayer(world["run"]["MAP"])
    for _ in dock.items.order:
        point = dock.item.shape.centroid().asPoint()
        value, _ok = map_layer.dataProvider().sample(point, 1)
        press(dock, getattr(Qt, f"Key_{int(value)}"))
    assert dock.bar.value() == 30
    out = processing.run(
        "tesela:sample-estimate",
        {"SAMPLE": world["sample"], "MAP": world["run"]["MAP"], "OUTPUT": str(tmp_path / "report")},
    )
    assert "accuracy" in open(out["REPORT"], encoding="utf-8").read()  # noqa: PTH123, SIM115


def test_the_attribute_form_offers_the_classes(qgis, world):
    points = QgsVectorLayer(f"{world['sample']}|layername=points", "sample")
    setup = points.editorWidgetSetup(points.fields().indexOf("reference"))
    assert setup.type() == "ValueMap"
    assert {"2 Agricultural areas": "2"} in setup.config()["map"]
    proposals = items_in(world["queue"])
    ReviewItems(proposals)
    setup = proposals.editorWidgetSetup(proposals.fields().indexOf("decision"))
    assert {"512 Water bodies": "512"} in setup.config()["map"]


def test_answers_are_refused_in_one_line(qgis, world):
    with pytest.raises(ReviewError, match="neither the proposals of an update nor the points"):
        ReviewItems(QgsVectorLayer(world["reference"], "reference"))
    with pytest.raises(ReviewError, match="has neither proposals nor points"):
        items_in(world["reference"])
    items = ReviewItems(items_in(world["queue"]))
    with pytest.raises(ReviewError, match="999 is no class"):
        items.answer(items.order[0], "999", "")
    items.layer.startEditing()
    with pytest.raises(ReviewError, match="is being edited"):
        items.answer(items.order[0], items.choices[0].code, "")
    assert not decisions(world["queue"])


def test_the_polygons_of_a_queue_lead_to_its_proposals_and_a_layer_that_goes_ends_the_review(dock, world):
    polygons = QgsVectorLayer(f"{world['queue']}|layername=update", "polygons")
    QgsProject.instance().addMapLayer(polygons)
    dock.open_layer(polygons)
    assert dock.items.field == "decision"
    QgsProject.instance().removeMapLayer(dock.items.layer)
    assert dock.items is None
    assert "Open a queue" in dock.message.text()
