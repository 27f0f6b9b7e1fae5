"""A Unix socket at a path: bound at once with its permissions, removed with its owner."""

import errno
import os
import secrets
import socket
import stat
from types import TracebackType
from typing import Self

__all__ = ["Place"]

# Of sun_path, without the NUL and without the suffix that a socket has before it is published.
_LONGEST = 107
_SUFFIX = 7


class Place:
    """A socket bound at a path; leaving the ``with`` block closes it and removes the path.

    It appears there with its permissions, and only if nobody listens there: what a dead process left
    is replaced, a living one's socket is not.

    Args:
        path: where; 100 bytes at most.
        sock: an unbound Unix socket, which this object closes from now on.
        mode: permissions; writing is what a sender needs.
        backlog: listen, with room for so many; None for a type that does not.

    Attributes:
        path: absolute.
        socket: the socket.

    Raises:
        FileExistsError: there is something at the path that is no socket.
        OSError: EADDRINUSE, somebody listens there; ENOENT, EACCES and others, with the path.
        ValueError: the path is too long.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        sock: socket.socket,
        *,
        mode: int = 0o600,
        backlog: int | None = None,
    ) -> None:
        self.socket = sock
        # Whose it is, and what: a forked child closes the socket and leaves the path.
        self._published: tuple[int, int, int] | None = None
        try:
            self.path = self._checked(path)
            self._publish(mode, backlog)
        except BaseException:
            self.close()
            raise

    @classmethod
    def inherited(cls, path: str | os.PathLike[str], sock: socket.socket) -> Self:
        """Take over the place of another process, which has left it or is about to.

        Args:
            path: where that process has published it.
            sock: a descriptor of the same socket, which this object closes from now on.
        """
        place = cls.__new__(cls)
        place.socket = sock
        place.path = os.path.abspath(os.fspath(path))
        try:
            found = os.lstat(place.path)
        except FileNotFoundError:
            place._published = None
        else:
            place._published = os.getpid(), found.st_dev, found.st_ino
        return place

    def _checked(self, path: str | os.PathLike[str]) -> str:
        whole = os.path.abspath(os.fspath(path))
        if len(os.fsencode(whole)) > _LONGEST - _SUFFIX:
            raise ValueError(
                f"path: {whole!r} is longer than the {_LONGEST - _SUFFIX} bytes that the address of a "
                "socket has room for: choose a shorter one"
            )
        return whole

    def _publish(self, mode: int, backlog: int | None) -> None:
        hidden = f"{self.path}.{secrets.token_hex((_SUFFIX - 1) // 2)}"
        try:
            self.socket.bind(hidden)
        except OSError as error:
            raise OSError(error.errno, os.strerror(error.errno or 0), self.path) from None
        try:
            os.chmod(hidden, mode)
            if backlog is not None:
                self.socket.listen(backlog)
            found = os.lstat(hidden)
            while True:
                try:
                    # Unlike rename(2), which would replace whatever is there.
                    os.link(hidden, self.path)
                except FileExistsError:
                    self._clear(f"{hidden}~")
                else:
                    self._published = os.getpid(), found.st_dev, found.st_ino
                    return
        finally:
            os.unlink(hidden)

    def _clear(self, aside: str) -> None:
        """Take away what a dead process left at the path."""
        self._refuse_living(self.path)
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            return
        # What was moved is not what was looked at if somebody else has started meanwhile. Then it goes
        # back, and only for that moment nobody was there.
        try:
            self._refuse_living(aside)
        except OSError:
            os.link(aside, self.path)
            raise
        finally:
            os.unlink(aside)

    def _refuse_living(self, path: str) -> None:
        try:
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                raise FileExistsError(
                    errno.EEXIST, "there is something else than a socket", self.path
                )
            with socket.socket(socket.AF_UNIX, self.socket.type) as probe:
                probe.setblocking(False)
                probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except FileExistsError:
            raise
        except OSError as error:
            # Another type of socket, or a full queue: somebody is there.
            if error.errno not in (errno.EPROTOTYPE, errno.EAGAIN):
                raise OSError(error.errno, os.strerror(error.errno or 0), self.path) from None
        raise OSError(errno.EADDRINUSE, "somebody listens there", self.path)

    def leave(self) -> None:
        """Close the socket and leave the path to the process that has inherited it."""
        self._published = None
        self.socket.close()

    def close(self) -> None:
        """Close the socket and remove the path, unless somebody else's socket is there; twice is quiet."""
        published, self._published = self._published, None
        try:
            if published is not None:
                found = os.lstat(self.path)
                if (os.getpid(), found.st_dev, found.st_ino) == published:
                    os.unlink(self.path)
        except FileNotFoundError:
            pass
        finally:
            self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
