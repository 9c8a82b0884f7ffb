"""Transfer: an expert of one region, adapted to a scene of another without labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import ExpertError, RecipeError, unknown_name
from tesela.core.scene import Scene
from tesela.mapping.alignment import ALIGNMENTS, align, with_alignment
from tesela.mapping.scene_distance import (
    FAR_SHARE,
    SceneDistance,
    check_imagery,
    measure_distance,
    sample_pixels,
    sample_windows,
)
from tesela.models.expert import Expert

METHODS = ("auto", *ALIGNMENTS, "batch_norm", "self_training")
"""See docs/transfer.md."""

LEAST_CHANGED = 0.05
"""Share of the pixels that an alignment must give another class: below, it gains nothing that can be measured."""

_SIDE_PX = 96
_WORDS = {
    "none": "bands as they are",
    "shift": "bands shifted",
    "scene": "bands standardised by the scene",
    "batch_norm": "batch normalisation mixed with that of the scene",
    "self_training": "trained further on the scene",
}


@dataclass(frozen=True)
class Transfer:
    """An adapted expert, and what was done."""

    expert: Expert
    steps: tuple[str, ...]
    """What was done in order: the alignment, one of `tesela.mapping.alignment.ALIGNMENTS`, then "batch_norm" or
    "self_training" where the expert itself was adapted."""
    before: SceneDistance
    after: SceneDistance

    @property
    def alignment(self) -> str:
        """One of `tesela.mapping.alignment.ALIGNMENTS`."""
        return self.steps[0]

    @property
    def self_trained(self) -> bool:
        """Whether the expert has learnt from its own predictions."""
        return "self_training" in self.steps

    @property
    def summary(self) -> str:
        """One line for people."""
        done = ", ".join(_WORDS[step] for step in self.steps)
        return f"{done}; {self.before.far:.0%} of the pixels unlike the training before, {self.after.far:.0%} after"

    def to_dict(self) -> dict[str, object]:
        """What was done, for JSON."""
        return {
            "alignment": self.alignment,
            "batch_norm": "batch_norm" in self.steps,
            "self_trained": self.self_trained,
            "unlike_training_before": round(self.before.far, 4),
            "unlike_training_after": round(self.after.far, 4),
        }


def adapt_expert(
    expert: Expert, scene: Scene, *, method: str = "auto", seed: int = 0, any_scene: bool = False
) -> Transfer:
    """
    Adapt an expert to a scene without labels.

    Parameters
    ----------
    method : {"auto", "none", "shift", "scene", "batch_norm", "self_training"}
        "shift" and "scene" change the standardisation only, see `tesela.mapping.alignment`. "batch_norm" mixes
        statistics of the scene into the networks. "self_training" trains further: trees after an alignment as chosen by
        "auto", experts with a network after "batch_norm". "auto" does the same, but nothing where the evidence is weak:
        few pixels unlike the training pixels and, for trees, little of that explained, or few pixels that change their
        class.
    any_scene : bool
        Go on where the imagery cannot be of the same kind; see `tesela.mapping.scene_distance.check_imagery`.

    Raises
    ------
    ExpertError
        If the expert does not describe its training imagery, or has no batch normalisation for "batch_norm".
    InputError
        If the imagery of the scene cannot be of the same kind, or has no data.
    """
    if method not in METHODS:
        raise RecipeError(unknown_name("transfer method", method, METHODS))
    header = expert.header
    before = check_imagery(header, scene, any_scene=any_scene, advise=False)
    if before is None:
        raise ExpertError(
            "This expert does not describe its training imagery, or the scene has no data: it cannot be adapted. Train "
            "the expert again, or leave out --transfer."
        )
    chosen = scene.select(header.bands)
    pixels = sample_pixels(chosen)
    side_px = _SIDE_PX + 2 * int(getattr(expert.network, "margin_px", 0))
    adapted, steps = adapt_to_pixels(
        expert, pixels, lambda: sample_windows(chosen, side_px=side_px), method=method, seed=seed
    )
    return Transfer(adapted, steps, before, measure_distance(adapted.header, pixels))


def adapt_to_pixels(
    expert: Expert,
    pixels: NDArray[np.floating],
    windows: Callable[[], Sequence[NDArray[np.floating]]],
    *,
    method: str = "auto",
    seed: int = 0,
) -> tuple[Expert, tuple[str, ...]]:
    """
    Adapt an expert to a sample of a scene; see `adapt_expert`.

    Parameters
    ----------
    pixels : (pixels, bands) array of float
        Physical quantities, without NaN.
    windows : callable
        Gives the (bands, rows, cols) windows from which the expert learns.

    Returns
    -------
    Expert, tuple of str
        The adapted expert, and the `Transfer.steps`.
    """
    from tesela.training.segmentation.network_transfer import has_batch_norm  # loads the trainings, seconds
    from tesela.training.segmentation.transfer import adapt_batch_norm, changed_share, models_of, self_train

    header, steps = expert.header, ["none"]
    adapted, before, learns, mixes = expert, None, method == "self_training", False
    normalised = [has_batch_norm(model) for model in models_of(expert)]
    if method == "batch_norm" or (any(normalised) and method not in ALIGNMENTS):
        learns |= method == "auto" and measure_distance(header, pixels).far > FAR_SHARE
        mixes = learns or method == "batch_norm"
    else:
        alignment = align(header, pixels, method=method if method in ALIGNMENTS else "auto")
        adapted = Expert(with_alignment(header, alignment), expert.network)
        steps = [alignment.method]
        before = None if alignment.is_clear else expert
        if method == "auto" and alignment.method != "none":
            learns = changed_share(expert, adapted, windows()) >= LEAST_CHANGED
            if not learns:
                adapted, steps = expert, ["none"]
    if mixes:
        adapted = adapt_batch_norm(adapted, windows())
        steps.append("batch_norm")
    if learns:
        adapted = self_train(adapted, windows(), before=before, seed=seed)
        steps.append("self_training")
    training = {**header.training, "transfer": {"method": method, "steps": steps}}
    return Expert(replace(adapted.header, training=training), adapted.network, expert.path), tuple(steps)
