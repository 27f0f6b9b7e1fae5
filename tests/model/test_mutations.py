"""Thirty mistakes in the model, and the random programs find every one of them."""

import random

import pytest

from tests.model.differential import DifferenceError, random_program
from tests.model.linux.agents import Agents
from tests.model.linux.kernel import NEEDS_ROOT
from tests.model.mutations import MUTATIONS, Mutation, mutated

pytestmark = [*NEEDS_ROOT, pytest.mark.timeout(300)]

PROGRAMS = 200


def test_there_are_at_least_thirty_and_no_two_are_the_same() -> None:
    assert len({(one.file, one.right, one.wrong) for one in MUTATIONS}) >= 30


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_a_mistake_in_the_model_is_found(agents: Agents, mutation: Mutation) -> None:
    with agents.pinned():
        with mutated(mutation):
            found = next(
                (seed for seed in range(PROGRAMS) if differs(agents, seed, mutation.calls)), None
            )
        assert found is not None
        assert not differs(agents, found, mutation.calls), "the model itself is not right"


def differs(agents: Agents, seed: int, calls: tuple[str, ...]) -> bool:
    """Whether the model goes another way than Linux; a model that breaks down does so, too."""
    try:
        random_program(agents, random.Random(seed), calls, 60)
    except (DifferenceError, AssertionError, AttributeError, LookupError):
        return True
    return False
