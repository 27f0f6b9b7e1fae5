"""Store: keeps the descriptors of services over their restarts, for machines without systemd."""

import errno
import os
import resource
import select
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from fdproof import passing
from fdproof._creating import eventfd
from fdproof._descriptor import Descriptor
from fdproof._errors import TruncatedError, UnsupportedError
from fdproof.handover._datagram import (
    BARRIER,
    LONGEST,
    MOST_FILES,
    NAMELESS,
    RESTORE,
    checked_name,
    decoded,
    invalid_name,
)
from fdproof.handover._inherited import socket_kind
from fdproof.handover._place import Place
from fdproof.handover._restoring import Answer
from fdproof.handover._shelf import Kept, RefusedError, Shelf

__all__ = ["Notification", "Refusal", "Store"]

SO_PASSPIDFD = 76

# What a message may bring, and the store's own: room that is not for keeping.
_SPARE = MOST_FILES + 47
# Messages in one go, so that a flood does not keep the store from anything else.
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Notification:
    """What a service has told.

    Attributes:
        fields: all of the message, ``READY`` and ``STATUS`` for instance.
        uid: the user of the sender, as the kernel told it.
        pid: the sender, for people and logs.
    """

    fields: Mapping[str, str]
    uid: int
    pid: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message that the store did not act on; its descriptors are closed.

    Attributes:
        reason: a sentence for people. It may quote the message.
        uid, pid: of the sender; None where the message did not tell.
    """

    reason: str
    uid: int | None
    pid: int | None


class Store:
    """A descriptor store that services reach by NOTIFY_SOCKET, as they reach systemd's.

    It keeps what is pushed until it is removed, hangs up, or the store ends, by user and name: see
    ``docs/explanation/descriptor-store.md`` for who may do what. Whatever a client sends, the store
    goes on, and closes what it does not keep.

    It runs where one of ``serve``, ``serve_async`` or, in an event loop of one's own, ``handle`` is called;
    only ``stop`` may be called from other threads. Leaving the ``with`` block closes it.

    Args:
        path: of its socket, 100 bytes at most. What a dead store left there is replaced.
        mode: the socket's permissions: who can write to it can use the store.
        per_client: the most descriptors of one user.
        total: the most of all users; None for what the limit of open files (RLIMIT_NOFILE) allows
            now, less the room that messages need.
        heard: called with each message's Notification, after the store has acted on it.
        refused: called with each Refusal.

    Raises:
        FileExistsError: there is something at the path that is no socket.
        OSError: EADDRINUSE, another store listens there; ENOENT, EACCES and others, with the path.
        ValueError: the path is too long, or a limit is negative.
        UnsupportedError: before Linux 6.5.

    Kernel: SO_PASSPIDFD (6.5), epoll(7).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        mode: int = 0o600,
        per_client: int = 512,
        total: int | None = None,
        heard: Callable[[Notification], object] | None = None,
        refused: Callable[[Refusal], object] | None = None,
    ) -> None:
        for name, limit in (("per_client", per_client), ("total", total)):
            if limit is not None and limit < 0:
                raise ValueError(f"{name}: takes a number from 0 on, not {limit}")
        self._shelf = Shelf(per_client, _affordable() if total is None else total)
        self._heard = heard
        self._refused = refused
        # One for each client that asks and does not read; what hangs up leads back to what is kept.
        self._answers: dict[int, Answer] = {}
        self._watched: dict[int, Kept | Answer] = {}
        self._stopping = False
        with ExitStack() as owned:
            self._epoll = owned.enter_context(select.epoll())
            self._wake = owned.enter_context(eventfd(nonblocking=True))
            self._place = owned.enter_context(Place(path, _socket(), mode=mode))
            self._epoll.register(self._wake.fileno(), select.EPOLLIN)
            self._epoll.register(self._place.socket.fileno(), select.EPOLLIN)
            self._owned = owned.pop_all()

    @property
    def path(self) -> str:
        """Of the socket, absolute: what services have as NOTIFY_SOCKET."""
        return self._place.path

    def fileno(self) -> int:
        """Return a number that is readable when ``handle`` has something to do."""
        return self._epoll.fileno()

    def kept(self, uid: int | None = None) -> tuple[Kept, ...]:
        """Return what is kept for a user, or for all, in the order in which it came."""
        return self._shelf.of(uid)

    def keep(
        self, name: str, file: Descriptor, *, uid: int | None = None, poll: bool = True
    ) -> None:
        """Keep a descriptor as if a client had pushed it.

        Args:
            name: as for ``Service.push``.
            file: owns nothing any more when this returns, unless the same file is kept already.
            uid: the client; None for this process's user.
            poll: as for ``Service.push``.

        Raises:
            ValueError: the name cannot be, or there is no room; ``file`` still owns its descriptor.
        """
        try:
            self._add(os.getuid() if uid is None else uid, checked_name(name), (file,), poll)
        except RefusedError as refused:
            raise ValueError(f"file: {refused}") from None

    def serve(self) -> None:
        """Receive and answer until ``stop``."""
        while not self._stopping:
            self._epoll_events(-1)
        self._stopping = False

    async def serve_async(self) -> None:
        """As ``serve``, in asyncio or Trio; cancelling it is another way to stop."""
        import anyio

        while not self._stopping:
            await anyio.wait_readable(self.fileno())
            self.handle()
        self._stopping = False

    def stop(self) -> None:
        """End ``serve`` or ``serve_async``, or the next one; for other threads and signal handlers."""
        self._stopping = True
        os.eventfd_write(self._wake.fileno(), 1)

    def handle(self) -> None:
        """Do what there is to do now, without waiting; some of it, when there is much."""
        self._epoll_events(0)

    def close(self) -> None:
        """Close everything that is kept, and remove the socket; twice is quiet."""
        for kept in self.kept():
            self._drop(kept)
        for uid in tuple(self._answers):
            self._end_answer(uid)
        self._owned.close()

    def _epoll_events(self, timeout: float) -> None:
        messages = False
        for number, events in self._epoll.poll(timeout):
            if number == self._place.socket.fileno():
                messages = True
            elif number == self._wake.fileno():
                os.eventfd_read(number)
            else:
                self._act_on(self._watched.get(number), events)
        # Last, because messages change what the other numbers mean.
        if messages:
            for _ in range(_AT_ONCE):
                if not self._receive():
                    break

    def _act_on(self, watched: Kept | Answer | None, events: int) -> None:
        if isinstance(watched, Kept):
            self._drop(watched)
        elif watched is not None:
            self._go_on(watched)

    def _receive(self) -> bool:
        """Take one message and act on it; False if there is none."""
        notification = None
        try:
            message = passing.receive(
                self._place.socket, LONGEST, MOST_FILES, flags=socket.MSG_DONTWAIT
            )
        except BlockingIOError:
            return False
        except TruncatedError as error:
            message, lost = error.message, str(error)
        else:
            lost = ""
        try:
            with message:
                if lost:
                    raise RefusedError(lost)
                notification = self._obey(message)
        except (RefusedError, ValueError, OSError) as reason:
            # An OSError as well: what a stranger has sent may fail to be closed.
            self._refuse(message, str(reason))
        if notification is not None and self._heard is not None:
            self._heard(notification)
        return True

    def _obey(self, message: passing.Message) -> Notification | None:
        """Act on a message; what it brought and is not kept is closed with it.

        Raises:
            RefusedError, ValueError: it is not acted on.
        """
        if message.credentials is None or message.process is None:
            raise RefusedError("the message does not say who has sent it")
        if message.process.ended:
            # Whoever it was: a number of a process that has ended says nothing.
            raise RefusedError(
                "the sender has ended before its message was read: it should wait (barrier)"
            )
        uid, files = message.credentials.uid, message.files
        fields = decoded(message.data)
        if BARRIER in fields or RESTORE in fields:
            if len(fields) > 1 or len(files) != 1:
                raise RefusedError(f"{next(iter(fields))}=1 stands alone and brings one descriptor")
            if RESTORE in fields:
                self._answer(uid, files[0])
            return None
        name = fields.get("FDNAME", NAMELESS)
        if wrong := invalid_name(name):
            raise RefusedError(f"FDNAME: {wrong}")
        if fields.get("FDSTORE") == "1":
            if not files:
                raise RefusedError("FDSTORE=1 brings no descriptor")
            self._add(uid, name, files, fields.get("FDPOLL") != "0")
        elif files:
            raise RefusedError(f"brings {len(files)} descriptors without FDSTORE=1")
        if fields.get("FDSTOREREMOVE") == "1":
            for kept in self._shelf.named(uid, name):
                self._drop(kept)
        return Notification(fields, uid, message.credentials.pid)

    def _add(self, uid: int, name: str, files: Sequence[Descriptor], poll: bool) -> None:
        added = self._shelf.add(uid, name, files, poll=poll)
        for kept in added if poll else ():
            try:
                # Hanging up and failing are told unasked.
                self._epoll.register(kept.file.fileno(), 0)
            except PermissionError:
                pass  # a regular file, which never hangs up
            except OSError as error:
                for one in added:
                    self._drop(one)
                raise RefusedError(
                    f"cannot be watched: {error.strerror}; FDPOLL=0 does without"
                ) from None
            else:
                self._watched[kept.file.fileno()] = kept

    def _drop(self, kept: Kept) -> None:
        # KERNEL: an epoll goes on watching a file that is open elsewhere after the number is closed.
        if self._watched.pop(kept.file.fileno(), None) is not None:
            self._epoll.unregister(kept.file.fileno())
        try:
            self._shelf.drop(kept)
        except OSError as error:
            self._report(Refusal(f"closing {kept.name!r}: {error.strerror}", kept.uid, None))

    def _answer(self, uid: int, end: Descriptor) -> None:
        kind = socket_kind(end)
        if kind is None or kind[:2] != (socket.AF_UNIX, socket.SOCK_SEQPACKET):
            raise RefusedError(f"{RESTORE}=1 brings no Unix socket of the type SOCK_SEQPACKET")
        self._end_answer(uid)
        answer = Answer(uid, Descriptor(end), [(one.name, one.file) for one in self.kept(uid)])
        self._answers[uid] = answer
        self._go_on(answer)

    def _go_on(self, answer: Answer) -> None:
        try:
            if not answer.go_on():
                self._wait_for_room(answer)
                return
        except OSError as error:
            self._report(Refusal(f"the answer was not taken: {error.strerror}", answer.uid, None))
        self._end_answer(answer.uid)

    def _wait_for_room(self, answer: Answer) -> None:
        if answer.fileno() not in self._watched:
            self._epoll.register(answer.fileno(), select.EPOLLOUT)
            self._watched[answer.fileno()] = answer

    def _end_answer(self, uid: int) -> None:
        answer = self._answers.pop(uid, None)
        if answer is None:
            return
        if self._watched.pop(answer.fileno(), None) is not None:
            self._epoll.unregister(answer.fileno())
        answer.close()

    def _refuse(self, message: passing.Message, reason: str) -> None:
        who = message.credentials
        self._report(
            Refusal(reason, None, None) if who is None else Refusal(reason, who.uid, who.pid)
        )

    def _report(self, refusal: Refusal) -> None:
        if self._refused is not None:
            self._refused(refusal)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<fdproof.handover.Store {self.path!r}, {len(self._shelf)} kept>"


def _socket() -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        # Before it has an address: no message comes without its sender.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        sock.setsockopt(socket.SOL_SOCKET, SO_PASSPIDFD, 1)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError) and error.errno == errno.ENOPROTOOPT:
            raise UnsupportedError("SO_PASSPIDFD", "6.5", error.errno) from None
        raise
    return sock


def _affordable() -> int:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(limit - _SPARE, limit // 2)
