"""Where a program's dynamic loader lies in memory, so that its start-up is not taken for the program's."""

import os
import struct

__all__ = ["loader_range"]

_AT_BASE = 7


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
            auxiliary = file.read()
        with open(f"/proc/{task}/maps", encoding="utf-8", errors="replace") as file:
            maps = file.readlines()
    except OSError:
        return 0, 0
    base = 0
    word = struct.calcsize("N")
    for offset in range(0, len(auxiliary) - 2 * word + 1, 2 * word):
        kind, value = struct.unpack_from("NN", auxiliary, offset)
        if kind == _AT_BASE:
            base = value
            break
    low = high = 0
    path = ""
    for line in maps if base else ():
        fields = line.split(maxsplit=5)
        start, _, end = fields[0].partition("-")
        name = fields[5].strip() if len(fields) > 5 else ""
        if int(start, 16) == base:
            low, path = base, name
        if low and name == path:
            high = int(end, 16)
    if "musl" in os.path.basename(path):
        return 0, 0
    return low, high
