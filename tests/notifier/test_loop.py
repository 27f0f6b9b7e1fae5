"""The compiled loop counts exactly what a target does, and stops exactly where it is told."""

import errno
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdproof import StateError
from fdproof.check.loader import loader_range
from fdproof.notifier import Filter, Target, fork, spawn
from fdproof.notifier._libseccomp import number_of
from fdproof.notifier._loop import CALLS as CALL_NUMBERS
from fdproof.notifier._loop import Loop, Stop
from tests.notifier.programs import CALLS, Expectation, Program, perform, programs
from tests.notifier.scene import PATIENCE, in_call, pipe, until
from tests.notifier.supervising import supervise

pytestmark = pytest.mark.requires_kernel("seccomp notifier", "pidfd_getfd")

GETSID = Filter(["getsid"])
FILTER = Filter(list(CALLS))


def soon() -> float:
    return time.monotonic() + PATIENCE


def loop_for(target: Target, control: socket.socket | None = None, *watched: str) -> Loop:
    numbers = [number for name in watched if (number := number_of(name)) is not None]
    loop = Loop(target.listener, target.process, control, numbers)
    loop.add_task(target.pid, 0)
    return loop


@settings(max_examples=60)
@given(programs)
def test_calls_are_seen_in_order(program: Program) -> None:
    with fork(FILTER, lambda: perform(program, together=False)) as target:
        seen = supervise(target)
        assert target.wait() == 0
    assert seen.calls == Expectation().follow(program).order


@settings(max_examples=40)
@given(programs)
def test_each_task_is_counted_for_itself(program: Program) -> None:
    with fork(FILTER, lambda: perform(program, together=True)) as target:
        seen = supervise(target)
        assert target.wait() == 0
    counts: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for task, name, occurrence in seen.calls:
        counts[task][name] += 1
        assert occurrence == counts[task][name]
    expected = [task for task in Expectation().follow(program).tasks if task]
    assert sorted(sorted(one.items()) for one in counts.values()) == sorted(
        sorted(one.items()) for one in expected
    )


@settings(max_examples=40)
@given(
    calls=st.lists(st.sampled_from(["getsid", "getpgid"]), min_size=1, max_size=8), data=st.data()
)
def test_a_fault_comes_exactly_at_its_point(calls: list[str], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["getsid", "getpgid"]))
    occurrence = data.draw(st.integers(1, 9))

    def check() -> None:
        met = Counter[str]()
        for call in calls:
            met[call] += 1
            try:
                CALLS[call]()
                failed = False
            except OSError as error:
                failed = error.errno == errno.EDOM
            assert failed == ((call, met[call]) == (name, occurrence))

    with fork(FILTER, check) as target:
        seen = supervise(target, fault=(0, name, occurrence, errno.EDOM))
        assert target.wait() == 0
    assert seen.faults == (calls.count(name) >= occurrence)


def test_a_fault_comes_in_its_task() -> None:
    def check() -> None:
        pid = os.fork()
        if pid == 0:
            with pytest.raises(OSError, match=rf"\[Errno {errno.EDOM}\]"):
                os.getsid(0)
            os._exit(0)
        os.getsid(0)
        assert os.waitpid(pid, 0)[1] == 0

    with fork(GETSID, check) as target:
        seen = supervise(target, fault=(1, "getsid", 1, errno.EDOM))
        assert target.wait() == 0
    assert seen.faults == 1


def test_stepping_stops_at_every_point_with_its_arguments() -> None:
    def calls() -> None:
        for bits in (0o1, 0o2):
            os.umask(bits)

    with fork(FILTER, calls) as target:
        loop = loop_for(target)
        loop.counting = loop.stepping = True
        for bits in (0o1, 0o2):
            assert loop.run(soon()) is Stop.POINT
            task, call, arguments = loop.pending
            assert (task, call, arguments[0]) == (target.pid, number_of("umask"), bits)
            assert loop.occurrence == bits
            loop.resume()
        assert loop.run(soon()) is Stop.ENDED
        assert [arguments[0] for *_, arguments in loop.events()] == [1, 2]


def test_what_is_watched_stops_uncounted() -> None:
    def check() -> None:
        assert os.getsid(0) == 4711
        os.getpgid(0)

    with fork(FILTER, check) as target:
        loop = loop_for(target, None, "getsid")
        loop.counting = True
        assert loop.run(soon()) is Stop.WATCHED
        loop.reply(4711)
        assert loop.run(soon()) is Stop.ENDED
        assert [call for _, call, *_ in loop.events()] == [number_of("getpgid")]
        assert target.wait() == 0


def test_counting_can_be_off_and_starts_again() -> None:
    def calls() -> None:
        for _ in range(2):
            os.getpgid(0)
            os.getsid(0)
            os.getsid(0)

    with fork(FILTER, calls) as target:
        loop = loop_for(target, None, "getpgid")
        assert loop.run(soon()) is Stop.WATCHED
        loop.resume()
        assert loop.run(soon()) is Stop.WATCHED
        assert loop.calls == 0
        loop.counting = True
        loop.reset_counts()
        loop.resume()
        assert loop.run(soon()) is Stop.ENDED
        assert [nth for *_, nth, _ in loop.events()] == [1, 2]


