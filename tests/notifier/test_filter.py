"""A filter traps what it names, under the conditions that it names, and nothing else."""

import os
from collections.abc import Callable

import pytest

from fdproof.notifier import Condition, Filter, Rule, fork
from fdproof.notifier._libseccomp import name_of, number_of
from tests.notifier.scene import resumed

pytestmark = pytest.mark.requires_kernel("seccomp notifier", "pidfd_getfd")

WORD = 0xFFFFFFFF


def seen(filter: Filter, function: Callable[[], object]) -> list[str]:
    """The calls for which the filter stops the function."""
    with fork(filter, function) as target:
        names = resumed(target)
        assert target.wait() == 0
    return names


def test_only_what_is_named_stops() -> None:
    def calls() -> None:
        for _ in range(100):
            os.getpgid(0)
            os.umask(0o22)
        for _ in range(3):
            os.getsid(0)

    assert seen(Filter(["getsid"]), calls) == ["getsid"] * 3
    assert seen(Filter(["getppid"]), calls) == []


def test_an_argument_decides() -> None:
    def calls() -> None:
        os.getsid(0)
        os.getsid(os.getpid())
        os.getsid(0)

    assert seen(Filter([Rule("getsid", (Condition(0, WORD, 0),))]), calls) == ["getsid"] * 2


def test_a_mask_leaves_bits_out() -> None:
    def calls() -> None:
        for bits in (0o700, 0o070, 0o077, 0o007):
            os.umask(bits)

    assert len(seen(Filter([Rule("umask", (Condition(0, 0o070, 0o070),))]), calls)) == 2


def test_all_conditions_must_hold() -> None:
    def calls() -> None:
        os.getpriority(os.PRIO_PROCESS, 0)
        os.getpriority(os.PRIO_PROCESS, os.getpid())
        os.getpriority(os.PRIO_PGRP, 0)

    both = Rule("getpriority", (Condition(0, WORD, os.PRIO_PROCESS), Condition(1, WORD, 0)))

    assert seen(Filter([both]), calls) == ["getpriority"]


def test_several_rules_for_one_call_are_alternatives() -> None:
    def calls() -> None:
        for bits in (1, 2, 4):
            os.umask(bits)

    rules = [Rule("umask", (Condition(0, WORD, bits),)) for bits in (1, 4)]

    assert len(seen(Filter(rules), calls)) == 2


def test_a_call_that_other_architectures_have_is_left_out() -> None:
    filter = Filter(["no_such_call", "breakpoint", "getsid"])

    assert filter.rules == (Rule("getsid"),)
    assert repr(filter) == "<fdproof.notifier.Filter of 1 rules>"


@pytest.mark.parametrize(
    ("rules", "message"),
    [(["no_such_call", "breakpoint"], "no_such_call, breakpoint"), ([], "the list is empty")],
)
def test_none_left_is_an_error(rules: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=f"^rules: none of them names a system call.*: {message}$"):
        Filter(rules)


def test_what_cannot_be_told_from_a_start_is_refused() -> None:
    with pytest.raises(ValueError, match=r"exit_group.*cannot be told from the start of a target"):
        Filter([Rule("exit_group", (Condition(0, 0, 0),))])
    Filter([Rule("exit_group", (Condition(0, WORD, 3),))])


def test_names_and_numbers_belong_together() -> None:
    for name in ("openat", "close_range", "statmount", "file_getattr"):
        number = number_of(name)
        assert number is not None
        assert name_of(number) == name
    assert name_of(99_999) == "syscall_99999"
    assert number_of("breakpoint") is None


def test_a_condition_holds_under_its_mask() -> None:
    condition = Condition(1, 0xF0, 0x20)

    assert condition.holds((0, 0x2F))
    assert not condition.holds((0x20, 0x3F))
