"""Flags of files and flags of descriptors are two things, and say so when they are mixed."""

import enum
import functools
import operator
import os
import pickle
import signal
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdproof import DescriptorFlags, FileFlags, FlagError, ResolveFlags, UnsupportedError
from fdproof._flags import descriptor_flags, file_flag_bits, resolve_flag_bits

FLAGS: list[type[enum.Flag]] = [FileFlags, DescriptorFlags, ResolveFlags]
OPERATORS = [operator.or_, operator.and_, operator.xor]


def union(members: set[enum.Flag]) -> int:
    return functools.reduce(operator.or_, (int(member.value) for member in members), 0)


KNOWN = {kind: union(set(kind)) | union(set(kind.__members__.values())) for kind in FLAGS}

every_file_flag: st.SearchStrategy[enum.Flag] = st.sampled_from(
    sorted(FileFlags.__members__.values(), key=lambda flag: flag.value)
)


def one_access_mode(members: set[enum.Flag]) -> bool:
    return union(members) & os.O_ACCMODE != os.O_ACCMODE


file_flags = st.sets(every_file_flag).filter(one_access_mode)
resolve_flags = st.sets(st.sampled_from(list(ResolveFlags)))
raw = st.integers(0, 2**32 - 1)


@given(file_flags)
def test_file_flags_pass_unchanged(members: set[enum.Flag]) -> None:
    bits = union(members)

    assert file_flag_bits(bits, "flags") == bits
    assert file_flag_bits(FileFlags(bits), "flags") == bits
    assert FileFlags(bits).value == bits


@given(resolve_flags)
def test_resolve_flags_pass_unchanged(members: set[enum.Flag]) -> None:
    bits = union(members)

    assert resolve_flag_bits(bits, "resolve") == bits
    assert resolve_flag_bits(ResolveFlags(bits), "resolve") == bits


@pytest.mark.parametrize("kind", FLAGS)
@given(bits=raw)
def test_a_raw_number_is_known_or_refused(kind: Any, bits: int) -> None:
    whole = union({member for member in kind.__members__.values() if member.value & ~bits == 0})
    if whole == bits:
        assert kind(bits).value == bits
        return
    with pytest.raises(FlagError, match=f"no bits {bits & ~KNOWN[kind] or bits & ~whole:#x}"):
        kind(bits)


@given(st.integers(max_value=-1))
def test_negative_numbers_are_refused(bits: int) -> None:
    with pytest.raises(FlagError, match=r"^flags: "):
        file_flag_bits(bits, "flags")


@given(file_flags, every_file_flag)
def test_the_complement_takes_away_and_nothing_else(
    members: set[enum.Flag], away: FileFlags
) -> None:
    """``status & ~APPEND``, the usual way to clear a flag, keeps all bits of the others."""
    rest = FileFlags(union(members)) & ~away

    assert rest.value == union({member for member in members if not member.value & away.value}) | (
        # Half of a member may stand for itself, as DSYNC does in SYNC.
        union(
            {
                part
                for part in FileFlags
                if part.value & ~union(members) == 0 and not part.value & away.value
            }
        )
    )
    assert not rest.value & away.value
    assert isinstance(rest, FileFlags)


@pytest.mark.parametrize(
    "value",
    [
        True,
        False,
        1.0,
        2.0,
        None,
        "r",
        b"",
        [],
        signal.SIGINT,
        socket.MSG_PEEK,
        DescriptorFlags.CLOEXEC,
        ResolveFlags.BENEATH,
    ],
    ids=repr,
)
def test_only_file_flags_and_numbers_are_file_flags(value: Any) -> None:
    """Also where the value equals a member's number, which enum lookup by itself would take."""
    with pytest.raises(FlagError, match=r"^flags: "):
        file_flag_bits(value, "flags")
    for combine in OPERATORS:
        with pytest.raises((FlagError, TypeError)):
            combine(FileFlags.RDWR, value)


@pytest.mark.parametrize("combine", OPERATORS)
@pytest.mark.parametrize("first", FLAGS)
@pytest.mark.parametrize("second", FLAGS)
def test_types_do_not_mix(first: Any, second: Any, combine: Any) -> None:
    for one in first:
        for other in second:
            if first is second:
                assert isinstance(combine(one, other), first)
            else:
                with pytest.raises(FlagError):
                    combine(one, other)


def test_numbers_and_flags_combine_to_flags() -> None:
    assert FileFlags.APPEND | os.O_RDWR is FileFlags.APPEND | FileFlags.RDWR
    assert os.O_RDWR | FileFlags.APPEND is FileFlags.APPEND | FileFlags.RDWR
    assert (FileFlags.APPEND | FileFlags.RDWR) & os.O_APPEND is FileFlags.APPEND


@pytest.mark.parametrize(
    "call",
    [
        lambda: file_flag_bits(os.O_RDWR | os.O_CLOEXEC, "flags"),
        lambda: file_flag_bits(DescriptorFlags.CLOEXEC, "flags"),  # type: ignore[arg-type]
        lambda: FileFlags.RDWR | os.O_CLOEXEC,
        lambda: FileFlags.RDWR | DescriptorFlags.CLOEXEC,
        lambda: descriptor_flags(DescriptorFlags.CLOEXEC),  # type: ignore[arg-type]
    ],
)
def test_close_on_exec_among_file_flags_names_inheritable(call: Any) -> None:
    with pytest.raises(FlagError, match="inheritable=True"):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: DescriptorFlags(os.O_RDWR),
        lambda: DescriptorFlags(os.O_CLOEXEC | os.O_NONBLOCK),
        lambda: DescriptorFlags.CLOEXEC | FileFlags.RDWR,
        lambda: descriptor_flags(FileFlags.NONBLOCK),  # type: ignore[arg-type]
    ],
)
def test_a_file_flag_for_the_descriptor_names_the_build(call: Any) -> None:
    with pytest.raises(FlagError, match="builds the file"):
        call()


def test_unknown_bits_are_named() -> None:
    with pytest.raises(
        FlagError, match=r"^flags: FileFlags has no bits 0x40000000: known are .*APPEND"
    ):
        file_flag_bits(1 << 30 | os.O_RDWR, "flags")
    with pytest.raises(
        FlagError, match=r"^resolve: ResolveFlags has no bits 0x40: known are .*BENEATH"
    ):
        resolve_flag_bits(0x48, "resolve")


@pytest.mark.parametrize(
    "bits", [3, os.O_WRONLY | FileFlags.RDWR, os.O_WRONLY | os.O_RDWR | os.O_APPEND]
)
def test_two_access_modes_are_refused(bits: Any) -> None:
    with pytest.raises(FlagError, match=r"^flags: WRONLY and RDWR"):
        file_flag_bits(bits, "flags")


@pytest.mark.parametrize(
    ("inheritable", "flags"), [(True, DescriptorFlags(0)), (False, DescriptorFlags.CLOEXEC)]
)
def test_inheritable_is_the_absence_of_the_flag(inheritable: bool, flags: DescriptorFlags) -> None:
    assert descriptor_flags(inheritable) is flags


def test_the_values_are_the_kernels() -> None:
    for name, member in FileFlags.__members__.items():
        assert member.value == getattr(os, f"O_{name}")


def test_an_error_that_travels_stays_the_same() -> None:
    error = UnsupportedError("openat2", "5.6", remedy="lift the sandbox")
    again = pickle.loads(pickle.dumps(error))

    assert (str(again), again.errno) == (str(error), error.errno)
    assert (again.feature, again.kernel) == ("openat2", "5.6")
