"""The cluster: strips of a map as tasks of Dask workers that share a file system."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import torch

from tesela.core.errors import InputError, RecipeError, TeselaError
from tesela.io.parts import PartStore
from tesela.mapping.engines import Engine, make_engine
from tesela.mapping.pipeline import MapJob, run_strips
from tesela.mapping.strips import Strip
from tesela.mapping.views import Views
from tesela.models.expert import Expert, load_expert, save_expert

Task = TypeVar("Task")

ANSWER_S = 30.0
"""Seconds in which a scheduler must answer."""


@dataclass(frozen=True)
class ClusterJob:
    """What a worker is told once: little, for the model and the image lie in files."""

    job: MapJob
    output: str
    """The map; its parts are stored beside it."""
    expert: str
    """The expert's file, beside the parts."""
    engine: str
    views: Views


def run_on_cluster(
    address: str,
    job: MapJob,
    strips: Sequence[Strip],
    *,
    store: PartStore,
    expert: Expert,
    engine: str,
    views: Views,
    advance: Callable[[int], None],
) -> None:
    """
    Make the parts of these strips on the workers of a Dask scheduler.

    The expert is written once beside the parts; each worker process loads it when its first strip comes, and keeps
    it. A task is a strip: its worker reads the strip's windows with their margins, and stores the part whole. The
    strips of a lost worker are done again by others; a part that it had stored already is not.

    Parameters
    ----------
    address : str
        "local" for worker processes on this machine (as many as it has cores, one thread each), else the
        address of a scheduler, such as "tcp://host:8786". All workers must see scene and output under the same
        paths.

    Raises
    ------
    RecipeError
        If there is no scheduler at the address, or dask is not installed.
    InputError
        If a strip failed, or its part did not arrive in this machine's view of the file system.
    """
    if not strips:
        return
    model = save_expert(store.folder / "expert.safetensors", expert)
    told = ClusterJob(_absolute(job), str(store.output.resolve()), str(model.resolve()), engine, views)
    by_number = {strip.number: strip for strip in strips}
    # told with each task: some kilobytes, where scattered data would be lost with the workers that hold it
    work = partial(_map_strip, job=told)
    run_tasks(address, strips, work, store=store, advance=lambda number: advance(len(by_number[number].cols)))


def run_tasks(
    address: str,
    tasks: Sequence[Task],
    work: Callable[[Task], int | TeselaError],
    *,
    store: PartStore,
    advance: Callable[[int], None],
) -> None:
    """
    Make parts on the workers of a Dask scheduler; parameters and errors as `run_on_cluster`.

    Parameters
    ----------
    work : callable
        Makes the part of a task and returns its number, or the error: raised, its cause might not travel.
    advance : callable of int
        Called with the number of each part that is done.
    """
    dask = _dask()
    with _connect(address) as client:
        futures = client.map(work, list(tasks), pure=False)
        try:
            for future in dask.as_completed(futures):
                if future.status != "finished":
                    raise _reason(future.exception())
                number = future.result()
                if isinstance(number, TeselaError):
                    raise number
                if not store.has(number):
                    raise InputError(
                        f"{store.output}: a worker has stored a part that cannot be seen here. Write the output to a "
                        f"file system that all workers and this machine share under the same path."
                    )
                advance(number)
                future.release()
        finally:
            client.cancel(futures)


def _map_strip(strip: Strip, *, job: ClusterJob) -> int | TeselaError:
    """Make one part, on a worker; see `run_tasks`."""
    store = PartStore(job.output)  # not entered: the client holds its lock
    try:
        if not store.has(strip.number):
            engine = _engine(job)
            with _one_at_a_time:
                run_strips(job.job, [strip], store, engine=engine, advance=lambda _: None)
    except TeselaError as error:
        return type(error)(str(error))
    return strip.number


_engines: dict[tuple[str, str], Engine] = {}
_one_at_a_time = threading.Lock()
"""A network takes all threads of its worker: its strips wait for each other."""


def _engine(job: ClusterJob) -> Engine:
    """The engine of this process, made when it is first needed."""
    key = (job.expert, job.engine)
    with _one_at_a_time:
        if key not in _engines:
            torch.set_num_threads(_threads())
            _engines.clear()
            _engines[key] = make_engine(load_expert(job.expert).network, job.engine)
        engine = _engines[key]
    return job.views.of(engine)


def _threads() -> int:
    """Threads of this Dask worker."""
    return int(_dask().get_worker().state.nthreads)


@contextmanager
def _connect(address: str) -> Iterator[Any]:
    """Client of a scheduler; closed, with the local cluster, when the block ends."""
    dask = _dask()
    if address == "local":
        cluster = dask.LocalCluster(threads_per_worker=1, dashboard_address=None, memory_limit=0)
        with cluster, dask.Client(cluster) as client:
            yield client
        return
    try:
        client = dask.Client(address, timeout=ANSWER_S)
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"No Dask scheduler answers at '{address}' ({error}). Start one (dask scheduler), or use 'local'."
        ) from None
    with client:
        yield client


def _dask() -> Any:
    """The package distributed, which has no types and need not be installed."""
    try:
        return import_module("distributed")
    except ImportError:
        raise RecipeError("A cluster needs dask and distributed; install tesela's extra 'cluster'.") from None


def _absolute(job: MapJob) -> MapJob:
    """The job with absolute paths: workers run in other folders."""
    bands = tuple(
        band
        if "://" in band.path or band.path.startswith("/vsi")
        else replace(band, path=str(Path(band.path).resolve()))
        for band in job.scene.bands
    )
    return replace(job, scene=replace(job.scene, bands=bands))


def _reason(error: BaseException | None) -> BaseException:
    if isinstance(error, _dask().KilledWorker):
        return InputError(
            "A strip was given up after several lost workers. Do they have memory enough (lower --memory or "
            "--window), and do they stay up? Run the same command again to continue."
        )
    return error or InputError("A strip was cancelled; run the same command again to continue.")
