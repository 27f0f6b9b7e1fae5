"""The question for what a store keeps, and both sides of its answer.

The question is a datagram with one end of a pair of SOCK_SEQPACKET sockets. The answer is one message
for up to 253 descriptors, with a line ``FDNAME=name`` for each, and a last one that tells their number.
A manager that does not know the question closes the end.
"""

import errno
import socket
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from fdproof import passing
from fdproof._creating import socketpair
from fdproof._descriptor import Descriptor
from fdproof.handover._datagram import MOST_FILES, RESTORE, encoded
from fdproof.handover._handed import Handed

__all__ = ["Answer", "Restoring"]

_LINE = "FDNAME="
_LAST = "FDPROOF_RESTORED="
# Lines with the longest names there are.
_LONGEST = MOST_FILES * (len(_LINE) + 256)


class Restoring:
    """The asking side: collects the answer, all of it or nothing.

    Leaving the ``with`` block closes what ``handed`` has not given away.

    Attributes:
        question: the datagram.
        theirs: the end of the pair that goes with it.
        done: whether the answer is complete.
    """

    question = encoded({RESTORE: "1"})

    def __init__(self) -> None:
        self._ours, self.theirs = socketpair(type=socket.SOCK_SEQPACKET)
        self._names: list[str] = []
        self._owners: list[Descriptor] = []
        self.done = False

    def fileno(self) -> int:
        """Return the number of the end on which the answer arrives."""
        return self._ours.fileno()

    def receive(self) -> None:
        """Take one message of the answer.

        Raises:
            ConnectionResetError: the other side went away in the middle, or does not keep to the rules.
            TruncatedError: the table is full; it owns what came.
        """
        message = passing.receive(self._ours, _LONGEST, MOST_FILES)
        self._owners += message.files
        text = message.data.decode("ascii", "replace")
        if not text and not self._owners:
            # Closed without a word: nobody there who knows the question.
            self.done = True
        elif text.startswith(_LAST) and text[len(_LAST) :] == str(len(self._owners)):
            self.done = True
        else:
            names = [line[len(_LINE) :] for line in text.split("\n") if line.startswith(_LINE)]
            self._names += names
            if not names or len(self._names) != len(self._owners):
                raise ConnectionResetError(
                    errno.ECONNRESET, "the store went away while it handed over what it keeps"
                )

    def handed(self) -> Handed:
        """Give away what came; this object owns none of it any more."""
        handed = Handed(self._names, self._owners)
        self._owners = []
        return handed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ours.close()
        self.theirs.close()
        for owner in self._owners:
            owner.close()


class Answer:
    """The answering side: sends as far as there is room, and never waits.

    Args:
        uid: whom it is for.
        end: where it goes; this object closes it.
        kept: names and descriptors. Those that are closed before their turn are left out.
    """

    def __init__(self, uid: int, end: Descriptor, kept: Sequence[tuple[str, Descriptor]]) -> None:
        self.uid = uid
        self._end = end
        self._left = deque(kept)
        self._sent = 0

    def fileno(self) -> int:
        """Return the number of the end, which is writable when there is room."""
        return self._end.fileno()

    def go_on(self) -> bool:
        """Send what there is room for.

        Returns:
            True when the answer is complete.

        Raises:
            OSError: EPIPE, whoever asked is gone; ETOOMANYREFS, too many descriptors of this user are
                under way.
        """
        try:
            while part := self._part():
                data = "\n".join(_LINE + name for name, _ in part).encode()
                passing.send(self._end, data, [file for _, file in part], flags=socket.MSG_DONTWAIT)
                self._sent += len(part)
                for _ in range(len(part)):
                    self._left.popleft()
            passing.send(self._end, f"{_LAST}{self._sent}".encode(), flags=socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        return True

    def _part(self) -> list[tuple[str, Descriptor]]:
        self._left = deque(one for one in self._left if not one[1].closed)
        return [self._left[index] for index in range(min(len(self._left), MOST_FILES))]

    def close(self) -> None:
        """Close the end, which whoever asked sees; twice is quiet."""
        self._end.close()
