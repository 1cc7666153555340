"""Pictures of many seeds, composed in chunks by several processes."""

from collections.abc import Callable, Iterable
from multiprocessing import get_context
from typing import TypeVar

from models.emoji.train.loop import log

CHUNK = 1000
LOG_EVERY = 10  # chunks: a line every ten thousand pictures, and none for a small set
Composed = TypeVar("Composed")


def by_chunks(
    part: str, compose: Callable[[range], Composed], seeds: range, processes: int
) -> list[Composed]:
    """What `compose` makes of each chunk of the seeds, in their order; the log of `part` says how far it is."""
    chunks = [seeds[first : first + CHUNK] for first in range(0, len(seeds), CHUNK)]
    if processes > 1:
        with get_context("fork").Pool(processes) as pool:
            return _counted(part, pool.imap(compose, chunks), len(seeds))
    return _counted(part, map(compose, chunks), len(seeds))


def _counted(part: str, made: Iterable[Composed], total: int) -> list[Composed]:
    """All that is made, with a line in the log at times."""
    kept: list[Composed] = []
    for one in made:
        kept.append(one)
        if len(kept) % LOG_EVERY == 0:
            log(part, f"composed {min(len(kept) * CHUNK, total)} of {total} pictures")
    return kept
