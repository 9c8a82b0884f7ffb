"""Chains: a recipe file is run from its first stage to its report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tesela.recipes.schema import load_recipe
from tesela.recipes.stages import Run, run_stages

if TYPE_CHECKING:
    from tesela.recipes.corine import CorineChain


@dataclass(frozen=True)
class Outcome:
    """What a run of a recipe did and made."""

    run: Run
    chain: CorineChain

    @property
    def document(self) -> dict[str, object]:
        """Stages done and skipped, scores and paths, for JSON."""
        seconds = {name: round(value, 2) for name, value in self.run.seconds.items()}
        document: dict[str, object] = {
            "done": self.run.done,
            "up_to_date": self.run.skipped,
            "seconds": seconds,
        }
        if self._finished:
            document |= self.chain.summary()
        elif self.chain.expert_file.exists():
            document["expert"] = str(self.chain.expert_file)
        return document

    @property
    def lines(self) -> tuple[str, ...]:
        """Last lines for a person: scores, maps and reports; or the expert, where the run ended before."""
        if not self._finished:
            last = (self.run.done + self.run.skipped)[-1]
            made = (f"expert    {self.chain.expert_file}",) if last == "train" else ()
            return (f"Done up to stage '{last}'.", *made)
        summary = self.chain.summary()
        lines = []
        if "accuracy" in summary:
            lines += [
                f"accuracy  {summary['accuracy']:.4f}",
                f"mIoU      {summary['miou']:.4f}",
                f"macro F1  {summary['macro_f1']:.4f}",
            ]
        lines += [f"map       {path}" for path in _list(summary["maps"])]
        lines += [f"report    {path}" for path in _list(summary["reports"])]
        return tuple(lines)

    @property
    def _finished(self) -> bool:
        return "assess" in (*self.run.done, *self.run.skipped)


def run_recipe(
    path: str | Path,
    *,
    start: str | None = None,
    until: str | None = None,
    quiet: bool = False,
    report: Callable[[str, str], None] = lambda stage, text: None,
) -> Outcome:
    """
    Run the stages of a recipe; what is up to date is skipped, what was interrupted goes on.

    Parameters
    ----------
    start, until : str, optional
        First stage to do anew, and last stage to run: label, patches, train, map, assess.
    quiet : bool
        No progress bars.
    report : callable of (stage, text)
        Called when a stage begins and ends.

    Raises
    ------
    RecipeError
        Lists all mistakes of the recipe at once.
    """
    recipe, folder = load_recipe(path)
    from tesela.recipes.corine import CorineChain  # after the check: mistakes are told at once

    chain = CorineChain(recipe, folder, quiet=quiet)
    return Outcome(run_stages(chain.stages, start=start, until=until, report=report), chain)


def _list(value: object) -> list[object]:
    assert isinstance(value, list)
    return value
