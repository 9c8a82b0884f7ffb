"""What BRITS costs: multiplications and additions of one pixel."""

from __future__ import annotations

from dataclasses import dataclass

from tesela.models.unmixers import BritsArchitecture


@dataclass(frozen=True)
class Cost:
    """Millions of floating-point operations for one pixel."""

    true_mflop: float
    """Of all matrix products of the equations, an addition and a multiplication for each weight."""
    published_mflop: float
    """As Table II of the paper counts, by the profiler thop: biases and gates of the LSTM twice, no decay rates."""


def brits_cost(plan: BritsArchitecture, *, steps: int = 12) -> Cost:
    """
    Count the work of BRITS for one pixel.

    Examples
    --------
    >>> brits_cost(BritsArchitecture(bands=7, classes=4))
    Cost(true_mflop=2.267008, published_mflop=2.305504)
    """
    bands, hidden = plan.bands, plan.hidden
    gates = 4 * (2 * bands + hidden) * hidden
    estimates = hidden * bands + 2 * bands * bands
    rates = (
        bands * hidden + 2 * bands * bands
    )  # of hidden state, of values, and the weights of the other bands
    branch = plan.layers * plan.embedding + (hidden + plan.embedding) * hidden if plan.layers else 0
    ending = branch + hidden * plan.classes
    true = 2 * (steps * (gates + estimates + rates) + ending)
    counted = 2 * (steps * (gates + 16 * hidden + estimates) + ending)
    return Cost(2 * true / 1e6, 2 * counted / 1e6)
