"""Chains: run a recipe file from its first stage to its report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from tesela.chains.preview import Preview
from tesela.chains.run_record import write_record
from tesela.recipes.chain_registry import find_chain
from tesela.recipes.schema import Recipe, open_recipe
from tesela.recipes.stages import Plan, Run, Stage, plan_stages, run_stages


class Chain(Protocol):
    """Stages of one recipe, made from (recipe, folder of the recipe, quiet)."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Stages in order."""
        ...

    def preview(self) -> Preview:
        """What it starts from, opened, and what its stages will take."""
        ...

    def products(self) -> Mapping[str, str]:
        """Files that exist before the last stage has run, such as {"expert": path}."""
        ...

    def summary(self) -> Mapping[str, object]:
        """Scores and paths, for JSON; called when the last stage has run."""
        ...

    def lines(self) -> tuple[str, ...]:
        """Scores, maps and reports for a person; called when the last stage has run."""
        ...


@dataclass(frozen=True)
class Outcome:
    """Stages and products of a run of a recipe."""

    run: Run
    chain: Chain

    @property
    def document(self) -> dict[str, object]:
        """Stages done and skipped, scores and paths, for JSON."""
        seconds = {name: round(value, 2) for name, value in self.run.seconds.items()}
        document: dict[str, object] = {
            "done": self.run.done,
            "up_to_date": self.run.skipped,
            "seconds": seconds,
        }
        document |= self.chain.products()
        return document | dict(self.chain.summary()) if self._finished else document

    @property
    def lines(self) -> tuple[str, ...]:
        """Last lines for a person: those of the chain, or the products so far."""
        if self._finished:
            return self.chain.lines()
        seen = {*self.run.done, *self.run.skipped}
        last = [stage.name for stage in self.chain.stages if stage.name in seen][-1]
        products = (f"{name:<9} {path}" for name, path in self.chain.products().items())
        return (f"Done up to stage '{last}'.", *products)

    @property
    def _finished(self) -> bool:
        return self.chain.stages[-1].name in (*self.run.done, *self.run.skipped)


def run_recipe(
    path: str | Path,
    *,
    start: str | None = None,
    until: str | None = None,
    changes: Sequence[str] = (),
    quiet: bool = False,
    report: Callable[[str, str], None] = lambda stage, text: None,
) -> Outcome:
    """
    Run the stages of a recipe. Stages that are up to date are skipped, interrupted ones are resumed.

    Parameters
    ----------
    start, until : str, optional
        First stage to run again, and last stage to run: in the corine chain label, patches, train, map, assess.
    changes : sequence of str
        Keys with other values than in the file, see `tesela.recipes.overrides.override_keys`.
    quiet : bool
        No progress bars.
    report : callable of (stage, text)
        Called when a stage begins and ends.

    Raises
    ------
    RecipeError
        Lists all mistakes of the recipe at once.
    """
    recipe, folder = open_recipe(path, changes=changes)
    chain = build_chain(recipe, folder, quiet=quiet)
    run = run_stages(chain.stages, start=start, until=until, report=report)
    write_record(path, recipe, changes=changes)
    return Outcome(run, chain)


@dataclass(frozen=True)
class RecipePlan:
    """What a run of a recipe would do, from what, and what it takes."""

    stages: tuple[Plan, ...]
    preview: Preview

    @property
    def document(self) -> dict[str, object]:
        """Stages, inputs and memory, for JSON."""
        stages = [
            asdict(stage)
            | {"folder": str(stage.folder), "estimated_seconds": self.preview.seconds.get(stage.name)}
            for stage in self.stages
        ]
        return {"stages": stages, **self.preview.to_dict()}


def plan_recipe(
    path: str | Path, *, start: str | None = None, until: str | None = None, changes: Sequence[str] = ()
) -> RecipePlan:
    """
    What `run_recipe` would do, stage by stage; the inputs are opened, and nothing is written.

    Raises
    ------
    GridError, InputError
        If an input cannot be opened.
    RecipeError
        Lists all mistakes of the recipe at once.
    """
    recipe, folder = open_recipe(path, changes=changes)
    chain = build_chain(recipe, folder, quiet=True)
    preview = chain.preview()
    return RecipePlan(tuple(plan_stages(chain.stages, start=start, until=until)), preview)


def build_chain(recipe: Recipe, folder: Path, *, quiet: bool) -> Chain:
    """Chain of a checked recipe; its paths are relative to `folder`."""
    chain: Chain = find_chain(recipe.chain).load("chain")(recipe, folder, quiet=quiet)
    return chain
