"""Errnos to which Linux cannot be brought here: the model fails with them in the right scene."""

import errno

import pytest

from fdproof.model import Kernel
from tests.model.declared import declared, faults
from tests.model.errno_scenes import FAULTED, MODEL_ALONE, OPTIONS
from tests.model.failing import failing


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
