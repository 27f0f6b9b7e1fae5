"""Many threads spawn while others open and close: nothing crosses over, nothing stays."""

import os
import threading

import pytest

import fdproof
from fdproof import process
from fdproof.process import DEVNULL
from tests.process.children import children

pytestmark = pytest.mark.requires_kernel("pidfd_open", "close_range")

# CI runs 10,000.
SPAWNS = int(os.environ.get("FDPROOF_SPAWNS", "2000"))
SPAWNERS = 8


@pytest.mark.timeout(600)
def test_no_descriptor_that_was_not_given_and_none_left() -> None:
    before = set(os.listdir("/proc/self/fd"))
    stop = threading.Event()
    wrong: list[object] = []

    def open_and_close(inheritable: bool) -> None:
        while not stop.is_set():
            with (
                fdproof.open("/dev/null", inheritable=inheritable),
                fdproof.pipe(inheritable=inheritable),
                fdproof.eventfd(inheritable=inheritable) as one,
                one.duplicate(at_least=40),
            ):
                pass

    def spawn_many(number: int) -> None:
        place = 10 + number
        expected = "".join(f"{name}\n" for name in sorted(["0", "1", "2", "3", str(place)]))
        try:
            with fdproof.memfd(f"given-{number}") as given:
                for _ in range(SPAWNS // SPAWNERS):
                    # The fourth is the listing's own.
                    listing = process.run(
                        ["/bin/ls", "/proc/self/fd"],
                        stdin=DEVNULL,
                        capture=True,
                        files={place: given},
                        encoding="ascii",
                        env={"LC_ALL": "C"},
                    )
                    if (listing.returncode, listing.stdout) != (0, expected):
                        wrong.append(listing)
        except BaseException as error:
            wrong.append(error)

    others = [threading.Thread(target=open_and_close, args=(bool(one),)) for one in range(2)]
    spawners = [threading.Thread(target=spawn_many, args=(number,)) for number in range(SPAWNERS)]
    for thread in (*others, *spawners):
        thread.start()
    for thread in spawners:
        thread.join()
    stop.set()
    for thread in others:
        thread.join()

    assert wrong == []
    assert set(os.listdir("/proc/self/fd")) == before
    assert children() == set()
