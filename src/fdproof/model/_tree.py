"""A tree of directories and ordinary files in memory, and how paths lead through it."""

import errno
import os
from typing import TYPE_CHECKING, NamedTuple

from fdproof.model._contents import LARGEST, Contents
from fdproof.model._failure import failure
from fdproof.model._file import File

if TYPE_CHECKING:
    from fdproof.model._caller import Caller
    from fdproof.model._kernel import Kernel

__all__ = ["Directory", "DirectoryFile", "OrdinaryFile", "PathFile", "Place", "Regular", "find"]

_NAME_MAX, _PATH_MAX = 255, 4096
READ, WRITE, SEARCH = 4, 2, 1


class Inode:
    """What a name stands for."""

    def __init__(self, *, mode: int, uid: int = 0, gid: int = 0) -> None:
        self.mode = mode
        self.uid, self.gid = uid, gid

    def permits(self, task: "Caller", wanted: int) -> bool:
        """Say whether a task may do this (READ, WRITE, SEARCH; a sum for several)."""
        if task.uid == 0:
            # KERNEL: what root may not is to execute a file that nobody may.
            return not wanted & SEARCH or isinstance(self, Directory) or bool(self.mode & 0o111)
        shift = 6 if task.uid == self.uid else 3 if task.gid == self.gid else 0
        return self.mode >> shift & wanted == wanted


class Directory(Inode):
    """A directory."""

    def __init__(
        self, parent: "Directory | None" = None, *, mode: int, uid: int = 0, gid: int = 0
    ) -> None:
        super().__init__(mode=mode, uid=uid, gid=gid)
        self.parent = parent or self
        self.names: dict[str, Inode] = {}


class Regular(Inode):
    """An ordinary file, with or without a name."""

    def __init__(self, *, mode: int, uid: int = 0, gid: int = 0) -> None:
        super().__init__(mode=mode, uid=uid, gid=gid)
        self.contents = Contents()


class OrdinaryFile(File):
    """An open ordinary file, of the tree or of memory."""

    can_poll = False
    settable = os.O_APPEND | os.O_NONBLOCK | os.O_NOATIME | os.O_DIRECT

    def __init__(self, kernel: "Kernel", flags: int, inode: Regular) -> None:
        super().__init__(kernel, flags)
        self.inode = inode
        self.owner = inode.uid

    def read(self, count: int) -> bytes:
        data = self.inode.contents.read(self.offset, count)
        self.offset += len(data)
        return data

    def write(self, data: bytes) -> int:
        contents = self.inode.contents
        place = contents.size if self.flags & os.O_APPEND else self.offset
        written = contents.write(place, data)
        if data:
            self.offset = place + written
        return written

    def seek(self, offset: int, whence: int) -> int:
        contents = self.inode.contents
        if whence == os.SEEK_DATA:
            offset = contents.find(offset, data=True)
        elif whence == os.SEEK_HOLE:
            offset = contents.find(offset, data=False)
        else:
            offset += (0, self.offset, contents.size)[whence]
            if not 0 <= offset <= LARGEST:
                raise failure(errno.EINVAL)
        self.offset = offset
        return offset


class DirectoryFile(File):
    """An open directory."""

    can_poll = False
    settable = os.O_APPEND | os.O_NONBLOCK | os.O_NOATIME

    def __init__(self, kernel: "Kernel", flags: int, inode: Directory) -> None:
        super().__init__(kernel, flags)
        self.inode = inode
        self.owner = inode.uid

    def read(self, count: int) -> bytes:
        raise failure(errno.EISDIR)

    def seek(self, offset: int, whence: int) -> int:
        if whence == os.SEEK_CUR:
            offset += self.offset
        if whence not in (os.SEEK_SET, os.SEEK_CUR) or not 0 <= offset <= LARGEST:
            raise failure(errno.EINVAL)
        self.offset = offset
        return offset


class PathFile(File):
    """A place in the tree, without its contents (O_PATH)."""

    def __init__(self, kernel: "Kernel", flags: int, inode: Inode) -> None:
        super().__init__(kernel, flags)
        self.inode = inode
        self.owner = inode.uid


class Place(NamedTuple):
    """Where a path leads: a directory, and a last name in it.

    Args:
        directory: the last directory but one.
        name: the last name; "." or ".." too, and "." for the root itself.
        slash: whether slashes follow, so that it must be a directory.
    """

    directory: Directory
    name: str
    slash: bool

    @property
    def is_plain(self) -> bool:
        """Whether the name is one that can be made."""
        return self.name not in (".", "..")

    @property
    def inode(self) -> Inode | None:
        """What is there, if anything is."""
        if self.name == ".":
            return self.directory
        if self.name == "..":
            return self.directory.parent
        return self.directory.names.get(self.name)


def checked(path: str) -> str:
    """Return a path that can be one (getname).

    Raises:
        OSError: ENOENT, it is empty; ENAMETOOLONG.
    """
    if len(os.fsencode(path)) >= _PATH_MAX:
        raise failure(errno.ENAMETOOLONG)
    if not path:
        raise failure(errno.ENOENT)
    return path


def find(task: "Caller", start: Directory, path: str) -> Place:
    """Walk to the last name of a path.

    Args:
        task: who asks; it must be allowed to search each directory.
        start: where a path begins that has no slash in front.
        path: the path, checked.

    Raises:
        OSError: ENOENT, ENOTDIR, EACCES, ENAMETOOLONG.
    """
    directory = task.kernel.root if path.startswith("/") else start
    names = [name for name in path.split("/") if name]
    if not names:
        return Place(directory, ".", False)
    place = Place(directory, names[0], False)
    for index, name in enumerate(names):
        if not directory.permits(task, SEARCH):
            raise failure(errno.EACCES)
        if len(os.fsencode(name)) > _NAME_MAX:
            raise failure(errno.ENAMETOOLONG)
        last = index == len(names) - 1
        place = Place(directory, name, last and path.endswith("/"))
        if last:
            break
        inode = place.inode
        if inode is None:
            raise failure(errno.ENOENT)
        if not isinstance(inode, Directory):
            raise failure(errno.ENOTDIR)
        directory = inode
    return place
