"""The tasks of the kernel's side: what they begin with, and that nothing is left of them."""

import subprocess
import sys
import time
from pathlib import Path

from tests.model.linux.agents import Agents
from tests.model.linux.kernel import NEEDS_LINUX, RealKernel

pytestmark = [*NEEDS_LINUX]

ABANDONED = """
import time
from tests.model.linux.agents import started
from tests.model.linux.kernel import RealKernel
with started() as agents:
    kernel = RealKernel(agents)
    task = kernel.spawn()
    child = task.fork()
    thread = child.clone(0x10000 | 0x800 | 0x400 | 0x100)
    child.eventfd2()
    child.begin("read", 0, 8)
    print(agents.pid, task.pid, child.pid, agents.segment, flush=True)
    time.sleep(100)
"""


def segments() -> set[int]:
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return {int(line.split()[1]) for line in lines}


def test_a_task_begins_with_an_empty_table_and_its_own_limit(real_kernel: RealKernel) -> None:
    task = real_kernel.spawn(rlimit_nofile=5)

    assert task.table() == {}
    assert [task.eventfd2() for _ in range(5)] == [0, 1, 2, 3, 4]


def test_two_worlds_one_after_the_other_see_nothing_of_each_other(agents: Agents) -> None:
    first = RealKernel(agents)
    first.spawn().open("/a", 0o102)
    first.close()

    second = RealKernel(agents)
    try:
        assert list(agents.root.iterdir()) == []
        assert second.spawn().table() == {}
    finally:
        second.close()


def test_the_memory_is_nobodys_once_it_is_let_go_of(agents: Agents) -> None:
    """It is marked for removal at once, so that no end of a process can leave it behind."""
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    modes = {int(line.split()[1]): int(line.split()[2], 8) for line in lines}

    destroyed_with_the_last = 0o1000
    assert modes[agents.segment] & destroyed_with_the_last


def test_nothing_is_left_of_the_tasks_of_a_process_that_is_killed() -> None:
    process = subprocess.Popen([sys.executable, "-c", ABANDONED], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        *pids, segment = map(int, process.stdout.readline().split())
    finally:
        process.kill()
        process.communicate()

    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids) or segment in segments():
        assert time.monotonic() < deadline, "the tasks live on"
        time.sleep(0.05)
