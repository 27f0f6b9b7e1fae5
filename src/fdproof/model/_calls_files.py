"""Calls that make files and move data: open, read, write, lseek, pipe2, poll."""

import errno
import os

from fdproof.model._caller import Caller, system_call
from fdproof.model._contents import LARGEST
from fdproof.model._failure import failure
from fdproof.model._file import File
from fdproof.model._pipe import Pipe, ReadEnd, WriteEnd
from fdproof.model._tree import (
    READ,
    SEARCH,
    WRITE,
    Directory,
    DirectoryFile,
    Inode,
    OrdinaryFile,
    PathFile,
    Place,
    Regular,
    checked,
    find,
)

__all__ = ["FileCalls"]

AT_FDCWD = -100
_O_LARGEFILE = 0o100000
_O_TMPFILE = os.O_TMPFILE & ~os.O_DIRECTORY
_WITH_O_PATH = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
_ONLY_AT_OPEN = os.O_CREAT | os.O_EXCL | os.O_NOCTTY | os.O_TRUNC
_KNOWN = (
    _ONLY_AT_OPEN
    | _WITH_O_PATH
    | _O_LARGEFILE
    | os.O_TMPFILE
    | os.O_ACCMODE
    | os.O_APPEND
    | os.O_ASYNC
    | os.O_DIRECT
    | os.O_NOATIME
    | os.O_NONBLOCK
    | os.O_SYNC
)
_MOST_AT_ONCE = 0x7FFFF000
_SEEK_MAX = os.SEEK_HOLE
_POLLNVAL = 0x20
_UMASK = 0o022


