"""The two kinds of flags, kept apart by type.

A descriptor has one flag of its own, close-on-exec; everything else belongs to the
file behind it and is shared by all its descriptors. The kernel takes both in one
``int``, which is how ``O_RDWR`` ends up where only ``O_CLOEXEC`` is looked at.
"""

import enum
import functools
import operator
import os
from collections.abc import Iterable
from typing import Self, TypeVar

from fdproof._errors import FlagError

__all__ = ["DescriptorFlags", "FileFlags", "ResolveFlags"]

_CLOEXEC_REMEDY = "close-on-exec belongs to the descriptor and is the default: pass inheritable=True to turn it off"
_FILE_FLAG_REMEDY = "it belongs to the file: give it to the call that builds the file (flags=), not to the descriptor"


_F = TypeVar("_F", bound="_StrictFlag")


# What is refused, named and kept is decided below: Python 3.11.2 does none of it for a combination with
# a member of several bits, as O_SYNC is; with STRICT it refuses it.
class _StrictFlag(enum.Flag, boundary=enum.KEEP):
    """A flag type that refuses other flag types and unknown bits by name."""

    @classmethod
    def _remedy(cls, bits: int) -> str:
        return ""

    @classmethod
    def _missing_(cls, value: object) -> Self:
        known = f"known are {', '.join(cls.__members__)}"
        if isinstance(value, enum.Enum):
            bits = value.value if isinstance(value.value, int) else 0
            raise FlagError(f"{value!s} is not one of {cls.__name__}: {cls._remedy(bits) or known}")
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise FlagError(f"{value!r} is not one of {cls.__name__}: {known}")
        unknown = value & ~_mask(cls)
        whole = [member for member in cls.__members__.values() if member.value & ~value == 0]
        # Part of a member that has several bits is no flag either.
        unknown = unknown or value & ~_union(whole)
        if unknown:
            raise FlagError(
                f"{cls.__name__} has no bits {unknown:#x}: {cls._remedy(unknown) or known}"
            )
        found: Self = super()._missing_(value)
        found._name_ = "|".join(member.name or "" for member in whole if member.value)
        kept: Self = cls._value2member_map_.setdefault(value, found)  # type: ignore[assignment]
        return kept

    @classmethod
    def bits_of(cls, value: object) -> int:
        """Return the bits of ``value``, refusing by FlagError what is no such flag."""
        if isinstance(value, cls):
            return int(value.value)
        # The enum finds members by equality, and True, 1.0 and any IntEnum equal some number.
        if not isinstance(value, int) or isinstance(value, (bool, enum.Enum)):
            return int(cls._missing_(value).value)
        return int(cls(value).value)

    def __or__(self, other: object) -> Self:
        return type(self)(self.value | self.bits_of(other))

    def __and__(self, other: object) -> Self:
        return type(self)(self.value & self.bits_of(other))

    def __xor__(self, other: object) -> Self:
        return type(self)(self.value ^ self.bits_of(other))

    def __invert__(self) -> Self:
        # Flag's own complement is made of single bits, so `status & ~APPEND` would lose half of SYNC.
        members = type(self).__members__.values()
        return type(self)(_union(member for member in members if not member.value & self.value))

    __ror__ = __or__
    __rand__ = __and__
    __rxor__ = __xor__


def _keep_apart(cls: type[_F]) -> type[_F]:
    # EnumType copies Flag's own operators into every subclass that does not spell them out.
    for name in ("__or__", "__and__", "__xor__", "__ror__", "__rand__", "__rxor__", "__invert__"):
        setattr(cls, name, getattr(_StrictFlag, name))
    return cls


