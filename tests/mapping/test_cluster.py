"""Maps and mosaics made by Dask workers: the same bytes, whatever happens to the workers."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from odc.geo.geobox import GeoBox

from modis_composites import bytes_of, write_varied
from mosaic_scenes import GRID, catalogue_of, mosaic, seen
from pointwise import LEGEND, make_expert, write_scene
from tesela.core.errors import InputError, RecipeError
from tesela.io.parts import FREE_PORT
from tesela.io.scenes import open_scene
from tesela.mapping.cascade import Cascade, Gate, Member
from tesela.mapping.cascade_map import predict_cascade
from tesela.mapping.predict import predict_map
from tesela.models.expert import Expert
from tesela.models.segmentation.unet import UnetArchitecture, make_unet
from tesela.simulate.server.server import Fault, ProviderServer
from tesela.sources.areas import Area
from tesela.sources.modis.cube import write_modis_cube

distributed = pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # sockets of workers that are killed on purpose
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


METHOD = "distributed.worker.multiprocessing-method"
LIBRARIES = (
    "distributed",
    "segmentation_models_pytorch",
    "tesela.mapping.cascade_map",
    "tesela.models.segmentation.unet",
    "tesela.sources.modis.cube",
    "tesela.sources.mosaic.job",
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two workers, and those that follow a killed one: forks of a process that has loaded the libraries once."""
    import dask

    with pytest.MonkeyPatch.context() as here, dask.config.set({METHOD: "forkserver"}):
        for library in (
            "OMP",
            "OPENBLAS",
            "MKL",
        ):  # Dask sets them in a worker, after its libraries are loaded
            here.setenv(f"{library}_NUM_THREADS", "1")
        distributed.utils.get_mp_context().set_forkserver_preload(list(LIBRARIES))
        with distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=None,
            scheduler_kwargs=FREE_PORT,
            memory_limit=0,
            protocol="tcp://",
        ) as started:
            yield started


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As on the workers; sums in another order may change the class of a tie."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def unet_expert(seed: int = 3) -> Expert:
    channels = (16, 16, 8, 8, 8)
    torch.manual_seed(seed)
    network = (
        make_unet(encoder="resnet18", bands=2, classes=3, decoder_channels=channels)
        .eval()
        .requires_grad_(False)
    )
    return make_expert(
        network, architecture=UnetArchitecture(2, 3, encoder="resnet18", decoder_channels=channels)
    )


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


OPTIONS: dict[str, Any] = {"window_px": 96, "overlap_px": 16, "engine": "torch", "precision": "fp32"}


@pytest.mark.usefixtures("one_thread")
def test_a_cluster_makes_the_bytes_of_one_machine_even_when_a_worker_is_killed(
    tmp_path: Path, cluster: Any
) -> None:
    write_scene(tmp_path / "scene.tif", (1000, 160))
    scene, expert = open_scene(tmp_path / "scene.tif"), unet_expert()
    alone = predict_map(expert, scene, tmp_path / "alone.tif", **OPTIONS)
    with distributed.Client(cluster) as client:
        victim = min(client.run(os.getpid).values())
    parts = tmp_path / ".killed.tif.parts"

    def kill_after_two_parts() -> None:
        while len(list(parts.glob("*.part"))) < 2:
            time.sleep(0.01)
        os.kill(victim, signal.SIGKILL)

    killer = threading.Thread(target=kill_after_two_parts, daemon=True)
    killer.start()
    made = predict_map(expert, scene, tmp_path / "killed.tif", cluster=cluster.scheduler_address, **OPTIONS)
    killer.join()
    assert made.windows == alone.windows
    assert made.engine == "torch-fp32"
    with distributed.Client(cluster) as client:
        client.wait_for_workers(2, timeout=60)
        assert victim not in client.run(os.getpid).values()
    assert sha256(tmp_path / "killed.tif") == sha256(tmp_path / "alone.tif")
    assert not parts.exists()


@pytest.mark.usefixtures("one_thread")
def test_a_cascade_on_a_cluster_makes_the_bytes_of_one_machine(tmp_path: Path, cluster: Any) -> None:
    write_scene(tmp_path / "scene.tif", (200, 150))
    members = (
        Member("context", unet_expert()),
        Member("below", unet_expert(seed=5), Gate("context", (LEGEND.codes[1],), 0.2)),
    )
    cascade = Cascade("two", members)
    files = {}
    for name, address in (("here", None), ("there", cluster.scheduler_address)):
        files[name] = [tmp_path / f"{name}_{kind}.tif" for kind in ("map", "entropy", "probabilities")]
        out, entropy, probabilities = files[name]
        made = predict_cascade(
            cascade,
            open_scene(tmp_path / "scene.tif"),
            out,
            entropy=entropy,
            probabilities=probabilities,
            cluster=address,
            memory=1 << 20,
            **OPTIONS,
        )
        assert made.tally.windows["context 96x96"] > 4
    assert list(map(sha256, files["here"])) == list(map(sha256, files["there"]))


