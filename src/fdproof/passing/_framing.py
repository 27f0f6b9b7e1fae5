"""Messages on a stream: a header, one byte for each further part of the descriptors, then the data.

The header brings up to 253 descriptors itself. Neither side reads or writes beyond the message, and
neither waits: ``go_on`` does what can be done at once.
"""

import errno
import socket
import struct
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Never

from fdproof._descriptor import Descriptor
from fdproof._errors import StateError, TruncatedError
from fdproof.passing._message import Message
from fdproof.passing._receive import receive
from fdproof.passing._records import Credentials
from fdproof.passing._send import send
from fdproof.passing._stream import opened
from fdproof.process import Process

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["HEADER", "MAGIC", "Incoming", "Outgoing"]

# Magic, number of descriptors, number of bytes.
HEADER = struct.Struct("!4sIQ")
MAGIC = b"fdp\x01"

# KERNEL: SCM_MAX_FD
_MOST_FILES = 253
# Data up to here travels with the header, in one system call.
_SHORT = 1 << 16
# What is read at once: memory is taken for what has come, not for what a header promises.
_PIECE = 1 << 18
_CARRIER = b"\0"

_GONE = "the peer went away in the middle of a message"


class Outgoing:
    """A message on its way out.

    Args:
        data: bytes-like; not to be changed before the message has gone.
        files: to be kept open until the message has gone.

    Attributes:
        half: whether a part of it has gone, or may have, and not the whole.

    Raises:
        TypeError, OSError, ClosedError: an argument cannot be sent; see ``Channel.send``.
    """

    def __init__(self, data: "Buffer", files: Iterable[Any]) -> None:
        try:
            body = memoryview(data).cast("B")
        except TypeError:
            raise TypeError(f"data: takes bytes or another buffer, not {data!r}") from None
        given = opened(files)
        header = HEADER.pack(MAGIC, len(given), len(body))
        groups = [given[first : first + _MOST_FILES] for first in range(0, len(given), _MOST_FILES)]
        self._parts: deque[tuple[memoryview, tuple[Any, ...]]] = deque()
        self.half = False
        first = groups[0] if groups else ()
        if len(groups) <= 1 and len(body) <= _SHORT:
            self._parts.append((memoryview(header + body.tobytes()), first))
            return
        self._parts.append((memoryview(header), first))
        self._parts += ((memoryview(_CARRIER), group) for group in groups[1:])
        if body:
            self._parts.append((body, ()))

    def go_on(self, sock: Descriptor) -> bool:
        """Send as far as there is room; return whether all of it has gone.

        Raises:
            OSError: as for ``send``.
        """
        while self._parts:
            data, files = self._parts[0]
            before, self.half = self.half, True
            try:
                sent = send(sock, data, files, flags=socket.MSG_DONTWAIT)
            except OSError as error:
                # What a signal handler raises may come when the part has gone: only an error of the
                # kernel says that it has not.
                self.half = before or not error.errno
                if isinstance(error, BlockingIOError):
                    return False
                raise
            if sent == len(data):
                self._parts.popleft()
            else:
                # The descriptors went with the first byte.
                self._parts[0] = (data[sent:], ())
        self.half = False
        return True


class _Unfinished:
    """What has come of one message."""

    __slots__ = ("bytes_left", "count", "credentials", "files", "head", "pieces", "process")

    def __init__(self) -> None:
        self.head = b""
        # Both are known once the header is complete.
        self.count: int | None = None
        self.bytes_left = 0
        self.files: list[Descriptor] = []
        self.pieces: list[bytes] = []
        self.credentials: Credentials | None = None
        self.process: Process | None = None

    @property
    def complete(self) -> bool:
        return self.count == len(self.files) and not self.bytes_left

    def add(self, part: Message) -> None:
        """Own what a part brought; credentials and process are those of the first that has any."""
        self.files += part.files
        if self.process is None:
            self.process = part.process
        elif part.process is not None:
            part.process.close()
        if self.credentials is None:
            self.credentials = part.credentials

    def message(self) -> Message:
        return Message(
            b"".join(self.pieces),
            self.files,
            credentials=self.credentials,
            process=self.process,
        )


