"""The strip: a band of whole rows, the piece in which large maps are processed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from tesela.core.machine import usable_cores

STRIP_PX = 1 << 23
"""Pixels of a strip: small enough for the processor's cache, large enough for few seams."""

T = TypeVar("T")


@dataclass(frozen=True)
class Strip:
    """Rows `first` to `stop` of a map; the strips of a map hold every row once."""

    number: int
    first: int
    stop: int


@dataclass(frozen=True)
class Plan:
    """Size of the strips and number of threads; the result does not depend on them."""

    strip_px: int = STRIP_PX
    """Pixels of a strip, rounded up to whole rows."""
    threads: int = 0
    """Threads; 0 takes one for each core."""

    def strips(self, shape: tuple[int, int]) -> list[Strip]:
        """Strips that cover `shape` (rows, cols)."""
        rows, cols = shape
        height = max(1, -(-self.strip_px // max(cols, 1)))
        return [
            Strip(number, first, min(first + height, rows))
            for number, first in enumerate(range(0, rows, height))
        ]

    def each(self, work: Callable[[Strip], T], strips: list[Strip]) -> Iterator[T]:
        """Run `work` on the strips in threads and yield the results in order; only a few wait in memory."""
        threads = self.threads or usable_cores()
        if threads == 1 or len(strips) < 2:
            yield from map(work, strips)
            return
        with ThreadPoolExecutor(threads) as pool:
            waiting: deque[Future[T]] = deque()
            try:
                for strip in strips:
                    waiting.append(pool.submit(work, strip))
                    if len(waiting) > threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()
