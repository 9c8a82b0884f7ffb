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
    SceneDistance,
    check_imagery,
    measure_distance,
    sample_pixels,
    sample_windows,
)
from tesela.models.expert import Expert

METHODS = ("auto", *ALIGNMENTS, "self_training")
"""See docs/transfer.md."""

_SIDE_PX = 96


@dataclass(frozen=True)
class Transfer:
    """An adapted expert, and what was done."""

    expert: Expert
    alignment: str
    """One of `tesela.mapping.alignment.ALIGNMENTS`."""
    self_trained: bool
    before: SceneDistance
    after: SceneDistance

    @property
    def summary(self) -> str:
        """One line for people."""
        steps = {
            "none": "bands as they are",
            "shift": "bands shifted",
            "scene": "bands standardised by the scene",
        }
        trained = ", trees trained further on the scene" if self.self_trained else ""
        return (
            f"{steps[self.alignment]}{trained}; {self.before.far:.0%} of the pixels unlike the training before, "
            f"{self.after.far:.0%} after"
        )

    def to_dict(self) -> dict[str, object]:
        """What was done, for JSON."""
        return {
            "alignment": self.alignment,
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
    method : {"auto", "none", "shift", "scene", "self_training"}
        "shift" and "scene" change the standardisation only, see `tesela.mapping.alignment`; "auto" takes the one that
        makes the scene most likely under the mixture of the training pixels, or none; "self_training" does so, too, and
        trains trees further.
    any_scene : bool
        Go on where the imagery cannot be of the same kind; see `tesela.mapping.scene_distance.check_imagery`.

    Raises
    ------
    ExpertError
        If the expert does not describe its training imagery, or self-training is asked of a network.
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
    adapted, alignment, further = adapt_to_pixels(
        expert, pixels, lambda: sample_windows(chosen, side_px=side_px), method=method, seed=seed
    )
    return Transfer(adapted, alignment, further, before, measure_distance(adapted.header, pixels))


def adapt_to_pixels(
    expert: Expert,
    pixels: NDArray[np.floating],
    windows: Callable[[], Sequence[NDArray[np.floating]]],
    *,
    method: str = "auto",
    seed: int = 0,
) -> tuple[Expert, str, bool]:
    """
    Adapt an expert to a sample of a scene; see `adapt_expert`.

    Parameters
    ----------
    pixels : (pixels, bands) array of float
        Physical quantities, without NaN.
    windows : callable
        Gives the (bands, rows, cols) windows that trees are trained further on.

    Returns
    -------
    Expert, str, bool
        The adapted expert, its alignment, and whether its trees were trained further.
    """
    header = expert.header
    alignment = align(header, pixels, method=method if method in ALIGNMENTS else "auto")
    further = method == "self_training"
    training = {**header.training, "transfer": {"method": method, "alignment": alignment.method}}
    adapted = Expert(replace(with_alignment(header, alignment), training=training), expert.network)
    if further:
        from tesela.training.segmentation.transfer import self_train  # loads the trainings, seconds

        adapted = self_train(adapted, windows(), seed=seed)
    return adapted, alignment.method, further
