"""Figures of the report, agreement by distance and reliability, as SVG that takes its colours from the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tesela.assessment.borders import BorderAgreement
from tesela.assessment.calibration import Calibration
from tesela.assessment.scores import score

_WIDTH, _HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 14, 50


def draw_borders(judged: Sequence[BorderAgreement]) -> str:
    """
    Accuracy by distance from the borders of the reference, one bar per band.

    Parameters
    ----------
    judged : sequence of BorderAgreement
        The map, and where there is one the generalised map: the second bar of each band.
    """
    bands = judged[0].bands
    total = sum(band.confusion.judged_px for band in bands)
    parts = [_open("Accuracy by distance from class borders"), *_grid()]
    step = (_WIDTH - _LEFT - _RIGHT) / len(bands)
    wide = 0.72 * step / len(judged)
    for k, band in enumerate(bands):
        middle = _LEFT + (k + 0.5) * step
        for n, borders in enumerate(judged):
            accuracy = score(borders.bands[k].confusion).accuracy
            if accuracy == accuracy:
                x = middle + (n - len(judged) / 2) * wide
                parts.append(_bar(x + 1, wide - 2, accuracy, f"bar-{n}"))
                parts.append(_text(x + wide / 2, _up(accuracy) - 4, f"{100 * accuracy:.0f}", kind="value"))
        parts.append(_text(middle, _HEIGHT - 32, band_name(judged[0], k)))
        share = band.confusion.judged_px / total
        parts.append(_text(middle, _HEIGHT - 18, f"{100 * share:.0f}\u202f%", kind="faint"))
    parts.append(_text(_LEFT - 6, _HEIGHT - 18, "ground", kind="faint", anchor="end"))
    return "".join([*parts, "</svg>"])


def draw_reliability(found: Calibration) -> str:
    """Reliability diagram: what the map claims against how often it is right, and where its ground lies."""
    parts = [_open("Share right by confidence"), *_grid()]
    bins = found.bins()
    step = (_WIDTH - _LEFT - _RIGHT) / len(bins)
    for k, item in enumerate(bins):
        if not item.judged_px:
            continue
        x = _LEFT + k * step
        parts.append(_bar(x + 1, step - 2, item.accuracy, "bar-0"))
        low, high = sorted((item.accuracy, item.confidence))
        kind = "over" if item.gap > 0 else "under"
        parts.append(
            f'<rect class="{kind}" x="{x + 1:.1f}" y="{_up(high):.1f}" width="{step - 2:.1f}" '
            f'height="{max(0.0, _up(low) - _up(high)):.1f}"/>'
        )
        height = 14 * item.judged_px / max(part.judged_px for part in bins)
        parts.append(
            f'<rect class="ground" x="{x + 1:.1f}" y="{_HEIGHT - height:.1f}" width="{step - 2:.1f}" '
            f'height="{height:.1f}"/>'
        )
    parts.append(f'<line class="ideal" x1="{_LEFT}" y1="{_up(0)}" x2="{_WIDTH - _RIGHT}" y2="{_up(1)}"/>')
    for percent in range(0, 101, 20):
        x = _LEFT + percent / 100 * (_WIDTH - _LEFT - _RIGHT)
        parts.append(_text(x, _HEIGHT - 34, f"{percent}"))
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 20, "confidence, %", kind="faint"))
    parts.append(_text(_LEFT - 6, _HEIGHT - 4, "ground", kind="faint", anchor="end"))
    return "".join([*parts, "</svg>"])


def band_name(borders: BorderAgreement, place: int) -> str:
    """Distance of a band, in metres where the CRS measures ground, else in pixels."""
    band = borders.bands[place]
    unit, size = ("px", 1.0) if borders.pixel_m is None else ("m", borders.pixel_m)
    if place == len(borders.bands) - 1:
        return f"> {_plain(band.low_px * size)}\u202f{unit}"
    return f"{_plain(band.low_px * size)}–{_plain(band.high_px * size)}\u202f{unit}"


def _plain(number: float) -> str:
    return f"{number:.4g}"


def _open(label: str) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'


def _grid() -> Iterable[str]:
    for percent in range(0, 101, 20):
        y = _up(percent / 100)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield _text(_LEFT - 6, y + 4, f"{percent}\u202f%" if percent == 100 else f"{percent}", anchor="end")


def _bar(x: float, width: float, share: float, kind: str) -> str:
    top = _up(share)
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" '
        f'height="{_HEIGHT - _BOTTOM - top:.1f}"/>'
    )


def _text(x: float, y: float, text: str, *, kind: str = "", anchor: str = "middle") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _up(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)
