"""Calls of the seccomp notifier, and of io_uring's fixed files."""

import struct
from collections.abc import Sequence

from fdproof.model import Notification
from tests.model.linux.agents import number_of
from tests.model.linux.calling import Caller, nothing
from tests.model.linux.ring import PARAMS_SIZE, RealRing

__all__ = ["SupervisionCalls"]

PR_SET_NO_NEW_PRIVS = 38
SECCOMP_SET_MODE_FILTER, NEW_LISTENER = 1, 1 << 3
ALLOW, USER_NOTIF = 0x7FFF0000, 0x7FC00000
NOTIF_RECV, NOTIF_SEND, NOTIF_ID_VALID = 0xC0502100, 0xC0182101, 0x40082102
NOTIF_ADDFD, NOTIF_SET_FLAGS = 0x40182103, 0x40082104
REGISTER_FILES, UNREGISTER_FILES, REGISTER_FILES_UPDATE, GET_EVENTS = 2, 3, 6, 1

_TRAPPED: dict[int, str] = {}
"""The names of the calls that filters stop."""


class SupervisionCalls(Caller):
    """The calls of notifier and rings, as methods of `fdproof.model.Task`."""

    def seccomp(self, calls: Sequence[str], flags: int = 0) -> int:
        """seccomp(2) with a filter that stops these calls; no_new_privs is set before."""
        numbers = [number_of(call) for call in calls]
        program = struct.pack("=HBBI", 0x20, 0, 0, 0)
        for left, number in zip(range(len(numbers), 0, -1), numbers, strict=True):
            program += struct.pack("=HBBI", 0x15, left, 0, number)
        program += struct.pack("=HBBI", 0x06, 0, 0, ALLOW)
        program += struct.pack("=HBBI", 0x06, 0, 0, USER_NOTIF)
        self.system("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        code = self.put(program)
        header = self.put(struct.pack("=H6xQ", len(program) // 8, code))
        _TRAPPED.update(zip(numbers, calls, strict=True))
        return self.system("seccomp", SECCOMP_SET_MODE_FILTER, NEW_LISTENER | flags, header)

    def notif_recv(self, fd: int) -> Notification:
        address = self.put(bytes(80))

        def notification(_: int) -> Notification:
            id, pid, number, *arguments = struct.unpack("=QI4xi12x6Q", self.taken(address, 80))
            return Notification(id, pid, _TRAPPED[number], tuple(arguments))

        return self.reading(notification, "ioctl", fd, NOTIF_RECV, address)

    def notif_send(
        self, fd: int, id: int, *, value: int = 0, error: int = 0, flags: int = 0
    ) -> None:
        address = self.put(struct.pack("=QqiI", id, value, -error, flags))
        self.reading(nothing, "ioctl", fd, NOTIF_SEND, address)

    def notif_id_valid(self, fd: int, id: int) -> None:
        address = self.put(struct.pack("=Q", id))
        self.reading(nothing, "ioctl", fd, NOTIF_ID_VALID, address)

    def notif_addfd(
        self, fd: int, id: int, srcfd: int, *, flags: int = 0, newfd: int = 0, newfd_flags: int = 0
    ) -> int:
        address = self.put(struct.pack("=QIiiI", id, flags, srcfd, newfd, newfd_flags))
        return self.system("ioctl", fd, NOTIF_ADDFD, address)

    def notif_set_flags(self, fd: int, flags: int) -> None:
        self.reading(nothing, "ioctl", fd, NOTIF_SET_FLAGS, flags)

    def io_uring_setup(self, entries: int) -> int:
        """io_uring_setup(2) on memory of ours, so that nothing has to be mapped."""
        ring = RealRing(self.agents, self.index, len(self.kernel.rings))
        params = self.put(ring.params())

        def set_up(number: int) -> int:
            ring.set_up(self.taken(params, PARAMS_SIZE))
            self.kernel.rings[self.pid, number] = ring
            return number

        return self.reading(set_up, "io_uring_setup", entries, params)

    def io_uring_register_files(self, ring: int, numbers: Sequence[int]) -> None:
        address = self.put(struct.pack(f"={len(numbers)}i", *numbers))
        self.reading(nothing, "io_uring_register", ring, REGISTER_FILES, address, len(numbers))

    def io_uring_update(self, ring: int, offset: int, numbers: Sequence[int]) -> int:
        files = self.put(struct.pack(f"={len(numbers)}i", *numbers))
        update = self.put(struct.pack("=I4xQ", offset, files))
        return self.system("io_uring_register", ring, REGISTER_FILES_UPDATE, update, len(numbers))

    def io_uring_unregister_files(self, ring: int) -> None:
        self.reading(nothing, "io_uring_register", ring, UNREGISTER_FILES, 0, 0)

    def io_uring_install(self, ring: int, index: int, flags: int = 0) -> int:
        """IORING_OP_FIXED_FD_INSTALL, submitted and waited for.

        Which ring it is, only its maker's number tells; under another, the world's only ring is meant.
        """
        rings = self.kernel.rings
        known = rings.get((self.pid, ring), next(iter(rings.values()), None))
        if known is None:
            return self.system("io_uring_enter", ring, 1, 1, GET_EVENTS, 0, 0)
        known.submit_install(index, flags)
        try:
            return self.reading(
                lambda _: known.result(), "io_uring_enter", ring, 1, 1, GET_EVENTS, 0, 0
            )
        except BaseException:
            known.withdraw()
            raise
