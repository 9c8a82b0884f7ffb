"""Experts for other programs: the network with its scaling as one ONNX graph."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tesela.core.band_dates import STATIC
from tesela.core.errors import ExpertError, join_words
from tesela.core.temporary import temporary_folder
from tesela.models.expert import Expert
from tesela.models.header import ExpertHeader
from tesela.models.output import UnmixingNetwork
from tesela.models.unmixing_header import LIMIT, SeriesScaling

_MOST_CELLS = 512
"""Largest side of an image, in strides of the network, for which the graph is made."""


def export_onnx(expert: Expert, path: str | Path) -> Path:
    """
    Write an expert as an ONNX file that takes physical quantities, as a scene or cube holds them.

    The graph of an expert for class maps takes ``image``, (batch, bands, rows, cols) float32 with NaN where there is
    no data, of any size that is a multiple of the network's stride, and gives ``scores``, (batch, classes, rows, cols)
    before softmax. That of an expert for unmixing takes ``series``, (pixels, steps, bands), and ``layers``, (pixels,
    layers), where it has any, and gives ``abundances``, (pixels, classes); of one that uses neighbours, the first
    axis is (windows, rows, cols). Legend, bands and pixel size are in the metadata of the file, under ``tesela``.

    Parameters
    ----------
    path : str or Path
        Ends in ``.onnx``.

    Raises
    ------
    ExpertError
        If the expert has trees or least squares, which run in kernels of their own, the extra `onnx` is not
        installed, or the file cannot be written.

    References
    ----------
    Opset and exporter: `torch.onnx.export` with `torch.export`.
    """
    target = Path(path)
    if target.suffix != ".onnx":
        raise ExpertError(f"{target}: the file of an ONNX graph must end in .onnx.")
    _check(expert)
    graph, inputs, sizes = _graph(expert)
    names = tuple(inputs)
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            graph,
            tuple(inputs.values()),
            input_names=names,
            output_names=["scores" if expert.header.series is None else "abundances"],
            dynamic_shapes=tuple(sizes[name] for name in names),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props["tesela"] = json.dumps(_document(expert.header), sort_keys=True)
    try:
        with temporary_folder(target) as folder:
            program.save(folder / target.name, external_data=False)
            (folder / target.name).replace(target)
    except OSError as error:
        raise ExpertError(f"{target}: cannot be written ({error.strerror or error}).") from error
    return target


def _check(expert: Expert) -> None:
    compiled = [
        type(module).__name__
        for module in expert.network.modules()
        if not getattr(module, "exportable", True)
    ]
    if compiled:
        raise ExpertError(
            f"This expert ({expert.header.architecture.summary}) runs in kernels of its own (trees, least squares), "
            f"for which ONNX has no operators. Train a network alone (model = 'unet', 'brits'), or map with Tesela."
        )
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise ExpertError(f"{join_words(missing)} is not installed; install tesela's extra 'onnx'.")


def _document(header: ExpertHeader) -> dict[str, object]:
    series = header.series
    return {
        "task": header.task,
        "legend": {"name": header.legend.address, "classes": header.legend.to_dict()["classes"]},
        "bands": list(header.bands),
        "pixel_size_m": header.pixel_size_m,
        "months": [] if series is None else list(series.months),
        "layers": [] if series is None else list(series.layers),
    }


def _graph(expert: Expert) -> tuple[nn.Module, dict[str, Tensor], dict[str, dict[int, Any]]]:
    """Network on quantities, an example of each input, and the sizes of each input that may differ."""
    header, network = expert.header, expert.network.eval()
    dim = torch.export.Dim
    if header.series is None:
        stride = int(getattr(network, "stride", 1))
        rows, cols = (stride * dim(name, min=1, max=_MOST_CELLS) for name in ("rows", "cols"))
        example = torch.zeros(2, len(header.bands), 2 * stride, 3 * stride)
        return _OfImages(header, network), {"image": example}, {"image": {0: dim("batch"), 2: rows, 3: cols}}
    assert isinstance(network, UnmixingNetwork)
    side = 2 * network.margin_px + 2
    leading = (2, side, side + 1) if network.margin_px else (2,)
    sizes = {axis: dim(name) for axis, name in enumerate(("pixels", "rows", "cols")[: len(leading)])}
    inputs = {"series": torch.zeros(*leading, len(header.series.months), len(header.bands))}
    if header.series.layers:
        inputs["layers"] = torch.zeros(*leading, len(header.series.layers))
    return _OfSeries(header, network, header.series), inputs, {name: dict(sizes) for name in inputs}


class _OfImages(nn.Module):
    """A network for class maps behind the standardisation of its header; see `Standardisation.apply`."""

    def __init__(self, header: ExpertHeader, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(header.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(header.std)[:, None, None])
        made = header.standardisation
        self.groups = [int(group) for group in made.groups] if made.dates else []

    def forward(self, image: Tensor) -> Tensor:
        seen = _is_finite(image)
        if self.groups:
            seen = self._complete(seen)
        scaled = torch.where(seen, (image - self.mean) / self.std, torch.zeros_like(image))
        scores: Tensor = self.network(scaled)
        return scores

    def _complete(self, finite: Tensor) -> Tensor:
        """Pixels of dates without a missing band; see `Standardisation.complete`."""
        places = {group: [i for i, own in enumerate(self.groups) if own == group] for group in self.groups}
        whole = {group: finite[:, own].all(1, keepdim=True) for group, own in places.items()}
        dates = [plane for group, plane in whole.items() if group != STATIC]
        seen = torch.cat(dates, 1).any(1, keepdim=True)
        if STATIC in whole:
            seen = seen & whole[STATIC]
        return torch.cat([seen if group == STATIC else whole[group] & seen for group in self.groups], 1)


class _OfSeries(nn.Module):
    """A network for unmixing behind the scaling of its header; see `scale_series`."""

    def __init__(self, header: ExpertHeader, network: UnmixingNetwork, series: SeriesScaling) -> None:
        super().__init__()
        self.network = network
        for name, numbers in (
            ("mean", header.mean),
            ("std", header.std),
            ("layer_mean", series.layer_mean),
            ("layer_std", series.layer_std),
        ):
            self.register_buffer(name, torch.tensor(numbers))

    def forward(self, series: Tensor, layers: Tensor | None = None) -> Tensor:
        static = series.new_zeros(*series.shape[:-2], 0)
        if layers is not None:
            static = self._scaled(layers, "layer_")
        shares: Tensor = self.network(self._scaled(series, ""), _is_finite(series).float(), static)
        return shares

    def _scaled(self, values: Tensor, which: str) -> Tensor:
        mean, std = self.get_buffer(f"{which}mean"), self.get_buffer(f"{which}std")
        scaled = ((values - mean) / std).clamp(-LIMIT, LIMIT)
        return torch.where(_is_finite(values), scaled, torch.zeros_like(values))


def _is_finite(values: Tensor) -> Tensor:
    """Neither NaN nor infinite, by operators that every runtime has."""
    return (values - values) == 0


@contextlib.contextmanager
def _quiet() -> Any:
    """The exporter prints and logs each of its steps."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
