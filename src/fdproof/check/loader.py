"""Where a program's dynamic loader lies in memory, so that its start-up is not taken for the program's."""

import os
import struct

__all__ = ["loader_range"]

_AT_BASE = 7
_SIZES: dict[tuple[int, int, int], int] = {}


def loader_range(task: int) -> tuple[int, int]:
    """Return the address range of the dynamic loader of a task's program.

    Args:
        task: its number; it stands still at a supervised call.

    Returns:
        First address and end; two zeros if there is none: a static program, or a libc that is its own
        loader (musl), whose start-up cannot be told from the program by address.
    """
    try:
        with open(f"/proc/{task}/auxv", "rb") as file:
            base = _base(file.read())
        program = os.stat(f"/proc/{task}/exe")
    except OSError:
        return 0, 0
    if base == 0:
        return 0, 0
    # The place differs each time, the size does not: one program has one loader.
    key = (program.st_dev, program.st_ino, program.st_mtime_ns)
    size = _SIZES.get(key)
    if size is None:
        size = _SIZES[key] = _size(task, base)
    return (base, base + size) if size else (0, 0)


def _base(auxiliary: bytes) -> int:
    word = struct.calcsize("N")
    for offset in range(0, len(auxiliary) - 2 * word + 1, 2 * word):
        kind, value = struct.unpack_from("NN", auxiliary, offset)
        if kind == _AT_BASE:
            return int(value)
    return 0


def _size(task: int, base: int) -> int:
    high = 0
    path = ""
    try:
        with open(f"/proc/{task}/maps", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                fields = line.split(maxsplit=5)
                start, _, end = fields[0].partition("-")
                name = fields[5].strip() if len(fields) > 5 else ""
                if int(start, 16) == base:
                    path = name
                if path and name == path:
                    high = int(end, 16)
    except OSError:
        return 0
    return high - base if high and "musl" not in os.path.basename(path) else 0
