"""Stages: steps of a chain that are skipped when they are up to date and resumed when they were interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tesela.core.errors import RecipeError, unknown_name
from tesela.core.temporary import remove_abandoned
from tesela.io.addresses import relative_name
from tesela.io.fingerprints import fingerprint
from tesela.io.manifest import BEGUN, NAME, Manifest, recorded_above
from tesela.recipes.stage_items import forget_items


@dataclass(frozen=True)
class Stage:
    """One step: what it depends on, where it writes, and the work."""

    name: str
    folder: Path
    """Folder of its outputs, with its `manifest.json`."""
    settings: Mapping[str, object]
    """Everything besides files that the outputs depend on."""
    inputs: Callable[[], Sequence[str | Path]]
    """Files and addresses that it reads; called when the stage is reached, since earlier stages write some."""
    work: Callable[[], Sequence[Path]]
    """Does the step and returns the files that it wrote."""
    legend: str = ""
    seed: int | None = None


@dataclass
class Run:
    """Result of `run_stages`: what was done, by stage."""

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What `run_stages` would do with a stage."""

    name: str
    state: str
    """"up to date", "to run", or "after LAST": its inputs are not written yet."""
    folder: Path
    inputs_bytes: int | None
    """Bytes of the inputs that are files of this machine; None if there are none yet."""
    last_seconds: float | None
    """Time of the last run of the stage, with whatever settings."""


def plan_stages(stages: Sequence[Stage], *, start: str | None = None, until: str | None = None) -> list[Plan]:
    """
    What `run_stages` would do, stage by stage; nothing is written.

    Raises
    ------
    RecipeError
        If `start` or `until` names no stage.
    """
    _check_names(stages, start, until)
    plans: list[Plan] = []
    waiting = ""
    forced = False
    for stage in stages:
        forced = forced or stage.name == start
        finished = Manifest.read(stage.folder)
        state, size = f"after {waiting}", None
        if not waiting:
            inputs = stage.inputs()
            size = sum(Path(item).stat().st_size for item in inputs if Path(item).is_file())
            state = "to run" if forced or not _is_current(stage, _wanted(stage, inputs)) else "up to date"
        if state == "to run":
            waiting = stage.name
        plans.append(
            Plan(stage.name, state, stage.folder, size, finished.seconds if finished is not None else None)
        )
        if stage.name == until:
            break
    return plans


def run_stages(
    stages: Sequence[Stage],
    *,
    start: str | None = None,
    until: str | None = None,
    report: Callable[[str, str], None] = lambda stage, text: None,
) -> Run:
    """
    Run stages in order; one whose manifest describes the same work on the same inputs is skipped.

    The manifest of a finished stage stays until other work replaces it. Work that fails, for a mistyped
    setting for example, therefore costs nothing: with the former settings the stage is up to date again, as long as
    its outputs are the same files as before.

    Parameters
    ----------
    start : str, optional
        Stage from which on all are run again.
    until : str, optional
        Last stage to run.
    report : callable of (stage, text)
        Called when a stage begins and ends.

    Raises
    ------
    RecipeError
        If `start` or `until` names no stage.
    """
    _check_names(stages, start, until)
    result = Run()
    forced = False
    for stage in stages:
        forced = forced or stage.name == start
        begun = time.perf_counter()
        wanted = _wanted(stage, stage.inputs())
        if not forced and _is_current(stage, wanted):
            _tidy(stage)
            result.skipped.append(stage.name)
            report(stage.name, "up to date")
        else:
            report(stage.name, "")
            stage.folder.mkdir(parents=True, exist_ok=True)
            if forced:  # remembered, so that a killed run resumes it
                wanted.write(stage.folder, BEGUN)
                forget_items(stage.folder)
            with recorded_above():
                outputs = stage.work()
            seconds = time.perf_counter() - begun
            replace(wanted, outputs=_fingerprints(stage, outputs), seconds=round(seconds, 3)).write(
                stage.folder
            )
            (stage.folder / BEGUN).unlink(missing_ok=True)
            result.done.append(stage.name)
            result.seconds[stage.name] = seconds
            report(stage.name, f"{seconds:.1f} s")
        if stage.name == until:
            break
    return result


def _check_names(stages: Sequence[Stage], *names: str | None) -> None:
    known = [stage.name for stage in stages]
    for name in names:
        if name is not None and name not in known:
            raise RecipeError(unknown_name("stage", name, known))


def _wanted(stage: Stage, inputs: Sequence[str | Path]) -> Manifest:
    """Manifest of the work that a stage has to do."""
    return Manifest(
        step=stage.name,
        settings=stage.settings,
        inputs=_fingerprints(stage, inputs),
        legend=stage.legend,
        seed=stage.seed,
    )


def _is_current(stage: Stage, wanted: Manifest) -> bool:
    """Whether a finished stage did the wanted work, its outputs are unchanged, and it was not asked for again."""
    finished, begun = (Manifest.read(stage.folder, name) for name in (NAME, BEGUN))
    if finished is None or not finished.same_work(wanted):
        return False
    if begun is not None and begun.same_work(wanted):
        return False
    files = {stage.folder / path: text for path, text in finished.outputs.items()}
    return all(path.exists() and fingerprint(path) == text for path, text in files.items())


def _tidy(stage: Stage) -> None:
    """Remove what a run left that was killed between its last output and the end of the stage."""
    finished = Manifest.read(stage.folder)
    for name in (NAME, BEGUN, *(finished.outputs if finished is not None else ())):
        remove_abandoned(stage.folder / name)


def _fingerprints(stage: Stage, paths: Sequence[str | Path]) -> dict[str, str]:
    """Fingerprints by path, relative to the stage's folder: a project that is moved as a whole stays up to date."""
    return {relative_name(path, stage.folder): fingerprint(path) for path in paths}