def test_nothing_waits() -> None:
    with fork(GETSID, lambda: None) as target:
        loop = loop_for(target)
        for use in (loop.resume, lambda: loop.fail(1), lambda: loop.reply(1), lambda: loop.pending):
            with pytest.raises(StateError, match="no call waits"):
                use()
        assert loop.run(soon()) is Stop.ENDED
        assert loop.events() == []


def test_a_call_is_answered_once() -> None:
    with fork(GETSID, lambda: os.getsid(0)) as target:
        loop = loop_for(target, None, "getsid")
        assert loop.run(soon()) is Stop.WATCHED
        loop.resume()
        with pytest.raises(StateError):
            loop.resume()
        assert loop.run(soon()) is Stop.ENDED


@pytest.mark.parametrize("answer", ["resume", "fail", "reply"])
def test_an_answer_to_the_dead_is_quiet(answer: str) -> None:
    with fork(GETSID, lambda: os.getsid(0)) as target:
        loop = loop_for(target, None, "getsid")
        assert loop.run(soon()) is Stop.WATCHED
        target.kill()
        assert target.wait() == -signal.SIGKILL
        loop.resume() if answer == "resume" else getattr(loop, answer)(1)
        assert loop.run(soon()) is Stop.ENDED


def test_a_call_that_was_not_answered_comes_again() -> None:
    """What the loop did not know at first (a new task) is decided by running it again."""
    with fork(GETSID, lambda: os.getsid(0)) as target:
        loop = Loop(target.listener, target.process, None, ())
        loop.counting = True
        assert loop.run(soon()) is Stop.NEW_TASK
        assert loop.run(soon()) is Stop.NEW_TASK
        loop.add_task(target.pid, 5)
        assert loop.run(soon()) is Stop.ENDED
        assert [index for index, *_ in loop.events()] == [5]


def test_a_deadline_that_has_passed() -> None:
    with pipe() as (reading, writing), fork(GETSID, lambda: os.read(reading, 1) and None) as target:
        loop = loop_for(target)
        for deadline in (0.0, time.monotonic() + 0.001):
            assert loop.run(deadline) is Stop.TIMEOUT
        os.write(writing, b".")
        assert loop.run(soon()) is Stop.ENDED


def test_a_hang_up_of_control_ends_it_and_a_message_waits() -> None:
    with pipe() as (reading, _), fork(GETSID, lambda: os.read(reading, 1) and None) as target:
        # Made after the fork: the target holds no copy.
        here, there = socket.socketpair()
        with here, there:
            loop = loop_for(target, here)
            there.send(b".")
            assert loop.run(time.monotonic() + 0.001) is Stop.TIMEOUT
            there.close()
            assert loop.run(soon()) is Stop.CONTROL


def test_a_signal_handler_may_raise_out_of_it() -> None:
    me = threading.get_native_id()
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        until(lambda: in_call(me, "poll", "ppoll"))
        signal.pthread_kill(main, signal.SIGINT)

    with pipe() as (reading, _), fork(GETSID, lambda: os.read(reading, 1) and None) as target:
        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            loop_for(target).run(soon())
        thread.join()


def test_numbers_that_no_call_has() -> None:
    with fork(GETSID, lambda: None) as target:
        for number in (-1, CALL_NUMBERS):
            with pytest.raises(ValueError, match=f"watched: {number} is not"):
                Loop(target.listener, target.process, None, [number])


PROGRAM = """
#include <fcntl.h>
#include <unistd.h>
int main(void)
{
    for (int i = 0; i < 3; i++)
        close(open("/dev/null", O_RDONLY));
    return 0;
}
"""


def compiled(directory: Path, *options: str) -> str:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here")
    (directory / "program.c").write_text(PROGRAM)
    path = str(directory / "program")
    result = subprocess.run(
        [compiler, "-o", path, *options, str(directory / "program.c")],
        check=False,
        capture_output=True,
    )
    if result.returncode:
        pytest.skip(f"cc {' '.join(options)} does not work here")
    return path


START = Filter(["openat", "open", "brk", "mmap", "read"])


def test_the_loader_of_a_dynamic_program_is_not_counted(tmp_path: Path) -> None:
    with spawn(START, [compiled(tmp_path)]) as target:
        seen = supervise(target, program=True)
        assert target.wait() == 0
    assert [name for _, name, _ in seen.calls] == ["openat"] * 3
    assert [nth for *_, nth in seen.calls] == [1, 2, 3]


def test_everything_of_a_static_program_is_counted(tmp_path: Path) -> None:
    path = compiled(tmp_path, "-static")
    with spawn(START, [path]) as target:
        seen = supervise(target, program=True)
        assert target.wait() == 0
    with spawn(START, [path]) as target:
        # All that the listener delivers.
        everything = []
        for call in target.listener:
            everything.append(call.name)
            call.resume()
    assert [name for _, name, _ in seen.calls] == everything
    assert everything.count("openat") == 3
    assert "brk" in everything


def test_the_loader_range_of_a_process() -> None:
    low, high = loader_range(os.getpid())
    maps = Path("/proc/self/maps").read_text().splitlines()
    inside = [line for line in maps if low and low <= int(line.partition("-")[0], 16) < high]
    if low:
        assert all("ld" in os.path.basename(line.split()[-1]) for line in inside)
        assert inside
    assert loader_range(0x3FFFFFFF) == (0, 0)
