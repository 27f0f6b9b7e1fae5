"""The errno table: complete, unambiguous, and true on the running kernel."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import mmap
import os
import select
import socket
import stat
import subprocess
import sys
import termios
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdproof.check import errnos
from fdproof.check.errnos import CALLS, LEFT_OUT, Call, Kind, Referent, call_for, names
from fdproof.notifier import Condition

ROOT = Path(__file__).parents[2]

# Only a wrong program sees these, or they say "not yet" rather than "no".
FORBIDDEN = {"EBADF", "EFAULT", "EINVAL", "EINTR", "EINPROGRESS", "EALREADY"}
# The calls in which EAGAIN is a refusal, whatever mode the file is in.
REFUSES_WITH_EAGAIN = {"fcntl", "flock", "fork", "vfork", "clone", "clone3"}
# Younger than the libseccomp of the oldest supported distribution.
NEWER = {"open_tree_attr"}


def titles() -> list[str]:
    return [f"{each.name} {' '.join(c.spelled for c in each.when)}".strip() for each in CALLS]


def args_that_meet(when: tuple[Condition, ...]) -> list[int]:
    args = [0] * 6
    for condition in when:
        args[condition.argument] |= condition.value
    return args


each_call = pytest.mark.parametrize("call", CALLS, ids=titles())


@each_call
def test_every_errno_exists_and_is_realistic(call: Call) -> None:
    found = [each.name for each in call.errnos]

    assert found
    assert len(set(found)) == len(found)
    assert not FORBIDDEN & set(found)
    assert not {"EAGAIN", "EWOULDBLOCK"} & set(found) or call.name in REFUSES_WITH_EAGAIN
    for each in call.errnos:
        assert each.number == getattr(errno, each.name)
        assert each.reason.endswith(".")


@each_call
def test_every_entry_is_the_one_found_for_its_own_conditions(call: Call) -> None:
    assert call_for(call.name, args_that_meet(call.when)) is call


@each_call
def test_conditions_can_hold(call: Call) -> None:
    for condition in call.when:
        assert condition.spelled
        assert 0 <= condition.argument <= 5
        assert condition.value & ~condition.mask == 0


def test_constants_are_the_ones_that_python_knows() -> None:
    modules = (os, fcntl, mmap, select, socket, termios)
    wrong, compared = [], set()
    conditions = [c for call in CALLS for c in call.when]
    conditions += [c for out in LEFT_OUT for c in out.when]
    for each in conditions:
        # O_TMPFILE is two bits, one of which every directory has as well.
        known = os.O_TMPFILE & ~os.O_DIRECTORY if each.spelled == "O_TMPFILE" else None
        for module in modules:
            known = getattr(module, each.spelled, None) if known is None else known
        # EPOLL_CTL_ADD and its like are not in any module; neither is what is spelled as a phrase.
        if known is not None:
            compared.add(each.spelled)
            if known != each.value:
                wrong.append(each)

    assert wrong == []
    assert {"O_CREAT", "F_SETFL", "LOCK_NB", "FIOCLEX", "SOL_SOCKET"} <= compared


@each_call
def test_whatever_acts_says_on_which_descriptor(call: Call) -> None:
    assert call.kind is not Kind.ACTS or call.descriptor_argument is not None
    assert call.descriptor_argument is None or 0 <= call.descriptor_argument <= 5
    assert not any(each.on for each in call.errnos) or call.descriptor_argument is not None


def test_names_are_unique_up_to_conditions() -> None:
    repeated = [title for title, count in Counter(titles()).items() if count > 1]

    assert repeated == []


def test_names_lists_every_name_once() -> None:
    assert sorted(names()) == sorted({call.name for call in CALLS})


def test_what_is_left_out_has_no_entry() -> None:
    for each in LEFT_OUT:
        assert call_for(each.name, args_that_meet(each.when)) is None
        assert each.when or each.name not in names()


@pytest.mark.parametrize("name", sorted({*names(), *(each.name for each in LEFT_OUT)} - NEWER))
def test_libseccomp_knows_the_name(name: str) -> None:
    libseccomp = ctypes.CDLL("libseccomp.so.2")

    assert libseccomp.seccomp_syscall_resolve_name(name.encode()) != -1


@st.composite
def made_calls(draw: st.DrawFn) -> tuple[str, list[int]]:
    name = draw(st.sampled_from([*names(), *(each.name for each in LEFT_OUT), "getpid"]))
    args = draw(st.lists(st.integers(0, 2**64 - 1), min_size=6, max_size=6))
    conditions = [c for call in CALLS if call.name == name for c in call.when]
    conditions += [c for out in LEFT_OUT if out.name == name for c in out.when]
    if conditions:
        # Random registers hardly ever hold a value that means something.
        for condition in draw(st.lists(st.sampled_from(conditions), max_size=3)):
            rest = args[condition.argument] & ~condition.mask
            args[condition.argument] = rest | condition.value
    return name, args


@given(made_calls())
def test_call_for_agrees_with_a_naive_search(made: tuple[str, list[int]]) -> None:
    name, args = made

    expected = None
    for call in CALLS:
        if call.name == name and all(args[c.argument] & c.mask == c.value for c in call.when):
            expected = call
            break
    for out in LEFT_OUT:
        if out.name == name and all(args[c.argument] & c.mask == c.value for c in out.when):
            expected = None

    assert call_for(name, args) is expected


def test_what_a_descriptor_refers_to_narrows_the_errnos() -> None:
    read, write = call_for("read", [0] * 6), call_for("write", [0] * 6)
    assert read is not None
    assert write is not None

    assert [each.name for each in read.errnos_on(Referent.REGULAR)] == ["EIO"]
    assert read.errnos_on(Referent.PIPE) == ()
    assert [each.name for each in write.errnos_on(Referent.PIPE)] == ["EPIPE"]


@pytest.mark.parametrize(
    ("mode", "referent"),
    [
        (stat.S_IFREG, Referent.REGULAR),
        (stat.S_IFDIR, Referent.DIRECTORY),
        (stat.S_IFIFO, Referent.PIPE),
        (stat.S_IFSOCK, Referent.SOCKET),
        (stat.S_IFCHR, Referent.DEVICE),
        (stat.S_IFBLK, Referent.DEVICE),
        (0, Referent.OTHER),
    ],
)
def test_the_referent_comes_from_the_mode(mode: int, referent: Referent) -> None:
    assert Referent.of(mode | 0o600) is referent


def test_the_reference_page_is_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    errnos.main()

    page = (ROOT / "docs" / "reference" / "errnos.md").read_text(encoding="utf-8")
    remedy = "run: python -m fdproof.check.errnos > docs/reference/errnos.md"
    assert page == capsys.readouterr().out, remedy


AT_THE_LIMIT = [
    "open",
    "openat",
    "openat2",
    "creat",
    "pipe",
    "pipe2",
    "socket",
    "socketpair",
    "accept",
    "accept4",
    "dup",
    "fcntl",
    "memfd_create",
    "eventfd",
    "eventfd2",
    "timerfd_create",
    "signalfd",
    "signalfd4",
    "epoll_create",
    "epoll_create1",
    "inotify_init",
    "inotify_init1",
    "pidfd_open",
    "pidfd_getfd",
    "mq_open",
    "landlock_create_ruleset",
    "ioctl",
    "getsockopt",
]

REPRESENTATIVES = {f"{name} at the limit": "EMFILE" for name in AT_THE_LIMIT} | {
    "connect": "ECONNREFUSED",
    "bind": "EADDRINUSE",
    "listen": "EADDRINUSE",
    "shutdown": "ENOTCONN",
    "getpeername": "ENOTCONN",
    "getsockopt": "ENOPROTOOPT",
    "read socket": "ECONNRESET",
    "recvfrom socket": "ECONNRESET",
    "recvmsg socket": "ECONNRESET",
    "sendto": "EPIPE",
    "lseek": "ESPIPE",
    "fadvise64": "ESPIPE",
    "ioctl": "ENOTTY",
    "flock": "EWOULDBLOCK",
    "fcntl lock": "EAGAIN",
    "fcntl seal": "EPERM",
    "getdents64": "ENOENT",
    "mmap": "ENOMEM",
    "write device": "ENOSPC",
    "write pipe": "EPIPE",
    "pidfd_send_signal": "ESRCH",
}
OTHERS = {
    "open missing": "ENOENT",
    "openat2 beneath": "EXDEV",
    "setsockopt": "ENOPROTOOPT",
    "fcntl pipe size": "EBUSY",
    "write regular": "EFBIG",
    "ftruncate": "EFBIG",
    "pidfd_open ended": "ESRCH",
    "epoll_ctl": "EPERM",
    "inotify_add_watch": "ENOENT",
}
# What a kernel may lack, and how it says so.
OPTIONAL = {
    "landlock_create_ruleset at the limit": ("Landlock, Linux 5.13", {"ENOSYS", "EOPNOTSUPP"}),
    "getsockopt at the limit": ("SO_PEERPIDFD, Linux 6.5", {"ENOPROTOOPT"}),
    "mq_open at the limit": ("message queues", {"ENOSYS"}),
}


@pytest.fixture(scope="module")
def provoked() -> dict[str, Any]:
    """What the kernel said, by the name of the case."""
    command = [sys.executable, str(Path(__file__).with_name("provoke.py"))]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_provocation_is_judged(provoked: dict[str, Any]) -> None:
    assert sorted(provoked) == sorted(REPRESENTATIVES | OTHERS)


@pytest.mark.parametrize("case", REPRESENTATIVES | OTHERS)
def test_the_kernel_returns_what_the_table_says(
    case: str, provoked: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    name, args, mode, failure = provoked[case]
    feature, excuses = OPTIONAL.get(case, ("", set()))
    if failure in excuses and not request.config.getoption("--require-kernel", default=False):
        pytest.skip(f"this kernel lacks {feature}")

    call = call_for(name, args)
    assert call is not None
    possible = call.errnos_on(Referent.of(mode)) if mode else call.errnos
    numbers = [each.number for each in possible]
    assert failure, "the call succeeded"
    found = getattr(errno, failure)
    assert found == getattr(errno, (REPRESENTATIVES | OTHERS)[case])
    assert found in numbers
    assert case in OTHERS or found == numbers[0]
