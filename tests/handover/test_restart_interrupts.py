"""Ctrl-C at bytecode boundaries of a restart: on both sides nothing is left.

There are thousands: FDPROOF_EVERY_BOUNDARY=1 takes all of them, which takes minutes.
"""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fdproof
from fdproof import handover
from tests.core.boundaries import sweep
from tests.handover.turns import being_replaced, both, taking_over

pytestmark = [
    pytest.mark.requires_kernel("SO_PASSPIDFD", "SO_PEERPIDFD"),
    # An owner that an interrupt drops warns, and closes: here that is the right end.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.timeout(300),
]


@pytest.fixture
def place(tmp_path: Path) -> Callable[[], Path]:
    """A path of its own for each run: what an interrupt leaves of a socket is no descriptor."""
    numbers = itertools.count()
    return lambda: tmp_path / f"{next(numbers):06}"


@contextlib.contextmanager
def live() -> Iterator[list[tuple[fdproof.Descriptor, bytes]]]:
    # The standard library's own pair does not survive an interrupt.
    with fdproof.socketpair() as (near, _):
        yield [(near, b"state")]


def test_an_interrupt_anywhere_leaves_no_descriptor(place: Callable[[], Path]) -> None:
    def restart() -> None:
        path = place()
        with (
            fdproof.eventfd() as event,
            handover.offer(path, {"event": event}, connections=live) as offer,
        ):
            taken, connections = both(being_replaced(offer), taking_over(path))[1]
            with taken:
                for connection in connections:
                    connection.socket.close()
                taken.sockets.take("event").close()
                with handover.offer(taken, {"event": event}):
                    pass

    found = sweep(restart, every=int(os.environ.get("FDPROOF_EVERY_BOUNDARY", "37")))

    assert found.boundaries > 10_000
    assert found.damage == [], str(found)
