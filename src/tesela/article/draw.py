"""Draw the figures of a run: each as PNG and PDF, with its caption as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from tesela.article.drawing import Figures, Source
from tesela.chains.run import build_chain
from tesela.chains.run_record import find_run
from tesela.core.errors import InputError, RecipeError, TeselaError, unknown_name
from tesela.io.manifest import record_step, write_text, write_whole
from tesela.pages.plots import pdf_of, png_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODULES = {
    "corine": "tesela.article.corine",
    "lulucf": "tesela.article.lulucf",
    "unmixing": "tesela.article.unmixing",
}
"""Module with the figures of each chain."""


@dataclass(frozen=True)
class DrawnFigures:
    """Files of a run's figures."""

    chain: str
    folder: Path
    files: dict[str, tuple[Path, Path]] = field(default_factory=dict)
    """PNG and PDF by the number of the figure."""
    captions: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    """Why a figure was not drawn, by its number."""

    @property
    def document(self) -> dict[str, object]:
        """Files, captions and what is missing, for JSON."""
        return {
            "chain": self.chain,
            "figures": {
                number: {"png": str(png), "pdf": str(pdf), "caption": self.captions[number]}
                for number, (png, pdf) in self.files.items()
            },
            "missing": self.missing,
        }

    @property
    def lines(self) -> tuple[str, ...]:
        """A line a figure, and where they are."""
        return (
            *(
                f"{self.chain} {number:<3} {pdf.with_suffix('')}.png, .pdf, .txt"
                for number, (_, pdf) in self.files.items()
            ),
            *(f"{self.chain} {number:<3} not drawn: {text}" for number, text in self.missing.items()),
        )


def draw_figures(
    run: str | Path,
    out: str | Path | None = None,
    *,
    only: Sequence[str] | None = None,
    scene: str | None = None,
    dpi: int = 300,
    report: Callable[[str, str], None] = lambda stage, text: None,
) -> DrawnFigures:
    """
    Draw the figures of the paper behind a chain from a finished run of it.

    Parameters
    ----------
    run : path
        Folder of the outputs of `tesela run`, or the recipe.
    out : path, optional
        Folder of the figures; default: ``figures`` in that of the outputs.
    only : sequence of str, optional
        Numbers of the figures in the paper, such as "4" or "1a"; default: all that the run can draw.
    scene : str, optional
        Mapped scene to draw; default: the first one with labels.
    dpi : int
        Pixels per inch of the PNG, and of the pictures in the PDF.

    Returns
    -------
    DrawnFigures
        The same run gives the same bytes.

    Raises
    ------
    InputError
        If a figure that was asked for cannot be drawn, or none can; names the stage to run.
    RecipeError
        If the folder is no run of a recipe, the chain has no such figure, or `dpi` is not 50 to 1200.
    """
    if not 50 <= dpi <= 1200:
        raise RecipeError(f"dpi is {dpi}; give 50 to 1200 (journals ask for 300).")
    recorded = find_run(run)
    name = recorded.recipe.chain
    figures: Figures = import_module(MODULES[name]).FIGURES
    for number in only or ():
        if number not in figures:
            raise RecipeError(unknown_name(f"figure of {name}", number, list(figures)))
    chain = build_chain(recorded.recipe, recorded.folder, quiet=True)
    source = Source(chain, recorded.file, scene=scene, dpi=dpi)
    folder = recorded.out / "figures" if out is None else Path(out)
    drawn = DrawnFigures(name, folder)
    made, inputs = list[Path](), list[str | Path]()
    for number in only or figures:
        report(f"figure {number}", "")
        try:
            drawing = figures[number](source)
        except TeselaError as error:
            if only:
                raise type(error)(f"Figure {number}: {error}") from error
            drawn.missing[number] = str(error)
            continue
        stem = folder / f"{name}-{number}"
        drawn.files[number] = _write(drawing.figure, stem, dpi=dpi)
        drawn.captions[number] = drawing.caption
        made += [*drawn.files[number], write_text(stem.with_suffix(".txt"), drawing.caption + "\n")]
        inputs += drawing.inputs
    if not drawn.files:
        raise InputError(f"No figure can be drawn of {run}: {next(iter(drawn.missing.values()))}")
    record_step("figures", made, inputs=inputs, settings={"dpi": dpi})
    return drawn


def _write(figure: Figure, stem: Path, *, dpi: int) -> tuple[Path, Path]:
    png, pdf = stem.with_suffix(".png"), stem.with_suffix(".pdf")
    for path, content in ((png, png_of(figure, dpi=dpi)), (pdf, pdf_of(figure, dpi=dpi))):
        with write_whole(path) as part:
            part.write_bytes(content)
    return png, pdf
