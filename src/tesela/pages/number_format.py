"""Number format: how pages write numbers."""

from __future__ import annotations

import math


def count_text(value: int) -> str:
    """Whole number in groups of three digits."""
    return f"{value:,}".replace(",", "\u202f")


def hectares_text(value: float) -> str:
    """Area with as many digits as it deserves, without unit."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 1 else 2
    return f"{value:,.{digits}f}".replace(",", "\u202f")


def percent_text(value: float | None, digits: int = 1) -> str:
    """Share in per cent; a dash where it does not exist."""
    return f"{value * 100:.{digits}f}\u202f%" if value is not None and math.isfinite(value) else "–"


def change_text(share: float) -> str:
    """Relative change in per cent with its sign."""
    return f"{share * 100:+.0f}\u202f%".replace("-", "−")


def score_text(value: float | None) -> str:
    """Score to three digits; a dash where it does not exist."""
    return f"{value:.3f}" if value is not None and math.isfinite(value) else "–"


def gain_text(value: float | None) -> str:
    """Difference of two scores with its sign; a dash where it does not exist."""
    return f"{value:+.3f}".replace("-", "−") if value is not None and math.isfinite(value) else "–"
