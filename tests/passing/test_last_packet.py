"""The last packet of a peer that has closed is not taken for the end.

Linux tells the end of a SOCK_SEQPACKET too early when the peer sends and closes between its two looks at the
queue. That moment is too short to be met on purpose, so a supervisor brings it about: it answers
the first recvmsg as Linux does then, and lets the next through.
"""

import os
import socket
import struct

import pytest

import fdproof
from fdproof import notifier, passing
from fdproof.notifier import Filter, Notification
from tests.passing.raw import pair

_CONTROL_LENGTH_AT = 40


def _say_end(call: Notification) -> None:
    """Answer a recvmsg with nothing: 0, and no control messages."""
    header = call.arguments[1]
    memory = os.open(f"/proc/{call.pid}/mem", os.O_WRONLY)
    try:
        os.pwrite(memory, struct.pack("Q", 0), header + _CONTROL_LENGTH_AT)
    finally:
        os.close(memory)
    call.reply(0)


@pytest.mark.requires_kernel("seccomp notifier", "pidfd_getfd")
@pytest.mark.parametrize("flags", [0, socket.MSG_DONTWAIT])
def test_what_came_between_two_looks_is_received(flags: int) -> None:
    with pair("seqpacket") as (near, far), fdproof.memfd("last") as file:
        passing.send(near, b"last", [file])
        near.close()

        def receive_all() -> None:
            with passing.receive(far, 100, 1, flags=flags) as message:
                assert (message.data, len(message.files)) == (b"last", 1)
            assert passing.receive(far, 100, 1, flags=flags).data == b""

        with notifier.fork(Filter(["recvmsg"]), receive_all) as target:
            calls = iter(target.listener)
            _say_end(next(calls))
            for call in calls:
                call.resume()
            assert target.wait() == 0


def test_empty_packets_of_a_living_peer_are_received_one_by_one() -> None:
    with pair("seqpacket") as (near, far):
        for data in (b"", b"", b"then"):
            passing.send(near, data)
        assert [passing.receive(far, 100).data for _ in range(3)] == [b"", b"", b"then"]
