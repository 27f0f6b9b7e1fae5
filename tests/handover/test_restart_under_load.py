"""A server is replaced again and again while wrk asks it, and nobody notices.

FDPROOF_HANDOVERS=40,10 runs the numbers that the documentation quotes.
"""

import os
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.handover import restart_under_load

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.requires_kernel("SO_PASSPIDFD", "SO_PEERPIDFD", "close_range")
@pytest.mark.requires_program("wrk")
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("server", "default"), [("handover_asyncio.py", "6,2"), ("handover_uvicorn.py", "2,1")]
)
def test_no_request_fails_and_no_descriptor_is_gained(server: str, default: str) -> None:
    handovers, crashes = map(int, os.environ.get("FDPROOF_HANDOVERS", default).split(","))

    outcome = restart_under_load(handovers, crashes, server=EXAMPLES / server)

    assert outcome.failed == 0, outcome
    assert outcome.requests > 100
    assert (outcome.gained, outcome.lost) == (Counter(), Counter())
