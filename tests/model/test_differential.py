"""The same random programs on the model and on the running kernel: nothing tells the two apart."""

import os
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.model.differential import DifferenceError, minimal, random_program, replay
from tests.model.linux.agents import Agents
from tests.model.linux.kernel import NEEDS_ROOT
from tests.model.mutations import Mutation, mutated
from tests.model.program import Program, Spawn, Step
from tests.model.vocabulary import CALLS, TABLE_CALLS

pytestmark = [*NEEDS_ROOT, pytest.mark.timeout(300)]

SECOND_LOWEST = Mutation(
    "_calls_descriptors.py", "self._duplicate(fd, 0, False)", "self._duplicate(fd, 3, False)", ""
)
PROGRAMS = int(os.environ.get("FDPROOF_MODEL_PROGRAMS", "60"))


def test_a_random_program_of_table_calls_does_the_same_on_both(agents: Agents) -> None:
    """All calls together are run by test_errnos.py, which looks at what was met besides."""
    with agents.pinned():
        for seed in range(PROGRAMS):
            try:
                random_program(agents, random.Random(seed), TABLE_CALLS, 60)
            except DifferenceError as difference:
                raise minimal(agents, difference) from None


@settings(max_examples=PROGRAMS, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chooser=st.randoms(use_true_random=False))
def test_a_program_that_hypothesis_makes_up_does_the_same_on_both(
    agents: Agents, chooser: random.Random
) -> None:
    random_program(agents, chooser, tuple(CALLS), 30)


def test_a_difference_is_shown_as_the_shortest_program(agents: Agents) -> None:
    """The experiment can fail: a model whose dup takes the second lowest number is told at once."""
    noise = [Step(0, "open", ("/a", os.O_CREAT))] * 2 + [Step(0, "lseek", (0, 0))] * 9
    program = Program((Spawn(16),), (*noise, Step(0, "dup", (0,)), *noise))

    with mutated(SECOND_LOWEST):
        found = replay(agents, program)
        assert found is not None
        shortest = minimal(agents, found)

    assert [step.call for step in shortest.program.steps] == ["open", "dup"]
    assert "task 0: dup(0)" in str(shortest)
