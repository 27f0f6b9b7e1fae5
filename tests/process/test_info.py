"""What the kernel says about a process; its namespaces and descriptors; and why it refuses to say."""

import errno
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fdproof
from fdproof import process
from fdproof.process import PIPE, CoreDumpFlags, Ids, Info, Namespace, Process, _refusal
from tests.core.child import in_child, refuse
from tests.process.children import CAT, CLONE_NEWUSER, PR_SET_DUMPABLE, prctl, unshare
from tests.process.test_process import stranger

pytestmark = pytest.mark.requires_kernel("pidfd_open", "close_range")


@pytest.fixture
def cat() -> Iterator[Process]:
    with process.spawn(CAT, stdin=PIPE) as child:
        yield child


@pytest.mark.requires_kernel("PIDFD_GET_INFO")
def test_info_of_a_running_process(cat: Process) -> None:
    info = cat.info()

    assert (info.pid, info.process, info.parent) == (cat.pid, cat.pid, os.getpid())
    assert info.user == Ids(*os.getresuid(), os.geteuid())
    assert info.group == Ids(*os.getresgid(), os.getegid())
    assert info.returncode is None


@pytest.mark.requires_kernel("PIDFD_INFO_EXIT")
@pytest.mark.parametrize(("script", "status"), [("exit 7", 7), ("kill -9 $$", -9)])
def test_info_after_the_end(script: str, status: int) -> None:
    with Process.current() as me:
        cgroup = me.info().cgroup
    with process.spawn(["/bin/sh", "-c", script]) as child:
        child.wait()

        assert child.info() == Info(returncode=status, cgroup=cgroup)


@pytest.mark.requires_kernel("PIDFD_INFO_EXIT")
def test_info_of_somebody_elses_process_after_it_was_reaped() -> None:
    pid, end = stranger()
    with Process.open(pid) as other:
        assert other.info().returncode is None
        os.close(end)
        os.waitpid(-1, 0)
        assert other.info().returncode == 9


@pytest.mark.requires_kernel("PIDFD_INFO_COREDUMP")
def test_whether_a_process_would_be_dumped() -> None:
    """What became of one cannot be tested: it is told only where the whole machine pipes its dumps."""

    def check() -> None:
        with Process.current() as me:
            for dumpable, flag in ((1, CoreDumpFlags.USER), (0, CoreDumpFlags.SKIPPED)):
                prctl(PR_SET_DUMPABLE, dumpable)
                dump = me.info().core_dump
                assert dump is not None
                assert dump.flags == flag
                assert (dump.signal, dump.code) == (None, None)

    in_child(check)


@pytest.mark.requires_kernel("pidfs")
def test_same_process(cat: Process) -> None:
    with Process.open(cat.pid) as again, Process.current() as me:
        assert cat.same_process(again)
        assert not cat.same_process(me)
        cat.kill()
        cat.wait()
        assert cat.same_process(again)


@pytest.mark.parametrize("kind", Namespace)
def test_namespaces_are_those_in_proc(cat: Process, kind: Namespace) -> None:
    expected = os.stat(f"/proc/{cat.pid}/ns/{kind.value}")
    with cat.namespace(kind) as namespace, cat.namespace(kind.value) as by_name:
        assert os.path.samestat(os.fstat(namespace.fileno()), expected)
        assert os.path.samestat(os.fstat(by_name.fileno()), expected)
        assert not namespace.inheritable


@pytest.mark.requires_kernel("seccomp notifier")
def test_namespaces_on_older_kernels(cat: Process) -> None:
    expected = os.stat(f"/proc/{cat.pid}/ns/net")

    def check() -> None:
        refuse({"ioctl": (errno.ENOTTY, None)})
        with cat.namespace("net") as namespace:
            assert os.path.samestat(os.fstat(namespace.fileno()), expected)
        with pytest.raises(fdproof.UnsupportedError, match=r"6\.13"):
            cat.info()

    in_child(check)


