"""Every errno that a call of the model says it raises is met, and no other."""

import errno
import random
from collections import Counter

import pytest

from tests.model.declared import declared, faults
from tests.model.differential import Comparison, DifferenceError, minimal, random_program
from tests.model.errno_scenes import MODEL_ALONE, SCENES, Scene
from tests.model.linux.agents import Agents
from tests.model.linux.kernel import NEEDS_ROOT
from tests.model.program import Failed
from tests.model.vocabulary import CALLS

pytestmark = [*NEEDS_ROOT, pytest.mark.timeout(300)]


PROGRAMS = 250


@pytest.fixture(scope="module")
def outcomes(agents: Agents | None) -> Counter[tuple[str, str]]:
    """How the calls of some random programs ended; model and Linux agreed on all of them."""
    if agents is None:
        pytest.skip("needs root")
    found: Counter[tuple[str, str]] = Counter()
    with agents.pinned():
        for seed in range(PROGRAMS):
            try:
                found += random_program(agents, random.Random(seed), tuple(CALLS), 60)
            except DifferenceError as difference:
                raise minimal(agents, difference) from None
    return found


@pytest.mark.parametrize(
    "scene", SCENES, ids=lambda one: f"{one.call} {errno.errorcode[one.number]}"
)
def test_a_scene_fails_as_it_says_on_both(agents: Agents, scene: Scene) -> None:
    comparison = Comparison(agents, scene.program.spawns)
    try:
        for step in scene.program.steps:
            before = comparison.outcomes.copy()
            comparison.step(step)
        last = comparison.outcomes - before
    finally:
        comparison.close()
    assert last == Counter({(scene.call, Failed(errno.errorcode[scene.number]).error): 1})


def met(outcomes: Counter[tuple[str, str]]) -> dict[str, set[int]]:
    """The errnos that were met, call by call, in programs and scenes."""
    found: dict[str, set[int]] = {call: set() for call in CALLS}
    for call, how in outcomes:
        if how != "ok" and call in found:
            found[call].add(getattr(errno, how))
    for scene in SCENES:
        found[scene.call].add(scene.number)
    return found


@pytest.mark.parametrize("call", CALLS)
def test_every_errno_that_a_call_declares_is_met_and_no_other(
    outcomes: Counter[tuple[str, str]], call: str
) -> None:
    seen = met(outcomes)[call]
    within = {number for name, number in MODEL_ALONE if name == call}
    within |= faults(call)

    assert names(declared(call) - seen - within) == [], "declared, and never met"
    assert names(seen - declared(call)) == [], "met, and not declared"


def names(numbers: set[int]) -> list[str]:
    return sorted(errno.errorcode[number] for number in numbers)
