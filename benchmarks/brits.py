"""
BRITS: the fast network beside the plain one, PyPOTS' core where it is installed, and a file per pixel.

    .venv/bin/python benchmarks/brits.py [--pixels 2048] [--rounds 9] [--map 512]

Random series of 12 months and 7 bands with 20 % missing, one thread, processor time, medians of rounds that take turns.
"Plain" is `tesela.models.brits.reference`, one operation after the other as the equations stand; both have the same
weights, and the answers are compared. Loading compares one JSON file per pixel, as published, with one pixel table. The
whole map is `tesela unmix` from a cube on disk to shares on disk.

PyPOTS has no ancillary branch and no shares: its core (`pypots.nn.modules.brits`) takes turns with ours and the plain
one without ancillary layers, all three of the same weights. Each walks through the series in both directions and gives
the filled series, the error of the observed values and the disagreement of the directions; the training step goes down
the slope of that loss. Ours and the plain one besides find the months since the last observation, which PyPOTS is
given ready, and four shares; of the exported network only these are left.

PyPOTS is no dependency. Beside the pinned packages it moves none of them (13 to 14 more come, with transformers):

    .venv/bin/uv pip install --python .venv/bin/python --constraint constraints.txt "pypots>=1.3" "transformers>=5"

Prints JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from affine import Affine
from odc.geo.geobox import GeoBox

from tesela.core.legend import Legend
from tesela.core.machine import steady_memory
from tesela.io.cube import open_cube
from tesela.io.cube_writer import CubeWriter
from tesela.mapping.abundance.engines import OpenVinoRunner
from tesela.mapping.abundance.unmix import unmix_cube
from tesela.models.brits.network import Brits, Rits, months_since
from tesela.models.brits.reference import brits_cost, reference_answer
from tesela.models.expert import Expert, ExpertHeader
from tesela.models.output import NetworkOutput
from tesela.models.unmixers import BritsArchitecture
from tesela.models.unmixing_header import SeriesScaling
from tesela.patches.pixels import NO_SPLIT, PixelTable, read_pixel_table

STEPS, BANDS, CLASSES, LAYERS = 12, 7, 4, 9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pixels", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--map", type=int, default=512, help="side of the cube that is mapped")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = Brits(BANDS, CLASSES, layers=LAYERS)
    values, mask, static = draw(options.pixels)
    found = {
        "cost": vars(brits_cost(BritsArchitecture(BANDS, CLASSES, LAYERS))),
        "forward": forward(network, values, mask, static, rounds=options.rounds),
        "training_step": training(network, values, mask, static, rounds=options.rounds),
        "beside_pypots": beside_pypots(values, mask, rounds=options.rounds),
        "loading": loading(options.pixels),
        "map": mapping(network, side=options.map),
    }
    print(json.dumps(found, indent=2))


def draw(pixels: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    values = torch.randn(pixels, STEPS, BANDS)
    mask = (torch.rand_like(values) > 0.2).float()
    return values * mask, mask, torch.randn(pixels, LAYERS)


def forward(
    network: Brits, values: torch.Tensor, mask: torch.Tensor, static: torch.Tensor, *, rounds: int
) -> dict[str, object]:
    network.eval()
    exported = OpenVinoRunner(network, batch=len(values))
    arrays = (values.numpy(), mask.numpy(), static.numpy())
    with torch.no_grad():
        expected = reference_answer(network, values, mask, static).shares
        calls: dict[str, Callable[[], object]] = {
            "plain": lambda: reference_answer(network, values, mask, static),
            "fast": lambda: network(values, mask, static),
            "openvino": lambda: exported(*arrays),
        }
        times = interleaved(calls, rounds=rounds)
        off = float((exported(*arrays).shares - expected).abs().max())
    return table_of(times, len(values)) | {"largest_difference": off}


def training(
    network: Brits, values: torch.Tensor, mask: torch.Tensor, static: torch.Tensor, *, rounds: int
) -> dict[str, object]:
    targets = torch.softmax(torch.randn(len(values), CLASSES), -1)

    def loss_of(answer: NetworkOutput) -> torch.Tensor:
        off = ((answer.heads - targets) ** 2).sum() / (len(values) + 1e-5)
        return 0.25 * answer.imputation_error + 0.75 * off + 0.1 * answer.disagreement

    def step(answer_of: Callable[..., NetworkOutput]) -> torch.Tensor:
        network.zero_grad()
        loss = loss_of(answer_of(values, mask, static))
        loss.backward()
        return loss

    def fast() -> torch.Tensor:
        return step(network.answer)

    def plain() -> torch.Tensor:
        return step(lambda *given: reference_answer(network, *given))

    def slopes(one: Callable[[], torch.Tensor]) -> list[torch.Tensor]:
        one()
        return [item.grad.clone() for item in network.parameters()]

    off = max(float((a - b).abs().max()) for a, b in zip(slopes(fast), slopes(plain), strict=True))
    # our training keeps freed memory in the process; the plain one is timed as it comes
    times: dict[str, list[float]] = {"plain": [], "fast": []}
    for _ in range(rounds):
        times["plain"].append(timed(plain))
        with steady_memory():
            fast()
            times["fast"].append(timed(fast))
    return table_of(times, len(values)) | {"largest_gradient_difference": off}


def loading(pixels: int) -> dict[str, float]:
    """A JSON file per pixel with series, masks and deltas in both directions, against one pixel table."""
    generator = np.random.default_rng(0)
    series = generator.integers(0, 10_000, (pixels, STEPS, BANDS)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for number, one in enumerate(series):
            part = {
                "values": one.tolist(),
                "masks": np.ones_like(one).tolist(),
                "deltas": np.ones_like(one).tolist(),
            }
            text = json.dumps({"ts_data": {"forward": part, "backward": part}})
            (place / f"{number:07d}.json").write_text(text, encoding="utf-8")
        table = PixelTable(
            values=series,
            static=np.zeros((pixels, 0), np.float32),
            targets=np.zeros((pixels, 0), np.float32),
            rows=np.arange(pixels, dtype=np.int32),
            cols=np.zeros(pixels, np.int32),
            splits=np.full(pixels, NO_SPLIT, np.uint8),
            times=tuple(f"2013-{month:02d}" for month in range(1, 13)),
            bands=tuple(f"b{number}" for number in range(1, 8)),
            layers=(),
        )
        table.write(place / "pixels.safetensors")
        read_pixel_table(place / "pixels.safetensors")

        def by_files() -> None:
            for number in range(pixels):
                document = json.loads((place / f"{number:07d}.json").read_text(encoding="utf-8"))
                for part in document["ts_data"].values():
                    for name in ("values", "masks", "deltas"):
                        torch.tensor(part[name])

        def by_table() -> None:
            torch.from_numpy(read_pixel_table(place / "pixels.safetensors").values)

        files, whole = timed(by_files), statistics.median(timed(by_table) for _ in range(9))
    return {
        "files_per_s": round(pixels / files),
        "table_pixels_per_s": round(pixels / whole),
        "ratio": round(files / whole, 1),
    }


def mapping(network: Brits, *, side: int) -> dict[str, object]:
    legend = Legend.from_rows(
        "bench",
        [
            {"value": str(n), "code": str(n), "name": f"class {n}", "color": "#808080"}
            for n in range(1, CLASSES + 1)
        ],
    )
    layers = tuple(f"layer{number}" for number in range(LAYERS))
    bands = tuple(f"b{number}" for number in range(1, BANDS + 1))
    header = ExpertHeader(
        BritsArchitecture(BANDS, CLASSES, LAYERS),
        legend,
        bands,
        (0.0,) * BANDS,
        (1.0,) * BANDS,
        1,
        463.0,
        task="unmixing",
        series=SeriesScaling(
            tuple(range(1, 13)), layers, (0.0,) * LAYERS, (1.0,) * LAYERS, (1 / CLASSES,) * CLASSES
        ),
    )
    grid = GeoBox((side, side), Affine(463, 0, 0, 0, -463, 0), "EPSG:3035")
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        times = [f"2013-{month:02d}" for month in range(1, 13)]
        with CubeWriter(Path(folder) / "cube.zarr", grid, times=times, bands=bands, layers=layers) as writer:
            values = generator.standard_normal((STEPS, BANDS, side, side), np.float32)
            values[generator.random(values.shape) < 0.2] = np.nan
            writer.write(0, 0, values)
            writer.write_layers(0, 0, generator.standard_normal((LAYERS, side, side), np.float32))
        cube = open_cube(Path(folder) / "cube.zarr")
        found = {}
        for engine in ("torch", "openvino"):
            begun, wall = time.process_time(), time.perf_counter()
            unmix_cube(Expert(header, network), cube, Path(folder) / f"{engine}.tif", engine=engine)
            cpu, wall = time.process_time() - begun, time.perf_counter() - wall
            found[engine] = {
                "pixels_per_cpu_s": round(side * side / cpu),
                "pixels_per_s": round(side * side / wall),
            }
    return {"pixels": side * side, **found}


def beside_pypots(values: torch.Tensor, mask: torch.Tensor, *, rounds: int) -> dict[str, object] | str:
    """Forward and training step of PyPOTS' core, the plain network and the fast one, of equal weights."""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # it prints a banner
            from pypots.nn.modules.brits import BackboneBRITS
    except ImportError as error:
        return f"not installed ({error})"
    network = Brits(BANDS, CLASSES, sigmoid=True)
    core = BackboneBRITS(STEPS, BANDS, network.ahead.hidden)
    core.rits_f.load_state_dict(pypots_weights(network.ahead))
    core.rits_b.load_state_dict(pypots_weights(network.back))
    given = {"forward": directed(values, mask), "backward": directed(values.flip(1), mask.flip(1))}
    nothing = values.new_zeros(len(values), 0)

    def loss_of(answer: NetworkOutput) -> torch.Tensor:
        return answer.imputation_error / (3 * STEPS) + 0.1 * answer.disagreement

    def theirs() -> torch.Tensor:
        *_, consistency, reconstruction = core(given)
        return reconstruction + consistency

    losses: dict[str, Callable[[], torch.Tensor]] = {
        "pypots": theirs,
        "plain": lambda: loss_of(reference_answer(network, values, mask, nothing)),
        "fast": lambda: loss_of(network.answer(values, mask, nothing)),
    }
    with torch.no_grad():
        filled = core(given)[0]
        answers = [reference_answer(network, values, mask, nothing), network.answer(values, mask, nothing)]
        off = max(float((answer.imputed - filled).abs().max()) for answer in answers)
        off_loss = max(abs(float(losses[name]() - theirs())) for name in ("plain", "fast"))
        exported, arrays = (
            OpenVinoRunner(network, batch=len(values)),
            (values.numpy(), mask.numpy(), nothing.numpy()),
        )
        seen = interleaved(
            {**losses, "openvino, shares only": lambda: exported(*arrays)},
            rounds=rounds,
        )

    def step(name: str) -> None:
        (core if name == "pypots" else network).zero_grad()
        losses[name]().backward()

    def timed_step(name: str) -> float:
        step(name)
        return timed(lambda: step(name))

    steps: dict[str, list[float]] = {name: [] for name in losses}
    for _ in range(rounds):
        for name in ("pypots", "plain"):
            steps[name].append(timed_step(name))
        with steady_memory():
            steps["fast"].append(timed_step("fast"))
    return {
        "largest_difference_of_filled_series": off,
        "difference_of_loss": off_loss,
        "forward": table_of(seen, len(values), base="pypots"),
        "training_step": table_of(steps, len(values), base="pypots"),
    }