class FileCalls(Caller):
    """open, read, write, lseek, pipe2, poll, and what sets a scene."""

    @system_call
    def open(self, path: str, flags: int = 0, mode: int = 0o666) -> int:
        """Open what a path leads to, and return its number; see ``openat``."""
        return self.openat(AT_FDCWD, path, flags, mode)

    @system_call
    def openat(self, dirfd: int, path: str, flags: int = 0, mode: int = 0o666) -> int:
        """Open what a path leads to, and return its number.

        The tree has directories and ordinary files. The umask is 022.

        Args:
            dirfd: a directory, where a path without a slash in front begins; AT_FDCWD (-100) is "/".
            path: the path.
            flags: os.O_*; unknown bits are ignored, as open(2) does.
            mode: the permissions of a new file.

        Raises:
            OSError: EINVAL, flags that exclude each other; ENOENT, ENAMETOOLONG: the path; EMFILE;
                ENFILE; EBADF, ENOTDIR: dirfd; what the walk says; EEXIST, EISDIR, EACCES, EPERM.

        Kernel: open(2).
        """
        close_on_exec, flags = flags & os.O_CLOEXEC, flags & _KNOWN | _O_LARGEFILE
        if flags & os.O_PATH:
            flags &= _WITH_O_PATH
        if flags & _O_TMPFILE:
            if not flags & os.O_DIRECTORY or flags & os.O_CREAT or not flags & os.O_ACCMODE:
                raise failure(errno.EINVAL)
        elif flags & os.O_CREAT and flags & os.O_DIRECTORY:
            raise failure(errno.EINVAL)
        checked(path)
        # KERNEL: the number comes first, so a full table makes no file.
        return self.publish(lambda: self._opened(dirfd, path, flags, mode & 0o7777), close_on_exec)

    @system_call
    def mkdir(self, path: str, mode: int = 0o777) -> None:
        """Make a directory.

        Raises:
            OSError: ENOENT, ENOTDIR, ENAMETOOLONG, EEXIST, EACCES.

        Kernel: mkdir(2).
        """
        place = find(self, self.kernel.root, checked(path))
        if not place.is_plain or place.inode is not None:
            raise failure(errno.EEXIST)
        self._may_change(place.directory)
        place.directory.names[place.name] = Directory(
            place.directory, mode=mode & ~_UMASK, uid=self.uid, gid=self.gid
        )

    @system_call
    def unlink(self, path: str) -> None:
        """Remove the name of an ordinary file, which lives on as long as it is open.

        Raises:
            OSError: ENOENT, ENOTDIR, ENAMETOOLONG, EISDIR, EACCES.

        Kernel: unlink(2).
        """
        place = find(self, self.kernel.root, checked(path))
        if not place.is_plain:
            raise failure(errno.EISDIR)
        if place.inode is None:
            raise failure(errno.ENOENT)
        if place.slash:
            raise failure(errno.EISDIR if isinstance(place.inode, Directory) else errno.ENOTDIR)
        self._may_change(place.directory)
        if isinstance(place.inode, Directory):
            raise failure(errno.EISDIR)
        del place.directory.names[place.name]

    @system_call
    def read(self, fd: int, count: int) -> bytes:
        """Read up to count bytes, from the offset where there is one.

        Raises:
            OSError: EBADF, not open for reading; EISDIR; EINVAL; EAGAIN; ECONNRESET from a socket.

        Kernel: read(2).
        """
        file = self.fget(fd)
        return self.operate(file, lambda: self._read(file, count))

    @system_call
    def write(self, fd: int, data: bytes) -> int:
        """Write bytes, at the offset where there is one, and return how many.

        Raises:
            OSError: EBADF, not open for writing; EINVAL; EPIPE; EAGAIN; EFBIG; ECONNREFUSED, ECONNRESET,
                ENOTCONN from a socket.

        Kernel: write(2).
        """
        file = self.fget(fd)
        return self.operate(file, lambda: self._write(file, data))

    @system_call
    def lseek(self, fd: int, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the offset, which all descriptors of the file share, and return it.

        Raises:
            OSError: EBADF; EINVAL, a bad whence or offset; ESPIPE, no offset; ENXIO, beyond the end.

        Kernel: lseek(2).
        """
        file = self.fget(fd)

        def seek() -> int:
            if not 0 <= whence <= _SEEK_MAX:
                raise failure(errno.EINVAL)
            return file.seek(offset, whence)

        return self.operate(file, seek)

    @system_call
    def pipe2(self, flags: int = 0) -> tuple[int, int]:
        """Make a pipe, and return the number to read from and the number to write to.

        Args:
            flags: O_CLOEXEC, O_NONBLOCK, O_DIRECT (a pipe of packets).

        Raises:
            OSError: EINVAL, other flags; ENFILE; EMFILE.

        Kernel: 2.6.27, pipe2(2).
        """
        if flags & ~(os.O_CLOEXEC | os.O_NONBLOCK | os.O_DIRECT):
            raise failure(errno.EINVAL)
        # KERNEL: files first, then both numbers, and nothing is installed before both are held.
        pipe = Pipe()
        pipe.writer = WriteEnd(
            self.kernel, os.O_WRONLY | flags & (os.O_NONBLOCK | os.O_DIRECT), pipe
        )
        try:
            pipe.reader = ReadEnd(self.kernel, os.O_RDONLY | flags & os.O_NONBLOCK, pipe)
        except OSError:
            self.kernel.fput(pipe.writer)
            raise
        return self.install_pair(pipe.reader, pipe.writer, flags & os.O_CLOEXEC)

    @system_call
    def poll(self, fd: int) -> int:
        """Return all events that the file has now, at once; POLLNVAL (32) for a bad number.

        Nothing for a negative number, which poll(2) passes over.
        """
        if fd < 0:
            return 0
        try:
            file = self.fget(fd)
        except OSError:
            return _POLLNVAL
        return self.operate(file, file.poll)

    def _read(self, file: File, count: int) -> bytes:
        if file.flags & os.O_ACCMODE not in (os.O_RDONLY, os.O_RDWR):
            raise failure(errno.EBADF)
        self._verify_area(file, count)
        return file.read(min(count, _MOST_AT_ONCE))

    def _write(self, file: File, data: bytes) -> int:
        if file.flags & os.O_ACCMODE not in (os.O_WRONLY, os.O_RDWR):
            raise failure(errno.EBADF)
        self._verify_area(file, len(data))
        return file.write(data[:_MOST_AT_ONCE])

    def _verify_area(self, file: File, count: int) -> None:
        # KERNEL: asked of the offset as it is, also where an appending write goes elsewhere.
        if count < 0 or file.offset + count > LARGEST:
            raise failure(errno.EINVAL)

    # -- open

    def _opened(self, dirfd: int, path: str, flags: int, mode: int) -> File:
        # KERNEL: the file comes before the walk, so that a full system makes no name.
        with self.kernel.room_for_file():
            return self._found(dirfd, path, flags, mode)

    def _found(self, dirfd: int, path: str, flags: int, mode: int) -> File:
        place = find(self, self._start(dirfd, path), path)
        if flags & _O_TMPFILE:
            return self._nameless(place, flags, mode)
        if flags & os.O_PATH:
            return PathFile(self.kernel, flags, self._existing(place, flags))
        created = False
        if not flags & os.O_CREAT:
            inode = self._existing(place, flags)
        else:
            inode, created = self._made(place, flags, mode)
        if flags & os.O_CREAT and isinstance(inode, Directory):
            raise failure(errno.EISDIR)
        if not created:
            self._may_open(inode, flags)
        status = flags & ~_ONLY_AT_OPEN
        if isinstance(inode, Directory):
            if flags & os.O_DIRECT:
                raise failure(errno.EINVAL)
            return DirectoryFile(self.kernel, status, inode)
        assert isinstance(inode, Regular)
        file = OrdinaryFile(self.kernel, status, inode)
        file.created = created
        if flags & os.O_TRUNC:
            inode.contents.clear()
        return file

    def _start(self, dirfd: int, path: str) -> Directory:
        if dirfd == AT_FDCWD or path.startswith("/"):
            return self.kernel.root
        file = self.files.lookup(dirfd)
        inode = getattr(file, "inode", None)
        if not isinstance(inode, Directory):
            raise failure(errno.ENOTDIR)
        return inode

    def _existing(self, place: Place, flags: int) -> Inode:
        if place.inode is None:
            raise failure(errno.ENOENT)
        if (place.slash or flags & os.O_DIRECTORY) and not isinstance(place.inode, Directory):
            raise failure(errno.ENOTDIR)
        return place.inode

    def _made(self, place: Place, flags: int, mode: int) -> tuple[Inode, bool]:
        if place.is_plain and place.slash:
            raise failure(errno.EISDIR)
        if place.inode is not None:
            if flags & os.O_EXCL:
                raise failure(errno.EEXIST)
            return place.inode, False
        self._may_change(place.directory)
        inode = Regular(mode=mode & ~_UMASK, uid=self.uid, gid=self.gid)
        place.directory.names[place.name] = inode
        return inode, True

    def _nameless(self, place: Place, flags: int, mode: int) -> File:
        directory = self._existing(place, flags)
        assert isinstance(directory, Directory)
        if not directory.permits(self, WRITE | SEARCH):
            raise failure(errno.EACCES)
        inode = Regular(mode=mode & ~_UMASK, uid=self.uid, gid=self.gid)
        return OrdinaryFile(self.kernel, flags & ~_ONLY_AT_OPEN, inode)

    def _may_open(self, inode: Inode, flags: int) -> None:
        access = flags & os.O_ACCMODE
        wanted = (READ, WRITE, READ | WRITE, READ | WRITE)[access]
        if flags & os.O_TRUNC:
            wanted |= WRITE
        if wanted & WRITE and isinstance(inode, Directory):
            raise failure(errno.EISDIR)
        if not inode.permits(self, wanted):
            raise failure(errno.EACCES)
        if flags & os.O_NOATIME and self.uid not in (0, inode.uid):
            raise failure(errno.EPERM)

    def _may_change(self, directory: Directory) -> None:
        if not directory.permits(self, WRITE | SEARCH):
            raise failure(errno.EACCES)