@_keep_apart
class FileFlags(_StrictFlag):
    """Flags of the file: how it is opened, and its status afterwards (open(2))."""

    RDONLY = os.O_RDONLY
    WRONLY = os.O_WRONLY
    RDWR = os.O_RDWR
    APPEND = os.O_APPEND
    ASYNC = os.O_ASYNC
    CREAT = os.O_CREAT
    DIRECT = os.O_DIRECT
    DIRECTORY = os.O_DIRECTORY
    DSYNC = os.O_DSYNC
    EXCL = os.O_EXCL
    NOATIME = os.O_NOATIME
    NOCTTY = os.O_NOCTTY
    NOFOLLOW = os.O_NOFOLLOW
    NONBLOCK = os.O_NONBLOCK
    PATH = os.O_PATH
    SYNC = os.O_SYNC
    TMPFILE = os.O_TMPFILE
    TRUNC = os.O_TRUNC

    @classmethod
    def _remedy(cls, bits: int) -> str:
        return _CLOEXEC_REMEDY if bits & os.O_CLOEXEC else ""


@_keep_apart
class DescriptorFlags(_StrictFlag):
    """The one flag of a descriptor (fcntl(2), F_GETFD), valued as creating calls take it."""

    CLOEXEC = os.O_CLOEXEC

    @classmethod
    def _remedy(cls, bits: int) -> str:
        return _FILE_FLAG_REMEDY if bits & _mask(FileFlags) else ""


@_keep_apart
class ResolveFlags(_StrictFlag):
    """How openat2(2) may walk a path (RESOLVE_*)."""

    NO_XDEV = 0x01
    NO_MAGICLINKS = 0x02
    NO_SYMLINKS = 0x04
    BENEATH = 0x08
    IN_ROOT = 0x10
    CACHED = 0x20


def _union(members: Iterable[_StrictFlag]) -> int:
    return functools.reduce(operator.or_, (int(member.value) for member in members), 0)


@functools.cache
def _mask(cls: type[_StrictFlag]) -> int:
    return _union(cls.__members__.values())


def file_flag_bits(value: FileFlags | int, parameter: str) -> int:
    """Return the bits of file flags, refusing what is not one.

    Args:
        value: file flags, or the ``os.O_*`` integer that means the same.
        parameter: the parameter's name, for the error.

    Raises:
        FlagError: unknown bits, O_CLOEXEC, or WRONLY together with RDWR.
    """
    try:
        bits = FileFlags.bits_of(value)
    except FlagError as error:
        raise FlagError(f"{parameter}: {error}") from None
    if bits & os.O_ACCMODE == os.O_ACCMODE:
        raise FlagError(f"{parameter}: WRONLY and RDWR exclude each other: use RDWR for both ways")
    return bits


def resolve_flag_bits(value: ResolveFlags | int, parameter: str) -> int:
    """Return the bits of resolve flags, refusing what is not one.

    Args:
        value: resolve flags, or the ``RESOLVE_*`` integer that means the same.
        parameter: the parameter's name, for the error.

    Raises:
        FlagError: unknown bits, or flags of another type.
    """
    try:
        return ResolveFlags.bits_of(value)
    except FlagError as error:
        raise FlagError(f"{parameter}: {error}") from None


def descriptor_flags(inheritable: bool, parameter: str = "inheritable") -> DescriptorFlags:
    """Return the descriptor's flag for ``inheritable``, refusing flags in its place.

    Args:
        inheritable: True leaves close-on-exec off.
        parameter: the parameter's name, for the error.

    Raises:
        FlagError: the value is not a bool.
    """
    if inheritable is True:
        return DescriptorFlags(0)
    if inheritable is False:
        return DescriptorFlags.CLOEXEC
    if isinstance(inheritable, FileFlags):
        raise FlagError(f"{parameter}: {inheritable!s} is a file flag: {_FILE_FLAG_REMEDY}")
    if isinstance(inheritable, DescriptorFlags):
        raise FlagError(f"{parameter}: takes True or False, not {inheritable!s}: {_CLOEXEC_REMEDY}")
    raise FlagError(
        f"{parameter}: takes True or False, not {inheritable!r}; file flags go to the call that "
        "builds the file"
    )
