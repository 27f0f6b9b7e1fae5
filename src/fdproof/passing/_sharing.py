"""Descriptors that lie ready for a process that will ask: what stands behind a pickled one until it is fetched.

``multiprocessing.resource_sharer`` has the same task. When it cannot start its thread it never answers
anybody, it listens to one asker at a time, and what goes wrong between its steps stays open.

Asking is one datagram, which shows a secret and brings a socket for the answer. So the thread never waits for
an asker, and an asker whose question is lost in any way finds the end of its socket.
"""

import errno
import functools
import hmac
import os
import secrets
import select
import signal
import socket
import threading
from multiprocessing import util

from fdproof._creating import socketpair
from fdproof._descriptor import Descriptor
from fdproof._errors import TruncatedError
from fdproof.passing._forking import forget
from fdproof.passing._receive import receive
from fdproof.passing._send import send
from fdproof.passing._stream import shut_down

__all__ = ["Claim", "fetch", "share", "stop_sharing"]

_SECRET_BYTES = 16

# Where to ask, what to show there, and what must be shown in return: the name of a process that has ended
# may be a stranger's by now. All three travel in the pickle and nowhere else.
Claim = tuple[bytes, bytes, bytes]


class _Sharer:
    """What this process keeps ready, and the thread that hands it out."""

    def __init__(self) -> None:
        # A fork waits for it, so that no child inherits what is in nobody's place at that moment.
        self._lock = threading.RLock()
        self._kept: dict[bytes, tuple[bytes, Descriptor]] = {}
        # The socket where this process is asked, once it is needed, and its name.
        self._place: list[Descriptor] = []
        self._address = b""
        self._thread: threading.Thread | None = None
        # No bytecode runs in these: what is raised there is lost, a KeyboardInterrupt too.
        os.register_at_fork(
            before=self._lock.acquire,
            after_in_parent=self._lock.release,
            after_in_child=functools.partial(forget, self._kept, self._place, self._lock),
        )

    def keep(self, descriptor: Descriptor) -> Claim:
        with self._lock:
            copy = descriptor.duplicate()
            try:
                name = self._name()
                question = secrets.token_bytes(_SECRET_BYTES)
                answer = secrets.token_bytes(_SECRET_BYTES)
                # OWNERSHIP: what is kept is closed once it was sent, or by ``stop``.
                self._kept[question] = answer, copy
            except BaseException:
                copy.close()
                raise
            return name, question, answer

    def stop(self) -> None:
        with self._lock:
            place, thread = self._place.pop() if self._place else None, self._thread
            self._thread = None
            self._drop()
        if place is not None and thread is not None:
            try:
                # It wakes the thread, which finds that it is not wanted any more.
                shut_down(place, socket.SHUT_RDWR)
                thread.join()
            finally:
                place.close()

    def _drop(self) -> None:
        while self._kept:
            _, (_, copy) = self._kept.popitem()
            copy.close()

    def _name(self) -> bytes:
        """The name of the socket where this process is asked, made when it is first needed."""
        if not self._place:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                # The kernel chooses an abstract name, which leaves no file behind.
                sock.bind("")
                self._address = sock.getsockname()
                place = Descriptor(sock)
            except BaseException:
                sock.close()
                raise
            try:
                poll = select.poll()
                poll.register(place, select.POLLIN)
                thread = threading.Thread(
                    target=self._serve, args=(place, poll), name="fdproof.passing", daemon=True
                )
                thread.start()
            except BaseException:
                shut_down(place, socket.SHUT_RDWR)
                place.close()
                raise
            self._place.append(place)
            self._thread = thread
        return self._address

    def _serve(self, place: Descriptor, poll: select.poll) -> None:
        # Signals are for the threads that wait for them.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            poll.poll()
            with self._lock:
                if place not in self._place:
                    return
                self._answer(place)

    def _answer(self, place: Descriptor) -> None:
        try:
            asked = receive(place, _SECRET_BYTES, 1, flags=socket.MSG_DONTWAIT)
        except TruncatedError as error:
            # The table is full, or it was not ours: the asker finds the end of its socket.
            error.close()
            return
        except OSError:
            return
        with asked:
            if not asked.files or asked.data not in self._kept:
                return
            answer, copy = self._kept.pop(asked.data)
            with copy:
                try:
                    send(asked.files[0], answer, [copy], flags=socket.MSG_DONTWAIT)
                except OSError:
                    pass  # the asker is gone, and what it asked for with it


_sharer = _Sharer()
# After the end of multiprocessing's children, who may ask until then.
util.Finalize(None, _sharer.stop, exitpriority=-50)


def share(descriptor: Descriptor) -> Claim:
    """Keep a duplicate ready for the first who shows the claim.

    Raises:
        OSError: EMFILE, ENFILE: there is no number for it, or for the socket of the first.
        RuntimeError: the thread that answers cannot be started.
    """
    return _sharer.keep(descriptor)


def fetch(claim: Claim) -> Descriptor:
    """Ask for a descriptor that another process keeps ready.

    Returns:
        The descriptor's owner.

    Raises:
        ConnectionRefusedError: ECONNREFUSED, the process has ended, or stopped sharing.
        EOFError: it does not keep this one any more.
        TruncatedError: the table of this process is full. The error owns nothing.
        OSError: EMFILE, ENFILE: there is no number to ask with.
    """
    name, question, answer = claim
    with socketpair(type=socket.SOCK_SEQPACKET) as (ours, theirs):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
            try:
                send(asking, question, [theirs], address=name)
            except (ConnectionRefusedError, BrokenPipeError):
                raise ConnectionRefusedError(
                    errno.ECONNREFUSED,
                    "the process that sent this Descriptor has ended or stopped sharing, and the "
                    "descriptor is closed",
                ) from None
        theirs.close()
        try:
            message = receive(ours, _SECRET_BYTES, 1)
        except TruncatedError as error:
            error.close()
            raise
    if not message.files or not hmac.compare_digest(message.data, answer):
        message.close()
        raise EOFError(
            "the process that sent this Descriptor does not keep it any more, because it was fetched before, "
            "or has no number left to take the question"
        )
    (descriptor,) = message.files
    return descriptor


def stop_sharing() -> None:
    """Close what was pickled for other processes and never fetched, and end the thread that hands it out.

    ``multiprocessing`` pickles a Descriptor that is sent, queued, or given to a pool; a duplicate of it is kept
    until the receiver has it. Pickling the next one starts the thread again. The end of the process
    does the same as this.
    """
    _sharer.stop()