def directed(values: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """What PyPOTS' loader hands over for one direction."""
    return {"X": values, "missing_mask": mask, "deltas": months_since(mask.transpose(0, 1)).transpose(0, 1)}


def pypots_weights(one: Rits) -> dict[str, torch.Tensor]:
    """Our weights of one direction under the names of PyPOTS' RITS."""
    bands = one.bands
    return {
        "rnn_cell.weight_ih": one.gates.weight[:, : 2 * bands],
        "rnn_cell.weight_hh": one.gates.weight[:, 2 * bands :],
        "rnn_cell.bias_ih": one.gates.bias,
        "rnn_cell.bias_hh": torch.zeros_like(one.gates.bias),
        "temp_decay_h.W": one.hidden_decay.weight,
        "temp_decay_h.b": one.hidden_decay.bias,
        "temp_decay_x.W": torch.diag(one.value_decay_weight),
        "temp_decay_x.b": one.value_decay_bias,
        "temp_decay_x.m": torch.eye(bands),
        "hist_reg.weight": one.history.weight,
        "hist_reg.bias": one.history.bias,
        "feat_reg.W": one.features.weight,
        "feat_reg.b": one.features.bias,
        "feat_reg.m": one.off_diagonal,
        "combining_weight.weight": one.combine.weight,
        "combining_weight.bias": one.combine.bias,
    }


def timed(call: Callable[[], object]) -> float:
    begun = time.process_time()
    call()
    return time.process_time() - begun


def interleaved(calls: dict[str, Callable[[], object]], *, rounds: int) -> dict[str, list[float]]:
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(timed(call))
    return times


def table_of(times: dict[str, list[float]], pixels: int, *, base: str = "plain") -> dict[str, object]:
    """Medians of CPU time, and how many times faster than `base` each is."""
    plain = statistics.median(times[base])
    return {
        name: {
            "cpu_ms": round(1000 * statistics.median(found), 1),
            "pixels_per_cpu_s": round(pixels / statistics.median(found)),
            f"times_{base}": round(plain / statistics.median(found), 2),
            f"times_{base}_at_best": round(min(times[base]) / min(found), 2),
        }
        for name, found in times.items()
    }


if __name__ == "__main__":
    main()
