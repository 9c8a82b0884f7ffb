"""The cluster: Dask workers that make parts of an output on a shared file system."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, TypeVar

from tesela.core.errors import InputError, RecipeError, TeselaError
from tesela.io.parts import PartStore

Task = TypeVar("Task")

REPLY_S = 30.0
"""A scheduler must reply within so many seconds."""

FREE_PORT = {"dashboard_address": "localhost:0"}
"""For a scheduler, which otherwise takes port 8787 even without a dashboard, so that two runs at once would collide."""


def run_tasks(
    address: str,
    tasks: Sequence[Task],
    work: Callable[[Task], int | TeselaError],
    *,
    store: PartStore,
    advance: Callable[[int], None],
) -> None:
    """
    Make parts on the workers of a Dask scheduler.

    Other workers repeat the tasks of a lost worker, except for the parts that it has stored.

    Parameters
    ----------
    address : str
        "local" for worker processes on this machine (as many as it has cores, one thread each), else the
        address of a scheduler, such as "tcp://host:8786". All workers must see inputs and output under the same
        paths.
    work : callable
        Makes the part of a task and returns its number, or the error: a raised error may lose its cause on the way.
    advance : callable of int
        Called with the number of each part that is done.

    Raises
    ------
    RecipeError
        If there is no scheduler at the address, or dask is not installed.
    InputError
        If a task failed, or its part did not arrive in this machine's view of the file system.
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
                        f"{store.output}: a worker stored a part that this machine cannot see. Write the output to a "
                        f"file system that all workers and this machine share under the same path."
                    )
                advance(number)
                future.release()
        finally:
            client.cancel(futures)


def worker_threads() -> int:
    """Threads of the Dask worker that runs this code."""
    return int(_dask().get_worker().state.nthreads)


@contextmanager
def _connect(address: str) -> Iterator[Any]:
    """Client of a scheduler; closed, with the local cluster, when the block ends."""
    dask = _dask()
    if address == "local":
        cluster = dask.LocalCluster(
            threads_per_worker=1, dashboard_address=None, scheduler_kwargs=FREE_PORT, memory_limit=0
        )
        with cluster, dask.Client(cluster) as client:
            yield client
        return
    try:
        client = dask.Client(address, timeout=REPLY_S)
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


def _reason(error: BaseException | None) -> BaseException:
    if isinstance(error, _dask().KilledWorker):
        return InputError(
            "A part was given up after several workers were lost. Give them less to do at a time (lower --memory or "
            "--window) and check that they keep running. Run the same command again to continue."
        )
    return error or InputError("A part was cancelled; run the same command again to continue.")
