"""What a process and its successor say to each other while the one takes over from the other.

    predecessor                     successor
    hello, version          ->
                            <-      take
    offer, names, sockets   ->
                            <-      ready
    live, state, connection ->              any number of them
    all, their number       ->
                            <-      received
    done                    ->

Nothing has changed hands before ``done``, which the predecessor says without waiting. ``no`` may come
from either side before that, with the reason, and ends it. So does the end of the stream.
"""

import contextlib
import errno
import os
import select
import socket
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, NamedTuple

from fdproof import passing
from fdproof._descriptor import Descriptor
from fdproof._errors import Error
from fdproof.handover._waiting import Ways
from fdproof.passing import Channel, Message
from fdproof.passing._deadline import Deadline
from fdproof.passing._stream import ask_who_sends
from fdproof.process import Process

__all__ = ["VERSION", "Line", "Said", "Word", "gone", "permitted"]

VERSION = b"1"


class Word(Enum):
    """What a message says, which is its first line."""

    HELLO = b"hello"
    TAKE = b"take"
    OFFER = b"offer"
    READY = b"ready"
    LIVE = b"live"
    ALL = b"all"
    RECEIVED = b"received"
    DONE = b"done"
    NO = b"no"


_ANYTHING = tuple(word for word in Word if word is not Word.NO)


class Said(NamedTuple):
    """What was heard.

    Attributes:
        body: what comes after the word.
        message: owns the descriptors that came with it.
    """

    word: Word
    body: bytes
    message: Message


def permitted(users: Iterable[int] | None) -> frozenset[int]:
    """Return the users that may take part; None for this process's own and root."""
    return frozenset((os.geteuid(), 0) if users is None else users)


class Line:
    """One side of the conversation; leaving the ``with`` block ends it.

    Args:
        connection: a connected Unix stream socket, which belongs to this object from now on.

    Attributes:
        other: the process at the other end, once it has said something; whoever uses this object
            closes it.

    Raises:
        ValueError: it is another kind of socket; it stays where it was.
        UnsupportedError: before Linux 6.5; the connection is closed.
    """

    def __init__(self, connection: int | Descriptor | socket.socket) -> None:
        self._channel = Channel(connection)
        try:
            ask_who_sends(self._channel)
        except BaseException:
            self._channel.close()
            raise
        self.other: Process | None = None

    def check_user(self, users: frozenset[int]) -> None:
        """Refuse whoever is not among the users.

        Raises:
            PermissionError: EPERM, somebody else has connected, or listens.
        """
        with passing.peer(self._channel) as peer:
            if peer.uid not in users:
                raise PermissionError(
                    errno.EPERM,
                    f"process {peer.pid} of user {peer.uid} is at the other end, and only "
                    f"{' and '.join(map(str, sorted(users)))} may be: see users=",
                )

    async def say(
        self,
        ways: Ways,
        deadline: Deadline,
        word: Word,
        body: bytes = b"",
        files: Sequence[Any] = (),
    ) -> None:
        """Say something.

        Raises:
            ConnectionAbortedError: ECONNABORTED, the other side has said no, and why.
            ConnectionResetError: it went away.
            TimeoutError: the deadline's.
        """
        try:
            await ways.send(self._channel, _spoken(word, body), files, deadline)
        except BrokenPipeError:
            raise self._reason() from None

    def say_now(self, word: Word, body: bytes = b"") -> None:
        """Say something for which there is room; errors as for ``say``."""
        try:
            self._channel.send(_spoken(word, body), timeout=0)
        except BrokenPipeError:
            raise self._reason() from None

    async def hear(self, ways: Ways, deadline: Deadline, *words: Word) -> Said:
        """Wait for one of the words.

        Raises:
            ConnectionAbortedError: ECONNABORTED, the other side says no, and why.
            ConnectionResetError: it went away.
            TimeoutError: the deadline's.
            OSError: EPROTO, it says something else.
        """
        while True:
            # Asked before: what it said until its end is heard.
            ended = self.other is not None and self.other.ended
            try:
                return self.heard(*words)
            except TimeoutError:
                if ended:
                    raise gone() from None
            # The stream does not end with the process if a child of it has the socket too.
            with select.epoll() as poller:
                poller.register(self._channel.fileno(), select.EPOLLIN)
                if self.other is not None:
                    poller.register(self.other.fileno(), select.EPOLLIN)
                await ways.readable(poller.fileno(), deadline)

    def heard(self, *words: Word) -> Said:
        """Return one of the words if it has come already; errors as for ``hear``."""
        try:
            message = self._channel.receive(timeout=0)
        except (EOFError, ConnectionResetError):
            raise gone() from None
        if self.other is not None and message.process is not None:
            # Each message brings its sender, which is known.
            message.process.close()
        said, _, body = message.data.partition(b"\n")
        for word in words:
            if word.value == said:
                return Said(word, body, message)
        message.close()
        if said == Word.NO.value:
            reason = body.decode(errors="replace")
            raise ConnectionAbortedError(
                errno.ECONNABORTED, f"the other process goes on without this one: {reason}"
            )
        raise OSError(errno.EPROTO, f"the other process says {said[:40]!r} out of turn")

    async def meet(self, ways: Ways, deadline: Deadline, word: Word) -> Said:
        """Hear the first word, and know from here on which process says it; errors as for ``hear``."""
        said = await self.hear(ways, deadline, word)
        if said.message.process is None:
            raise OSError(errno.EPROTO, "the other process does not say which one it is")
        self.other = said.message.process
        return said

    def _reason(self) -> ConnectionError:
        """Return why the other side takes nothing any more."""
        try:
            while True:
                self.heard(*_ANYTHING).message.close()
        except ConnectionAbortedError as error:
            return error
        except (OSError, Error):
            return gone()

    def refuse_more(self) -> None:
        """Let the other side say nothing any more; what it has said can still be heard."""
        with contextlib.suppress(OSError, Error):
            self._channel.end_receiving()

    def decline(self, reason: str) -> None:
        """Say no, if the other side can still hear it, and end the conversation."""
        try:
            self._channel.send(_spoken(Word.NO, reason.encode()), timeout=0)
        except (OSError, Error):
            pass
        finally:
            self.close()

    def close(self) -> None:
        """End the conversation without a word; twice is quiet."""
        self._channel.close()


def _spoken(word: Word, body: bytes) -> bytes:
    return word.value + b"\n" + body


def gone() -> ConnectionResetError:
    """Return the error for a process that went away."""
    return ConnectionResetError(errno.ECONNRESET, "the other process went away")