def test_an_error_on_a_worker_is_raised_unchanged(tmp_path: Path, cluster: Any) -> None:
    write_scene(tmp_path / "whole.tif", (600, 600), compress="deflate")
    content = bytearray((tmp_path / "whole.tif").read_bytes())
    content[len(content) // 2 : len(content) // 2 + 4000] = bytes(4000)
    (tmp_path / "cut.tif").write_bytes(content)
    with pytest.raises(InputError, match=r"cut\.tif: a window cannot be read"):
        predict_map(
            unet_expert(),
            open_scene(tmp_path / "cut.tif"),
            tmp_path / "map.tif",
            cluster=cluster.scheduler_address,
            **OPTIONS,
        )
    assert not (tmp_path / "map.tif").exists()


def test_a_scheduler_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scene(tmp_path / "scene.tif", (64, 64))
    monkeypatch.setattr("tesela.io.parts.REPLY_S", 1.0)
    with pytest.raises(RecipeError, match="No Dask scheduler answers"):
        predict_map(
            make_expert(),
            open_scene(tmp_path / "scene.tif"),
            tmp_path / "map.tif",
            cluster="tcp://127.0.0.1:9",
        )


def test_a_mosaic_made_by_a_cluster_has_the_bytes_of_one_machine(
    tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = GeoBox((300, 300), GRID.affine, GRID.crs)
    passes = [seen(day, 100 * day, clouds={(day % 3, 1): 9}, grid=grid) for day in (3, 8, 13)]
    catalogue_of(tmp_path / "provider", passes)
    options: dict[str, Any] = {"area": Area(grid), "memory": 1 << 20, "buffer": "60 m"}
    alone = mosaic(str(tmp_path / "provider"), tmp_path / "alone", **options)
    fault = Fault(r"_20180408_.*blue\.tif", status=503, times=3)
    with ProviderServer(tmp_path / "provider", faults=[fault]) as server:
        where = f"earth-search={server.address}"
        made = mosaic(where, tmp_path / "served", cluster=cluster.scheduler_address, **options)
    assert made.tiles == 9
    assert fault.met >= 1
    monkeypatch.chdir(tmp_path)  # the workers are elsewhere
    local = mosaic("provider/catalog.json", Path("local"), cluster=cluster.scheduler_address, **options)
    for one in (made, local):
        assert sha256(one.image) == sha256(alone.image)
        assert sha256(one.count) == sha256(alone.count)
    assert not list(tmp_path.glob("*/.*.parts"))


def test_a_scene_that_workers_cannot_read_is_named_and_leaves_no_mosaic(tmp_path: Path, cluster: Any) -> None:
    catalogue_of(tmp_path / "provider", [seen(3, 400), seen(8, 500)])
    fault = Fault(r"_20180408_.*green\.tif", status=404)
    with ProviderServer(tmp_path / "provider", faults=[fault]) as server:
        where = f"earth-search={server.address}"
        with pytest.raises(InputError, match=r"20180408_0_L2A/green\.tif: the server has no such file"):
            mosaic(where, tmp_path / "out", cluster=cluster.scheduler_address)
    assert not list((tmp_path / "out").glob("*.tif"))


@pytest.mark.slow
def test_a_cube_made_by_a_cluster_has_the_bytes_of_one_machine_even_when_a_worker_is_killed(
    tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_varied(tmp_path / "modis")
    options: dict[str, Any] = {"memory_bytes": 1, "months": ("2013-01", "2013-02")}
    write_modis_cube([tmp_path / "modis"], tmp_path / "alone.zarr", **options)
    with distributed.Client(cluster) as client:
        client.wait_for_workers(2, timeout=60)
        victim = min(client.run(os.getpid).values())
    monkeypatch.chdir(tmp_path)  # the workers are elsewhere

    def kill(done: int, of: int) -> None:
        assert of == 12
        if done == 2:
            os.kill(victim, signal.SIGKILL)

    address = cluster.scheduler_address
    write_modis_cube(["modis"], "many.zarr", cluster=address, progress=kill, **options)
    assert bytes_of(tmp_path / "many.zarr") == bytes_of(tmp_path / "alone.zarr")
    assert not list(tmp_path.glob(".*.parts"))


def test_a_composite_that_workers_cannot_read_is_named(tmp_path: Path, cluster: Any) -> None:
    write_varied(tmp_path)
    broken = next(tmp_path.glob("*2013033*b04.tif"))
    broken.write_bytes(broken.read_bytes()[:300])
    with pytest.raises(InputError, match=r"2013033.*b04\.tif"):
        write_modis_cube(
            [tmp_path], tmp_path / "cube.zarr", cluster=cluster.scheduler_address, memory_bytes=1
        )
    assert not (tmp_path / "cube.zarr").exists()
