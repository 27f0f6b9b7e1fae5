"""The kernel's own functions on descriptors, for those who think in them, with their misuse detected."""

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from fdproof.model._failure import Misuse
from fdproof.model._file import File
from fdproof.model._process import ProcessTable

if TYPE_CHECKING:
    from fdproof.model._task import Task

__all__ = ["AnonymousFile", "Inside", "Prepared"]


class AnonymousFile(File):
    """A file of anon_inode_getfile: nothing is behind it but its name."""

    settable = os.O_APPEND | os.O_NONBLOCK | os.O_NOATIME

    def __init__(self, task: "Task", name: str, flags: int) -> None:
        super().__init__(task.kernel, flags & (os.O_ACCMODE | os.O_NONBLOCK))
        self.name = name


class Prepared:
    """A number and a file that belong together until they are published (FD_PREPARE).

    As a context manager it gives both back at the end of the block, unless they were published.
    """

    def __init__(self, inside: "Inside", fd: int, file: File) -> None:
        self._inside = inside
        self.fd = fd
        self.file: File | None = file

    def discard(self) -> None:
        """Give back what is held; quiet when nothing is."""
        # INVARIANT: what is held decides, not an error of the call.
        file, self.file = self.file, None
        if file is not None:
            self._inside.put_unused_fd(self.fd)
            self._inside.fput(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.discard()


class Inside:
    """One task's side of the kernel: what a system call of it is made of.

    The functions have the kernel's names and do what the kernel's do, except that what would leak or
    corrupt there raises ``Misuse`` here. References and numbers belong to the call that took
    them; ``system_call`` marks its bounds and finds what it left behind.

    Args:
        task: whose call is carried out.
    """

    def __init__(self, task: "Task") -> None:
        self._task = task
        self._kernel = task.kernel
        self._references: Counter[File] = Counter()
        self._numbers: set[int] = set()
        self._published: set[int] = set()

    # -- numbers

    def get_unused_fd_flags(self, flags: int = 0) -> int:
        """Reserve the lowest free number.

        Args:
            flags: O_CLOEXEC or 0.

        Raises:
            OSError: EMFILE.
            Misuse: flags that belong to the file.
        """
        if flags & ~os.O_CLOEXEC:
            raise Misuse(
                f"get_unused_fd_flags: {flags & ~os.O_CLOEXEC:#o} belongs to the file: give it to the "
                "function that makes the file; a number has O_CLOEXEC or nothing"
            )
        fd = self._task.get_unused_fd_flags(flags)
        self._numbers.add(fd)
        return fd

    def put_unused_fd(self, fd: int) -> None:
        """Give a reserved number back.

        Raises:
            Misuse: it was published, or is not reserved by this call.
        """
        if fd in self._published:
            raise Misuse(
                f"put_unused_fd: {fd} was published: its slot would be free and have a file; a "
                "publish is not undone, what can fail comes before it"
            )
        if fd not in self._numbers:
            raise Misuse(f"put_unused_fd: {fd} is not reserved by this call")
        self._numbers.remove(fd)
        self._task.put_unused_fd(fd)

    def close_fd(self, fd: int) -> None:
        """Close a descriptor.

        Raises:
            OSError: EBADF.
            Misuse: this call published it: another thread may use it already.
        """
        if fd in self._published:
            raise Misuse(
                f"close_fd: {fd} was published by this call: another thread may have closed it and "
                "have its own file there; a publish is not undone, what can fail comes before it"
            )
        self._kernel.fput(self._task.files.remove(fd))

    # -- files

    def anon_inode_getfile(self, name: str, flags: int = os.O_RDWR) -> File:
        """Make a file with nothing behind it but a name.

        Args:
            name: for error messages.
            flags: the access mode, and O_NONBLOCK.

        Returns:
            The file; its first reference is the call's.

        Raises:
            OSError: ENFILE.
            Misuse: O_CLOEXEC, which belongs to the number.
        """
        if flags & os.O_CLOEXEC:
            raise Misuse(
                "anon_inode_getfile: O_CLOEXEC belongs to the number: give it to get_unused_fd_flags"
            )
        file = AnonymousFile(self._task, name, flags)
        self._references[file] += 1
        return file

    def fget(self, fd: int) -> File:
        """Return the file behind a number, with a reference for the call.

        Raises:
            OSError: EBADF, not open, or reserved, or of O_PATH.
        """
        file = self._task.fget(fd)
        self._references[file] += 1
        return file

    def get_file(self, file: File) -> File:
        """Take another reference to a file of which the call has one.

        Raises:
            Misuse: it has none (any more).
        """
        self._own("get_file", file)
        file.references += 1
        self._references[file] += 1
        return file

    def fput(self, file: File) -> None:
        """Drop a reference of the call.

        Raises:
            Misuse: it has none (any more).
        """
        self._own("fput", file)
        self._references[file] -= 1
        self._kernel.fput(file)

    # -- both

    def fd_install(self, fd: int, file: File) -> None:
        """Publish: the slot takes over the call's reference. Cannot fail, and is not undone.

        Raises:
            Misuse: the number is not reserved by this call, or was published; or the call has no
                reference to give.
        """
        if fd in self._published:
            raise Misuse(f"fd_install: {fd} was published already: the first file would be lost")
        if fd not in self._numbers:
            raise Misuse(f"fd_install: {fd} is not reserved by this call")
        self._own("fd_install", file)
        self._references[file] -= 1
        self._numbers.remove(fd)
        self._published.add(fd)
        self._task.fd_install(fd, file)

    def fd_prepare(self, flags: int, build: Callable[[], File]) -> Prepared:
        """Reserve a number, then make the file for it: both or neither.

        Args:
            flags: O_CLOEXEC or 0.
            build: makes the file, once the number is held; the reference is the Prepared's.

        Raises:
            OSError: EMFILE; what ``build`` raises.
        """
        fd = self.get_unused_fd_flags(flags)
        try:
            return Prepared(self, fd, build())
        except BaseException:
            self.put_unused_fd(fd)
            raise

    def fd_publish(self, prepared: Prepared) -> int:
        """Install what was prepared, and return the number.

        Raises:
            Misuse: it was published or given back already.
        """
        file, prepared.file = prepared.file, None
        if file is None:
            raise Misuse(f"fd_publish: {prepared.fd} has no file: it was published or given back")
        self.fd_install(prepared.fd, file)
        return prepared.fd

    def fd_add(self, flags: int, build: Callable[[], File]) -> int:
        """Prepare and publish at once, where nothing that can fail comes after; return the number.

        Raises:
            OSError: as ``fd_prepare``.
        """
        return self.fd_publish(self.fd_prepare(flags, build))

    def receive_fd(self, file: File, flags: int = 0, *, copy_out: bool = False) -> int:
        """Take a file that came from elsewhere into the table; the call keeps its reference.

        Args:
            file: of which the call has a reference.
            flags: O_CLOEXEC or 0.
            copy_out: whether the number is written to user memory before it is published.

        Raises:
            OSError: EMFILE; EFAULT. Nothing has changed.
        """
        self._own("receive_fd", file)
        fd = self.get_unused_fd_flags(flags)
        if copy_out:
            try:
                self.copy_to_user(fd)
            except OSError:
                self.put_unused_fd(fd)
                raise
        self.fd_install(fd, self.get_file(file))
        return fd

    def receive_fd_replace(self, fd: int, file: File, flags: int = 0) -> int:
        """Take a file that came from elsewhere into the table, at an exact number.

        Raises:
            OSError: EBADF, beyond the soft limit; EMFILE, beyond ``nr_open``; EBUSY, reserved.
        """
        self._own("receive_fd_replace", file)
        return self._task.receive_fd_replace(fd, file, bool(flags & os.O_CLOEXEC))

    # -- user memory, processes

    def copy_to_user(self, value: object = None) -> None:
        """Write to user memory, which may not be there.

        Args:
            value: what is written; nobody reads it.

        Raises:
            OSError: EFAULT, if the kernel's ``fault`` says so.
        """
        self._kernel.fallible("copy_to_user", errno.EFAULT)

    def pidfd_prepare(self, task: "Task", flags: int = 0) -> tuple[int, File]:
        """Reserve a number and make a pidfd for it, neither published.

        Args:
            task: whom it names.
            flags: O_NONBLOCK; O_EXCL for the one thread.

        Raises:
            OSError: EMFILE; ENFILE.
        """
        fd, file = self._task.pidfd_prepare(task, flags)
        self._numbers.add(fd)
        self._references[file] += 1
        return fd, file

    def copy_process(self, flags: int = 0) -> "Task":
        """Make a task, as ``clone`` does, of which CLONE_PIDFD is a part.

        Raises:
            OSError: EINVAL, EMFILE, ENOMEM, EFAULT.
        """
        return self._task.clone(flags)

    def dup_fd(self) -> ProcessTable:
        """Copy the table; what is reserved stays behind.

        Returns:
            A table that the caller gives up by its ``drop()``.

        Raises:
            OSError: EMFILE; ENOMEM.
        """
        return self._task.files.duplicate()

    def allocate(self, what: str = "kmalloc", number: int = errno.ENOMEM) -> None:
        """Do what may fail for reasons of its own, between the steps above.

        Args:
            what: the name of the step.
            number: the errno of its failure.

        Raises:
            OSError: if the kernel's ``fault`` says so.
        """
        self._kernel.fallible(what, number)

    # -- the bounds of a call

    @contextmanager
    def system_call(self) -> Iterator[None]:
        """Carry out one system call in a block.

        Yields:
            Nothing. At the end of the block, by whatever way, the call must hold nothing any more, and
            if it failed it must not have published.

        Raises:
            Misuse: a reserved number or a reference was left; or the call raised, and what it
                published stays, unknown to the program.
        """
        self._forget()
        try:
            yield
        except OSError as error:
            left = self._left()
            if self._published:
                left.append(f"published {_list(self._published)}, which the program is not told of")
            self._forget()
            if left:
                raise Misuse(
                    f"the call failed ({error.strerror}) and left: {'; '.join(left)}"
                ) from error
            raise
        left = self._left()
        self._forget()
        if left:
            raise Misuse(f"the call returned and left: {'; '.join(left)}")

    def _left(self) -> list[str]:
        left = [f"reserved {_list(self._numbers)}"] if self._numbers else []
        files = [f"{file!r} ({count})" for file, count in self._references.items() if count]
        return left + ([f"references to {', '.join(files)}"] if files else [])

    def _forget(self) -> None:
        self._references.clear()
        self._numbers.clear()
        self._published.clear()

    def _own(self, function: str, file: File) -> None:
        if self._references[file] <= 0:
            raise Misuse(
                f"{function}: the call has no reference to {file!r}: it was put or installed, and "
                "another thread may have closed it since"
            )


def _list(numbers: set[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))
