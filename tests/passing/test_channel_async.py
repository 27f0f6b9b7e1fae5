"""Channel in asyncio and Trio: waiting, cancelling, and one at a time."""

from collections.abc import Awaitable, Callable

import anyio
import pytest

import fdproof
from fdproof import StateError, passing
from fdproof.passing import Channel
from fdproof.passing._framing import Outgoing

pytestmark = pytest.mark.parametrize("backend", ["asyncio", "trio"])

# More than any socket holds.
LARGE = bytes(3_000_000)


def on(backend: str, main: Callable[[Channel, Channel], Awaitable[None]]) -> None:
    """Run a function with both ends of a channel."""

    async def run() -> None:
        near, far = Channel.pair()
        with near, far:
            await main(near, far)

    anyio.run(run, backend=backend)


def test_messages_wait_for_their_reader(backend: str) -> None:
    async def main(near: Channel, far: Channel) -> None:
        order = []

        async def send() -> None:
            with fdproof.memfd("sent") as file:
                await near.send_async(LARGE, [file] * 600)
            order.append("sent")
            near.end_sending()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            await anyio.wait_all_tasks_blocked()
            order.append("reading")
            with await far.receive_async() as message:
                assert (message.data, len(message.files)) == (LARGE, 600)
        with pytest.raises(EOFError):
            await far.receive_async()
        assert order == ["reading", "sent"]

    on(backend, main)


def test_a_reader_waits_for_its_message(backend: str) -> None:
    async def main(near: Channel, far: Channel) -> None:
        seen = []

        async def receive() -> None:
            seen.append((await far.receive_async()).data)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            await anyio.wait_all_tasks_blocked()
            await near.send_async(b"late")
        assert seen == [b"late"]

    on(backend, main)


def test_one_task_sends_while_another_receives(backend: str) -> None:
    async def main(near: Channel, far: Channel) -> None:
        async def echo() -> None:
            for _ in range(3):
                with await far.receive_async() as message:
                    await far.send_async(message.data, message.files)

        async def send() -> None:
            with fdproof.memfd("sent") as file:
                for size in (0, 10, 300):
                    await near.send_async(LARGE, [file] * size)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(echo)
            tasks.start_soon(send)
            for size in (0, 10, 300):
                with await near.receive_async() as message:
                    assert len(message.files) == size

    on(backend, main)


def test_a_cancelled_receive_goes_on(backend: str) -> None:
    async def main(near: Channel, far: Channel) -> None:
        with fdproof.memfd("sent") as file:
            outgoing = Outgoing(b"data", [file] * 600)
            while outgoing._parts:
                with anyio.move_on_after(0.02) as scope:
                    await far.receive_async()
                assert scope.cancelled_caught
                passing.send(near, *outgoing._parts.popleft())
        with await far.receive_async() as message:
            assert (message.data, len(message.files)) == (b"data", 600)

    on(backend, main)


def test_a_cancelled_send_ends_the_stream(backend: str) -> None:
    async def main(near: Channel, far: Channel) -> None:
        with anyio.move_on_after(0.02) as scope:
            await near.send_async(LARGE)
        assert scope.cancelled_caught
        with pytest.raises(StateError, match="a message was cut off"):
            await near.send_async(b"x")
        with pytest.raises(ConnectionResetError):
            await far.receive_async()

    on(backend, main)


def test_what_is_cancelled_before_it_begins_changes_nothing(backend: str) -> None:
    async def main(near: Channel, far: Channel) -> None:
        near.send(b"waits")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await near.send_async(b"never")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await far.receive_async()
        assert (await far.receive_async()).data == b"waits"
        with pytest.raises(TimeoutError):
            far.receive(timeout=0)

    on(backend, main)


def test_a_second_task_is_refused(backend: str) -> None:
    async def main(near: Channel, far: Channel) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(near.send_async, LARGE)
            tasks.start_soon(near.receive_async)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(StateError, match=r"^somebody else sends at this channel"):
                await near.send_async(b"x")
            with pytest.raises(StateError, match=r"^somebody else receives at this channel"):
                await near.receive_async()
            tasks.cancel_scope.cancel()

    on(backend, main)


def test_the_peers_end_wakes_up_both(backend: str) -> None:
    async def main(near: Channel, far: Channel) -> None:
        async def send() -> None:
            with pytest.raises(BrokenPipeError):
                await near.send_async(LARGE)

        async def receive() -> None:
            with pytest.raises((EOFError, ConnectionResetError)):
                await near.receive_async()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            tasks.start_soon(receive)
            await anyio.wait_all_tasks_blocked()
            far.close()

    on(backend, main)
