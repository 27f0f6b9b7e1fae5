"""Every errno that a call of the model says it raises is met, and no other."""

import errno
import random
import re
from collections import Counter

import pytest

from fdproof.model import Kernel, Task
from tests.model.differential import Comparison, DifferenceError, minimal, random_program
from tests.model.errno_scenes import FAULTED, FAULTS, MODEL_ALONE, OPTIONS, SCENES, Scene
from tests.model.failing import failing
from tests.model.linux.agents import Agents
from tests.model.program import Failed
from tests.model.vocabulary import CALLS

needs_linux = pytest.mark.requires_kernel("seccomp notifier", "pidfs", "kcmp", "F_DUPFD_QUERY")
pytestmark = pytest.mark.timeout(300)

PROGRAMS = 250
SAME_AS = {"open": ("openat",), "dup3": ("dup2",)}
"""Docstrings that refer to another one; open has no directory's descriptor that could be bad."""


def declared(call: str) -> set[int]:
    """The errnos that the docstring of a call names."""
    text = getattr(Task, call).__doc__
    raises = text.split("Raises:")[1].split("Kernel:")[0] if "Raises:" in text else ""
    named = {
        getattr(errno, name)
        for name in re.findall(r"\bE[A-Z0-9]+\b", raises)
        if hasattr(errno, name)
    }
    named = named.union(*map(declared, SAME_AS.get(call, ())))
    return named - {errno.EBADF} if call == "open" else named


def faults(call: str) -> set[int]:
    """The errnos with which steps of a call can be made to fail in the model."""
    known = FAULTS.keys() if call in FAULTED else set()
    return {number for number in known if number != errno.EAGAIN or call == "clone"}


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


@pytest.mark.root
@needs_linux
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


@pytest.mark.parametrize(
    ("call", "number"),
    [(call, number) for call in FAULTED for number in faults(call) & declared(call)],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else value,
)
def test_a_step_of_the_kernel_that_fails_ends_the_call_with_its_errno(
    call: str, number: int
) -> None:
    kernel = Kernel()
    task = kernel.spawn()
    scene, arguments = FAULTED[call]
    scene(task)
    kernel.fault = lambda _, fails_with: fails_with == number
    with failing(number):
        getattr(task, call)(*arguments)


@pytest.mark.parametrize(
    ("call", "number"),
    MODEL_ALONE,
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else value,
)
def test_what_linux_cannot_be_brought_to_here_happens_in_the_model(call: str, number: int) -> None:
    task = Kernel().spawn()
    scene, arguments = MODEL_ALONE[call, number]
    scene(task)
    with failing(number):
        getattr(task, call)(*arguments, **OPTIONS.get((call, number), {}))


def met(outcomes: Counter[tuple[str, str]]) -> dict[str, set[int]]:
    """The errnos that were met, call by call, in programs and scenes."""
    found: dict[str, set[int]] = {call: set() for call in CALLS}
    for call, how in outcomes:
        if how != "ok" and call in found:
            found[call].add(getattr(errno, how))
    for scene in SCENES:
        found[scene.call].add(scene.number)
    return found


@pytest.mark.root
@needs_linux
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