class Incoming:
    """Messages on their way in, one after the other; it owns what has come of the present one.

    Args:
        max_bytes, max_files: the most that a message may have.
    """

    def __init__(self, max_bytes: int, max_files: int) -> None:
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._now = _Unfinished()
        # Why nothing can be received any more.
        self._lost: str | None = None

    def go_on(self, sock: Descriptor) -> Message | None:
        """Receive what is there; return the message once it is complete.

        Raises:
            EOFError: the peer closed its end after a whole message.
            StateError: a message was lost before.
            TruncatedError, OSError: see ``Channel.receive``; nothing can be received any more.
        """
        # It may be complete already, if an interrupt came before it was handed out.
        while not self._now.complete:
            if not self._receive(sock):
                return None
        message = self._now.message()
        # OWNERSHIP: in one step, from here to the caller.
        self._now = _Unfinished()
        return message

    def _receive(self, sock: Descriptor) -> bool:
        """Receive one part of the message; return False if there is none."""
        if self._lost is not None:
            raise StateError(f"nothing can be received any more, because {self._lost}")
        # INVARIANT: it stands here from before the call until what came is kept, so no interrupt in
        # between can make the next part look like this one.
        self._lost = "an interrupt came in the middle of a message"
        try:
            part = receive(sock, *self._wanted(), flags=socket.MSG_DONTWAIT)
        except TruncatedError as error:
            self._truncated(error)
        except OSError as error:
            # What a signal handler raises may come when a part was taken: only an error of the kernel
            # says that nothing was.
            if error.errno:
                self._lost = None
            if isinstance(error, BlockingIOError):
                return False
            if self._now.head and self._lost is None:
                self._lost = _GONE
            self.close()
            raise
        if not part.data:
            self._ended()
        self._keep(part)
        self._lost = None
        return True

    def _wanted(self) -> tuple[int, int]:
        """Return the most bytes, and the most descriptors, that the next part may have."""
        now = self._now
        if now.count is None:
            room = max(self._max_files - len(now.files), 0)
            return HEADER.size - len(now.head), min(room, _MOST_FILES)
        if missing := now.count - len(now.files):
            return len(_CARRIER), min(missing, _MOST_FILES)
        return min(now.bytes_left, _PIECE), 0

    def _keep(self, part: Message) -> None:
        now = self._now
        expected = self._wanted()[1]
        now.add(part)
        if now.count is None:
            now.head += part.data
            if len(now.head) == HEADER.size:
                now.count, now.bytes_left = self._read_header(now.head)
                if len(now.files) != min(now.count, _MOST_FILES):
                    self._refuse(f"{len(now.files)} descriptors came with its header")
        elif expected:
            if len(part.files) != expected:
                self._refuse(f"{len(part.files)} descriptors came where {expected} were due")
        else:
            now.pieces.append(part.data)
            now.bytes_left -= len(part.data)

    def _read_header(self, head: bytes) -> tuple[int, int]:
        magic, count, length = HEADER.unpack(head)
        if magic != MAGIC:
            self._refuse(f"its message begins with {head!r}")
        if count > self._max_files or length > self._max_bytes:
            self._lose(
                OSError(
                    errno.EMSGSIZE,
                    f"the peer's message of {length} bytes and {count} descriptors is larger than this "
                    f"end takes (max_bytes={self._max_bytes}, max_files={self._max_files})",
                )
            )
        return count, length

    def _ended(self) -> Never:
        if self._now.head:
            self._lose(ConnectionResetError(errno.ECONNRESET, _GONE))
        self._lost = None
        raise EOFError("the peer has closed its end, or will send nothing more")

    def _truncated(self, error: TruncatedError) -> Never:
        """Own what came of the message in one error, or refuse a peer that sent what it may not."""
        part: Message = error.message
        now = self._now
        count = now.count
        if count is None and len(head := now.head + part.data) == HEADER.size:
            now.head = head
            count = HEADER.unpack(head)[1]
        now.add(part)
        if error.reason == "room":
            if now.count is None and count is not None:
                # Announced, and more than this end takes? Then that is what is wrong.
                self._read_header(now.head)
            self._refuse(f"{error.came} descriptors came where {error.asked} could be due")
        whole = now.message()
        # OWNERSHIP: the error owns all of it from here on.
        self._now = _Unfinished()
        self._lost = "a part of a message was lost"
        asked = error.asked if count is None else count
        raise TruncatedError(
            f"{len(whole.files)} of the {asked} descriptors of a message arrived; of its last part: {error}",
            whole,
            error.reason,
            came=len(whole.files),
            asked=asked,
        ) from None

    def _refuse(self, what: str) -> Never:
        self._lose(OSError(errno.EPROTO, f"the peer does not speak as a Channel does: {what}"))

    def _lose(self, error: OSError) -> Never:
        self._lost = error.strerror
        self.close()
        raise error

    def close(self) -> None:
        """Close what has come of an unfinished message; twice is quiet."""
        unfinished, self._now = self._now, _Unfinished()
        unfinished.message().close()