def test_namespaces_of_an_ended_process(cat: Process) -> None:
    cat.kill()
    cat.wait()

    with pytest.raises(ProcessLookupError):
        cat.namespace("net")
    with pytest.raises(ValueError, match="nets"):
        cat.namespace("nets")


@pytest.mark.requires_kernel("pidfd_getfd")
def test_fetch_takes_a_duplicate() -> None:
    with fdproof.memfd("fetched") as file:
        with process.spawn(CAT, stdin=PIPE, files={7: file}) as child:
            with child.fetch(7) as fetched:
                assert fetched.same_file(file)
                assert not fetched.inheritable
            with pytest.raises(OSError, match="Bad file descriptor"):
                child.fetch(8)
            with pytest.raises(ValueError, match="number"):
                child.fetch(-1)
            child.kill()
            child.wait()
            with pytest.raises(ProcessLookupError):
                child.fetch(7)


def become(user: int) -> None:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    # A change of user makes a process not dumpable.
    prctl(PR_SET_DUMPABLE, 1)


def refused(prepare_target: Callable[[], None], prepare_caller: Callable[[], None]) -> str:
    """What fetch says of a target that has made itself ready, to a caller that has."""
    said, saying = os.pipe()
    ready, readying = os.pipe()
    target = os.fork()
    if target == 0:
        try:
            prepare_target()
            os.write(readying, b"r")
            signal.pause()
        finally:
            os._exit(1)

    def check() -> None:
        prepare_caller()
        with Process.open(target) as other, pytest.raises(PermissionError) as caught:
            other.fetch(0)
        os.write(saying, str(caught.value).encode())

    try:
        os.read(ready, 1)
        in_child(check)
        return os.read(said, 10_000).decode()
    finally:
        os.kill(target, signal.SIGKILL)
        os.waitpid(target, 0)
        for number in (said, saying, ready, readying):
            os.close(number)


@pytest.mark.root
@pytest.mark.requires_kernel("pidfd_getfd")
def test_a_refusal_names_its_reason() -> None:
    def nobody() -> None:
        become(65534)

    def somebody() -> None:
        become(65533)

    def hidden() -> None:
        become(65534)
        prctl(PR_SET_DUMPABLE, 0)

    def elsewhere() -> None:
        become(65534)
        if not unshare(CLONE_NEWUSER):
            pytest.skip("no user namespaces here")

    def root() -> None:
        pass

    assert "it runs as user 65534 and this process as 65533" in refused(nobody, somebody)
    assert "it runs as user 0 and this process as 65534" in refused(root, nobody)
    assert "it is not dumpable" in refused(hidden, nobody)
    # A namespace is its maker's to look into, but not the other way round.
    assert "in another user namespace" in refused(root, elsewhere)


@pytest.mark.root
@pytest.mark.requires_kernel("pidfd_getfd", "seccomp notifier")
def test_a_refusal_without_a_usual_reason_says_so() -> None:
    def refuse_all() -> None:
        refuse({"pidfd_getfd": (errno.EPERM, None)})

    assert "a security module or a system-call filter" in refused(lambda: None, refuse_all)


@pytest.mark.parametrize(
    ("scope", "words"),
    [(1, "only an ancestor"), (2, "only CAP_SYS_PTRACE"), (3, "nobody may look")],
)
def test_a_refusal_by_yama(
    cat: Process, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scope: int, words: str
) -> None:
    """Its switch is the whole machine's, so here it is only a file."""
    switch = tmp_path / "ptrace_scope"
    switch.write_text(f"{scope}\n")
    monkeypatch.setattr(_refusal, "_SCOPE", str(switch))
    monkeypatch.setattr(_refusal, "_CAP_SYS_PTRACE", 0)

    assert words in _refusal.explain(cat.pid)


def test_a_refusal_by_one_that_has_ended() -> None:
    with process.spawn(["true"]) as child:
        child.wait()

    assert "has ended" in _refusal.explain(child.pid)
