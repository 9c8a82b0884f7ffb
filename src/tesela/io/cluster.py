"""The cluster: parts of an output as tasks of Dask workers that share a file system."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, TypeVar

from tesela.core.errors import InputError, RecipeError, TeselaError
from tesela.io.parts import PartStore

Task = TypeVar("Task")

ANSWER_S = 30.0
"""Seconds in which a scheduler must answer."""

FREE_PORT = {"dashboard_address": "localhost:0"}
"""For a scheduler, which takes 8787 also without its dashboard: two runs at once would get in each other's way."""


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

    The tasks of a lost worker are done again by others; parts that it had stored already need not be.

    Parameters
    ----------
    address : str
        "local" for worker processes on this machine (as many as it has cores, one thread each), else the
        address of a scheduler, such as "tcp://host:8786". All workers must see inputs and output under the same
        paths.
    work : callable
        Makes the part of a task and returns its number, or the error: raised, its cause might not travel.
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
                        f"{store.output}: a worker has stored a part that cannot be seen here. Write the output to a "
                        f"file system that all workers and this machine share under the same path."
                    )
                advance(number)
                future.release()
        finally:
            client.cancel(futures)


def worker_threads() -> int:
    """Threads of the Dask worker that this is."""
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


def _reason(error: BaseException | None) -> BaseException:
    if isinstance(error, _dask().KilledWorker):
        return InputError(
            "A part was given up after several lost workers. Do they have memory enough (lower --memory or "
            "--window), and do they stay up? Run the same command again to continue."
        )
    return error or InputError("A part was cancelled; run the same command again to continue.")
