"""
Draw the pictures of the tutorials from what their commands made.

    PYTHONPATH=tests .venv/bin/python docs/images/make_tutorials.py FOLDER    # runs the tutorials there, once
"""

import sys
from pathlib import Path
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import rasterio
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from numpy.typing import NDArray
from PIL import Image

import tesela
from tesela.io.maps import MapReader
from tutorial_page import run_page

HERE = Path(__file__).parent
PAGES = HERE.parent / "tutorials"
INCH = 2.45


def rgb(path: Path, bands: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Three bands of an image, stretched between their 2nd and 98th percentile."""
    with rasterio.open(path) as data:
        image = data.read(bands).astype(float)
    low, high = np.percentile(image, (2, 98), axis=(1, 2))[..., None, None]
    return (np.clip((image - low) / (high - low), 0, 1).transpose(1, 2, 0) * 255).astype(np.uint8)


def show_map(ax: Axes, path: Path, seen: dict[str, str]) -> None:
    """Draw a class map in the colours of its legend, and note the classes that occur."""
    source = tesela.open_map(path)
    with MapReader(source) as reader:
        values = reader.read(source.grid)
    picture = np.full((*values.shape, 3), 255, np.uint8)
    for cover in source.legend.classes:
        inside = values == cover.value
        if inside.any():
            picture[inside] = [int(cover.color[at : at + 2], 16) for at in (1, 3, 5)]
            seen[cover.name] = cover.color
    ax.imshow(picture, interpolation="nearest")


def panels(titles: list[str], rows: int = 1) -> tuple[plt.Figure, list[Axes]]:
    """Square panels with titles and without axes."""
    columns = len(titles) // rows
    size = (columns * INCH, rows * (INCH + 0.25 * rows**0.5))
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained")
    for ax, title in zip(np.ravel(axes), titles, strict=True):
        ax.set_title(title, fontsize=9)
        ax.set_axis_off()
    return figure, list(np.ravel(axes))


def save(figure: plt.Figure, name: str) -> None:
    """Write a PNG of 256 colours."""
    path = HERE / f"tutorial-{name}.png"
    figure.savefig(path, dpi=150, facecolor="white")
    plt.close(figure)
    Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)


def legend(figure: plt.Figure, seen: dict[str, str], columns: int) -> None:
    """Put the classes that occur below the panels."""
    patches = [
        Patch(facecolor=color, edgecolor="#555", linewidth=0.4, label=name) for name, color in seen.items()
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=columns, fontsize=7.5, frameon=False)


def draw_corine(folder: Path) -> None:
    """Image, reference, map, generalised map."""
    figure, axes = panels(["Image, July", "Reference", "Map", "Generalised: 5 ha, 50 m"])
    seen: dict[str, str] = {}
    axes[0].imshow(rgb(folder / "region/scene_july.tif", (3, 2, 1)))
    for ax, name in zip(axes[1:], ("work/labels/area.tif", "work/maps/area.tif", "clc.tif"), strict=True):
        show_map(ax, folder / name, seen)
    legend(figure, seen, 4)
    save(figure, "corine")


def draw_lulucf(folder: Path) -> None:
    """Orthophoto, labels, map, and the map of the next sheet."""
    figure, axes = panels(["Orthophoto", "Labels from SIOSE AR", "Map of the cascade", "The next sheet"])
    seen: dict[str, str] = {}
    axes[0].imshow(rgb(next((folder / "sheet").glob("PNOA*.tif")), (1, 2, 3)))
    for ax, name in zip(
        axes[1:], ("work/labels/context/sheet.tif", "work/maps/none/sheet.tif", "next.tif"), strict=True
    ):
        show_map(ax, folder / name, seen)
    legend(figure, seen, 6)
    save(figure, "lulucf")


def draw_unmixing(folder: Path) -> None:
    """Shares of the three commonest classes: reference, map, and stated deviation."""
    shares = tesela.open_abundance(folder / "work/maps/abundances.tif")
    with (
        rasterio.open(folder / "work/labels/shares.tif") as reference,
        rasterio.open(folder / "work/maps/abundances.tif") as mapped,
        rasterio.open(folder / "work/maps/uncertainty.tif") as deviation,
    ):
        true, ours, spread = (
            data.read(masked=True) * data.scales[0] for data in (reference, mapped, deviation)
        )
    common = sorted(np.argsort(-true.mean(axis=(1, 2)))[:3])
    names = [shares.legend.classes[at].name for at in common]
    rows = ("Reference", "Map", "Standard deviation")
    titles = [f"{what}:\n{fill(name, 24)}" for what in rows for name in names]
    figure, axes = panels(titles, rows=3)
    for number, ax in enumerate(axes):
        layer, column = (true, ours, spread)[number // 3], common[number % 3]
        top = 1.0 if number < 6 else 0.5
        drawn = ax.imshow(layer[column], cmap="cividis", vmin=0, vmax=top, interpolation="nearest")
        if number % 3 == 2:
            figure.colorbar(drawn, ax=axes[number - 2 : number + 1], shrink=0.8, pad=0.01)
    save(figure, "unmixing")


if __name__ == "__main__":
    root = Path(sys.argv[1])
    for name, draw in (("corine", draw_corine), ("lulucf", draw_lulucf), ("unmixing", draw_unmixing)):
        if not (root / name / "work").exists():
            run_page(PAGES / f"{name}.md", root / name)
        draw(root / name)
