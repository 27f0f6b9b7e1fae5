"""Both sides of a restart in one thread: each goes on while the other waits."""

import os
import types
from collections.abc import Coroutine, Generator, Sequence
from pathlib import Path
from typing import Any

from fdproof import Descriptor
from fdproof.handover import Connection, Offer, Taken
from fdproof.handover._succession import permitted
from fdproof.handover._take import _take
from fdproof.passing import Channel
from fdproof.passing._deadline import Deadline
from fdproof.process import Process

_FOR_EVER = Deadline(None, "")
# More than any conversation takes; one that goes nowhere ends with it.
_MOST_TURNS = 200


@types.coroutine
def _turn() -> Generator[None, None, None]:
    yield


class InTurns:
    """A way of waiting: by letting the other side go on."""

    async def send(
        self, channel: Channel, data: bytes, files: Sequence[Any], deadline: Deadline
    ) -> None:
        channel.send(data, files, timeout=0)

    async def readable(self, number: int, deadline: Deadline) -> None:
        await _turn()

    async def pause(self, seconds: float, deadline: Deadline) -> None:
        await _turn()


def both(one: Coroutine[Any, Any, Any], other: Coroutine[Any, Any, Any]) -> list[Any]:
    """Run two conversations until both have ended, or one has failed; return what they return."""
    sides = [one, other]
    results: list[Any] = [None, None]
    try:
        for _ in range(_MOST_TURNS):
            for index, side in enumerate(sides):
                if side.cr_frame is None:  # type: ignore[attr-defined]
                    continue
                try:
                    side.send(None)
                except StopIteration as end:
                    results[index] = end.value
            if all(side.cr_frame is None for side in sides):  # type: ignore[attr-defined]
                return results
        raise TimeoutError("both sides wait for each other")
    finally:
        one.close()
        other.close()


def being_replaced(offer: Offer) -> Coroutine[Any, Any, Process]:
    """``Offer.wait``, in turns."""
    return offer._wait(InTurns(), _FOR_EVER)


async def taking_over(place: Path | Descriptor) -> tuple[Taken, list[Connection]]:
    """``take`` and ``ready``, in turns."""
    taken = await _take(InTurns(), place, permitted([os.geteuid()]), _FOR_EVER)
    try:
        return taken, await taken._ready(InTurns(), _FOR_EVER)
    except BaseException:
        taken.close()
        raise
