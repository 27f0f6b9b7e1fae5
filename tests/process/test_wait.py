"""Many processes are waited for at once, in threads, asyncio and Trio."""

import os
import signal

import anyio
import pytest

import fdproof
from fdproof import process
from fdproof.process import PIPE, Process
from tests.process.children import CAT, SLEEP, until
from tests.process.test_process import stranger

pytestmark = pytest.mark.requires_kernel("pidfd_open", "close_range")

each_backend = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def test_the_first_to_end() -> None:
    with process.spawn(CAT, stdin=PIPE) as first, process.spawn(CAT, stdin=PIPE) as second:
        assert process.wait_many([first, second], 0.01) == []
        second.terminate()
        assert process.wait_many([first, second]) == [second]
        assert second.returncode == -signal.SIGTERM
        assert process.wait_many([first, second], 0) == [second]
        first.terminate()
        assert {*process.wait_many([first, second, first], count=None)} == {first, second}
        assert {*process.wait_many([first, second], count=5)} == {first, second}


def test_none_to_wait_for() -> None:
    assert process.wait_many([]) == []
    with pytest.raises(ValueError, match="count"):
        process.wait_many([], count=0)


def test_as_many_as_the_time_allows() -> None:
    with process.spawn(["true"]) as ends, process.spawn(CAT, stdin=PIPE) as runs:
        assert process.wait_many([ends, runs], 0.2, count=2) == [ends]


def test_order_is_that_of_the_ends() -> None:
    running = [process.spawn(CAT, stdin=PIPE) for _ in range(5)]
    order = [running[index] for index in (3, 0, 4, 1, 2)]
    ended = []
    for one in order:
        one.terminate()
        ended += process.wait_many([other for other in running if other not in ended])

    assert ended == order
    for one in running:
        one.close()


def test_others_count_as_ended_before_they_are_reaped() -> None:
    _, end = pair = stranger()
    with Process.open(pair[0]) as other:
        assert process.wait_many([other]) == [other]
        assert other.returncode is None
    os.close(end)
    os.waitpid(-1, 0)


def test_a_closed_one_is_refused() -> None:
    with process.spawn(["true"]) as child:
        pass

    with pytest.raises(fdproof.ClosedError):
        process.wait_many([child])


@each_backend
def test_wait_async(backend: str) -> None:
    async def main() -> None:
        async with process.spawn(["/bin/sh", "-c", "exit 3"]) as child:
            assert await child.wait_async() == 3
            assert await child.wait_async() == 3
        async with process.spawn(CAT, stdin=PIPE) as child:
            with anyio.move_on_after(0.01) as scope:
                await child.wait_async()
            assert scope.cancelled_caught
            assert child.poll() is None
        assert child.returncode == 0

    anyio.run(main, backend=backend)


@each_backend
def test_several_tasks_wait_for_one_process(backend: str) -> None:
    seen: list[int] = []

    async def wait(child: Process) -> None:
        seen.append(await child.wait_async())

    async def main() -> None:
        with process.spawn(CAT, stdin=PIPE) as child:
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(wait, child)
                await anyio.wait_all_tasks_blocked()
                child.terminate()

    anyio.run(main, backend=backend)

    assert seen == [-signal.SIGTERM] * 3


@each_backend
def test_cancelling_the_block_kills(backend: str) -> None:
    async def main() -> None:
        with anyio.move_on_after(0.01):
            async with process.spawn(SLEEP) as child:
                await anyio.sleep(1000)
        assert child.returncode == -signal.SIGKILL
        with anyio.move_on_after(0.01):
            async with process.spawn(SLEEP) as child:
                pass
        assert child.returncode == -signal.SIGKILL

    anyio.run(main, backend=backend)


@each_backend
def test_wait_many_async(backend: str) -> None:
    async def main() -> None:
        with process.spawn(CAT, stdin=PIPE) as first, process.spawn(CAT, stdin=PIPE) as second:
            with anyio.move_on_after(0.01) as scope:
                await process.wait_many_async([first, second])
            assert scope.cancelled_caught
            async with anyio.create_task_group() as group:
                group.start_soon(_later, second)
                assert await process.wait_many_async([first, second]) == [second]
            first.terminate()
            both = await process.wait_many_async([first, second], count=None)
            assert {*both} == {first, second}

    async def _later(child: Process) -> None:
        await anyio.wait_all_tasks_blocked()
        child.terminate()

    anyio.run(main, backend=backend)


@each_backend
@pytest.mark.requires_kernel("PIDFD_INFO_EXIT")
def test_wait_async_for_somebody_elses(backend: str) -> None:
    async def main() -> None:
        pid, end = stranger()
        with Process.open(pid) as other:
            until(lambda: other.ended)
            async with anyio.create_task_group() as group:
                group.start_soon(_close, end)
                assert await other.wait_async() == 9
        os.waitpid(-1, 0)

    async def _close(end: int) -> None:
        await anyio.wait_all_tasks_blocked()
        os.close(end)

    anyio.run(main, backend=backend)


def test_any_number_with_one_descriptor_more() -> None:
    running = [process.spawn(CAT, stdin=PIPE) for _ in range(100)]
    for one in running:
        one.terminate()

    assert len(process.wait_many(running, count=None)) == 100
    assert all(one.returncode == -signal.SIGTERM for one in running)
    for one in running:
        one.close()
