"""A ring of io_uring whose memory is a mailbox's: submitting writes there, and maps nothing."""

import os
import struct

from tests.model.linux.agents import Agents

__all__ = ["PARAMS_SIZE", "RealRing"]

NO_MMAP = 1 << 14
FIXED_FD_INSTALL, FIXED_FILE = 54, 1
PARAMS = struct.Struct("=8xI60xQ32xQ")
PARAMS_SIZE = PARAMS.size
ENTRIES_AT = 0x1000


class RealRing:
    """The two pages of a ring.

    Args:
        agents: whose memory it is.
        index: of the mailbox of the task that sets the ring up.
        place: which of the rings of this task.
    """

    def __init__(self, agents: Agents, index: int, place: int) -> None:
        self._view, self._address = agents.ring(index, place)
        self._view[:] = bytes(len(self._view))

    def params(self) -> bytes:
        """What io_uring_setup(2) is told: where the memory is."""
        return PARAMS.pack(NO_MMAP, self._address + ENTRIES_AT, self._address)

    def set_up(self, params: bytes) -> None:
        """Learn from what io_uring_setup(2) answered where things are."""
        words = struct.unpack("=30I", params)
        self._head, self._tail, self._mask, self._array = words[10], words[11], words[12], words[16]
        self._done, self._done_mask, self._results = words[20], words[22], words[25]

    def submit_install(self, index: int, flags: int) -> None:
        """Put an IORING_OP_FIXED_FD_INSTALL into the queue."""
        tail = self._word(self._tail)
        entry = tail & self._word(self._mask)
        struct.pack_into("=I", self._view, self._array + 4 * entry, entry)
        at = ENTRIES_AT + 64 * entry
        self._view[at : at + 64] = struct.pack(
            "=BBHiQQII32x", FIXED_FD_INSTALL, FIXED_FILE, 0, index, 0, 0, 0, flags
        )
        struct.pack_into("=I", self._view, self._tail, tail + 1)

    def withdraw(self) -> None:
        """Forget what was submitted, if the kernel did not take it."""
        struct.pack_into("=I", self._view, self._tail, self._word(self._head))

    def result(self) -> int:
        """Take the result of what was submitted: a number, or OSError."""
        head = self._word(self._done)
        at = self._results + 16 * (head & self._word(self._done_mask))
        result = int(struct.unpack_from("=i", self._view, at + 8)[0])
        struct.pack_into("=I", self._view, self._done, head + 1)
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return result

    def _word(self, at: int) -> int:
        return int(struct.unpack_from("=I", self._view, at)[0])
