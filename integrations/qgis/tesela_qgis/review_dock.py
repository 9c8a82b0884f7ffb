"""The review panel: one item after the other on the map, answered by key."""

from __future__ import annotations

from functools import partial

from qgis.core import QgsCoordinateTransform, QgsProject, QgsRectangle, QgsVectorLayer, QgsWkbTypes
from qgis.gui import QgsDockWidget, QgsMapCanvas, QgsRubberBand
from qgis.PyQt.QtCore import QEvent, Qt, QTimer, pyqtSignal
from qgis.PyQt.QtGui import QColor, QIcon, QPixmap
from qgis.PyQt.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from tesela_qgis.results import draw_outlines
from tesela_qgis.review_items import Choice, Item, ReviewError, ReviewItems, has_items, items_in

_AROUND_CHANGE, _AROUND_POINT = 2.5, 16.0
"""Side of the view, in sides of the change and of the pixel."""

_FEW = 9
"""So many classes have a digit each; of more, digits begin a code."""

_SHAPE, _POLYGON = QColor("#ff00ff"), QColor("#ffffff")


class ReviewDock(QgsDockWidget):
    """
    Shows the items of a queue or sample on the map and writes the answers.

    Keys work in the panel and on the map: A accept, R reject, digits and / another class, P skip, B back, U undo,
    0 back to the item, H hide the outline, T note. They are those of the page of `tesela review serve`.
    """

    finished = pyqtSignal()
    """No item is open."""
    apply_wanted = pyqtSignal(str, bool)
    """The next step is wanted: the file, and whether it is a sample."""

    def __init__(self, canvas: QgsMapCanvas, parent: QWidget | None = None) -> None:
        super().__init__("Tesela review", parent)
        self.setObjectName("TeselaReview")
        self.canvas = canvas
        self.items: ReviewItems | None = None
        self.item: Item | None = None
        self._bands = [
            self._band(_POLYGON, width=1, style=Qt.DashLine),
            self._band(_SHAPE, width=3, style=Qt.SolidLine),
        ]
        self._build()
        self._keys = {
            Qt.Key_A: self.accept,
            Qt.Key_R: self.reject,
            Qt.Key_P: self.skip,
            Qt.Key_B: self.back,
            Qt.Key_U: self.undo,
            Qt.Key_0: self.zoom,
            Qt.Key_H: self.toggle_outline,
            Qt.Key_T: lambda: self.note.setFocus(),
            Qt.Key_Slash: lambda: self.search.setFocus(),
        }
        for watched in (canvas, canvas.viewport(), self):
            watched.installEventFilter(self)
        self._show()

    # --- opening and closing ---

    def open_layer(self, layer: QgsVectorLayer) -> None:
        """Review a layer, or the items of its file; where there are none, the panel says so."""
        try:
            items = ReviewItems(layer)
        except ReviewError as error:
            self._open_beside(layer, error)
            return
        self.items = items
        layer.willBeDeleted.connect(partial(self._forget, items))
        draw_outlines(layer)
        self._list_classes()
        first = self.items.after(None)
        self._go(first if first is not None else next(iter(self.items.order), None))
        self.canvas.setFocus()
        QTimer.singleShot(0, self.zoom)  # QGIS itself zooms to the first layer of a project

    def open_file(self, path: str = "") -> None:
        """Review a file, asked for where none is given; its layer is added to the project."""
        if not path:
            path, _ = QFileDialog.getOpenFileName(
                self, "Queue of an update or sample of points", "", "GeoPackage (*.gpkg)"
            )
        if not path:
            return
        try:
            layer = items_in(path)
        except ReviewError as error:
            self.say(str(error))
            return
        same = [
            item for item in QgsProject.instance().mapLayers().values() if item.source() == layer.source()
        ]
        self.open_layer(same[0] if same else QgsProject.instance().addMapLayer(layer))

    def _open_beside(self, layer: QgsVectorLayer, error: ReviewError) -> None:
        """Review the items in the file of another layer, such as the polygons of a queue."""
        path = layer.source().split("|")[0]
        if path.lower().endswith(".gpkg") and has_items(path):
            self.open_file(path)
        else:
            self.say(str(error))

    def _forget(self, items: ReviewItems) -> None:
        """Close a review whose layer goes; all answers are in its file."""
        if self.items is items:
            self.items = self.item = None
            self.classes.clear()
            self._show()

    def remove(self) -> None:
        """Take everything off the map, before the plugin goes."""
        self.items = self.item = None
        for watched in (self.canvas, self.canvas.viewport(), self):
            watched.removeEventFilter(self)
        for band in self._bands:
            self.canvas.scene().removeItem(band)
        self._bands = []

    # --- answers ---

    def accept(self) -> None:
        """The proposed class is right."""
        if self.item is not None and self.item.new:
            self.answer(self.item.new)

    def reject(self) -> None:
        """The old class holds."""
        if self.item is not None and self.item.old:
            self.answer(self.item.old)

    def answer(self, code: str) -> None:
        """Write an answer and go to the next open item."""
        if self.items is None or self.item is None:
            return
        try:
            self.items.answer(self.item.fid, code, self.note.text().strip())
        except ReviewError as error:
            self.say(str(error))
            return
        self.skip()

    def skip(self) -> None:
        """Go to the next open item; this one comes again."""
        if self.items is None or self.item is None:
            return
        following = self.items.after(self.item.fid)
        self._go(following if following is not None else self.item.fid)
        if following is None:
            self.finished.emit()

    def back(self) -> None:
        """Go to the item before, answered or not."""
        if self.items is not None and self.item is not None:
            self._go(self.items.after(self.item.fid, step=-1, open_only=False))

    def undo(self) -> None:
        """Take the last answer back and go to its item."""
        if self.items is None:
            return
        try:
            fid = self.items.undo()
        except ReviewError as error:
            self.say(str(error))
            return
        if fid is not None:
            self._go(fid)

    # --- the map ---

    def zoom(self) -> None:
        """Show the item in the middle of the map."""
        if self.items is None or self.item is None:
            return
        transform = QgsCoordinateTransform(
            self.items.layer.crs(), self.canvas.mapSettings().destinationCrs(), QgsProject.instance()
        )
        box = transform.transformBoundingBox(self.item.shape.boundingBox())
        side = max(box.width(), box.height()) * (_AROUND_POINT if self.items.is_sample else _AROUND_CHANGE)
        self.canvas.setExtent(QgsRectangle.fromCenterAndSize(box.center(), side, side))
        self.canvas.refresh()

    def toggle_outline(self) -> None:
        """Hide or show the outlines and the layer."""
        if self.items is None:
            return
        shown = not self._bands[-1].isVisible()
        for band in self._bands:
            band.setVisible(shown)
        node = QgsProject.instance().layerTreeRoot().findLayer(self.items.layer)
        if node is not None:
            node.setItemVisibilityChecked(shown)

    def _band(self, color: QColor, *, width: int, style: Qt.PenStyle) -> QgsRubberBand:
        band = QgsRubberBand(self.canvas, QgsWkbTypes.PolygonGeometry)
        band.setStrokeColor(color)
        band.setFillColor(QColor(0, 0, 0, 0))
        band.setWidth(width)
        band.setLineStyle(style)
        return band

    # --- the panel ---

    def say(self, text: str) -> None:
        """Show a line, such as an error."""
        self.message.setText(text)
        self.message.setVisible(bool(text))

    def _go(self, fid: int | None) -> None:
        try:
            self.item = None if self.items is None or fid is None else self.items.item(fid)
        except ReviewError as error:
            self.item = None
            self.say(str(error))
            return
        self._show()
        self.zoom()

    def _show(self) -> None:
        item, items = self.item, self.items
        self.say(
            "" if items is not None else "Open a queue of tesela update, or a sample of tesela sample draw."
        )
        for widget in (self.note, self.search, self.classes, *self.buttons.values()):
            widget.setEnabled(item is not None)
        for band, shape in zip(self._bands, (item.around, item.shape) if item else (None, None)):
            band.reset(QgsWkbTypes.PolygonGeometry)
            if shape is not None and items is not None:
                band.setToGeometry(shape, items.layer)
                band.show()
        answered = [] if items is None else [code for code in items.answers().values() if code]
        total = 0 if items is None else len(items.order)
        self.bar.setMaximum(max(total, 1))
        self.bar.setValue(len(answered))
        self.bar.setFormat(f"{len(answered)} of {total} answered")
        self.title.setText(item.title if item else "")
        for name in ("accept", "reject"):
            self.buttons[name].setVisible(items is None or not items.is_sample)
        self.change.setVisible(bool(item and item.old))
        self.note.setText(item.note if item else "")
        self.search.clear()
        done = items is not None and total > 0 and len(answered) == total
        self.apply.setVisible(done)
        if item is None:
            return
        self.buttons["accept"].setEnabled(bool(item.new))
        self.change.setText(f"{self._chip(item.old)} → {self._chip(item.new) if item.new else '?'}")
        for row in range(self.classes.count()):
            entry = self.classes.item(row)
            entry.setSelected(bool(item.answer) and entry.data(Qt.UserRole) == item.answer)
        if done:
            self.apply.setText(
                "Estimate accuracy and area…" if items.is_sample else "Apply the changes to the map…"
            )

    def _chip(self, code: str) -> str:
        choice = self.items.by_code.get(code, Choice(code, code, "#888888"))
        name = choice.label.replace("&", "&amp;").replace("<", "&lt;")
        return f'<span style="color:{choice.color}">&#9632;</span> {name}'

    def _list_classes(self) -> None:
        self.classes.clear()
        for number, choice in enumerate(self.items.choices, start=1):
            chip = QPixmap(14, 14)
            chip.fill(QColor(choice.color))
            digit = f"   [{number}]" if len(self.items.choices) <= _FEW else ""
            entry = QListWidgetItem(QIcon(chip), choice.label + digit, self.classes)
            entry.setData(Qt.UserRole, choice.code)

    def _filter(self, text: str) -> None:
        """Show the classes whose code begins with a text, or whose name contains it."""
        for row in range(self.classes.count()):
            entry = self.classes.item(row)
            code, label = entry.data(Qt.UserRole), entry.text()
            entry.setHidden(not (code.startswith(text) or text.lower() in label.lower()))

    def _choose_first(self) -> None:
        """The class whose code is typed, or the first one that is listed."""
        text = self.search.text().strip()
        listed = [self.classes.item(row) for row in range(self.classes.count())]
        codes = [entry.data(Qt.UserRole) for entry in listed if not entry.isHidden()]
        if text and codes:
            self.canvas.setFocus()
            self.answer(text if text in codes else codes[0])

    def _build(self) -> None:
        body, column = QWidget(self), QVBoxLayout()
        body.setLayout(column)
        self.setWidget(body)
        self.open_button = QPushButton("Open a queue or sample…", body)
        self.open_button.clicked.connect(lambda: self.open_file())
        self.bar, self.title, self.change, self.message = (
            QProgressBar(body),
            QLabel(body),
            QLabel(body),
            QLabel(body),
        )
        for label in (self.title, self.change, self.message):
            label.setWordWrap(True)
        self.change.setTextFormat(Qt.RichText)
        self.message.setTextFormat(Qt.PlainText)
        self.buttons = {
            name: QPushButton(text, body)
            for name, text in (
                ("accept", "Accept [A]"),
                ("reject", "Reject [R]"),
                ("back", "Back [B]"),
                ("skip", "Skip [P]"),
                ("undo", "Undo [U]"),
                ("zoom", "Zoom [0]"),
            )
        }
        for name, button in self.buttons.items():
            button.setFocusPolicy(Qt.NoFocus)
            button.clicked.connect(partial(self._press, name))
        self.search, self.note, self.classes = QLineEdit(body), QLineEdit(body), QListWidget(body)
        self.search.setPlaceholderText("Other class: code or name [/]")
        self.note.setPlaceholderText("Note [T]")
        self.note.setMaxLength(2000)
        self.classes.setFocusPolicy(Qt.NoFocus)
        self.classes.setHorizontalScrollBarPolicy(Qt.ScrollBarAlwaysOff)
        self.classes.itemClicked.connect(lambda entry: self.answer(entry.data(Qt.UserRole)))
        self.search.textChanged.connect(lambda text: self._filter(text.strip()))
        self.search.returnPressed.connect(self._choose_first)
        self.note.returnPressed.connect(lambda: self.canvas.setFocus())
        self.apply = QPushButton(body)
        self.apply.clicked.connect(lambda: self.apply_wanted.emit(self.items.path, self.items.is_sample))
        column.addWidget(self.open_button)
        column.addWidget(self.bar)
        column.addWidget(self.title)
        column.addWidget(self.change)
        column.addLayout(_row(self.buttons["accept"], self.buttons["reject"]))
        column.addWidget(self.search)
        column.addWidget(self.classes, 1)
        column.addWidget(self.note)
        column.addLayout(_row(*(self.buttons[name] for name in ("back", "skip", "undo", "zoom"))))
        column.addWidget(self.message)
        column.addWidget(self.apply)

    def _press(self, name: str, _checked: bool = False) -> None:
        getattr(self, name)()

    # --- keys ---

    def eventFilter(self, watched, event):
        """Take the keys of the review, before QGIS takes them as shortcuts."""
        kind = event.type()
        if (
            kind not in (QEvent.ShortcutOverride, QEvent.KeyPress)
            or self.item is None
            or not self.isVisible()
        ):
            return super().eventFilter(watched, event)
        typing = self.search.hasFocus() or self.note.hasFocus()
        if typing and event.key() == Qt.Key_Escape and kind == QEvent.KeyPress:
            self.canvas.setFocus()
            return True
        act = None if typing or event.modifiers() & ~Qt.KeypadModifier else self._act(event.key())
        if act is None:
            return super().eventFilter(watched, event)
        event.accept()
        if kind == QEvent.KeyPress and not event.isAutoRepeat():
            act()
        return True

    def _act(self, key: int):
        """What a key does; None for nothing."""
        if Qt.Key_1 <= key <= Qt.Key_9:
            digit = key - Qt.Key_0
            if len(self.items.choices) > _FEW:
                return lambda: self._begin_code(str(digit))
            if digit <= len(self.items.choices):
                return lambda: self.answer(self.items.choices[digit - 1].code)
        return self._keys.get(key)

    def _begin_code(self, digit: str) -> None:
        self.search.setFocus()
        self.search.setText(digit)


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget)
    return row
