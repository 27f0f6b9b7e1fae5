"""What must hold whenever no call is under way: no number is reserved, and every reference has a holder."""

from collections import Counter
from collections.abc import Iterator

from fdproof.model._file import File
from fdproof.model._kernel import Kernel
from fdproof.model._report import Finding, Problem

__all__ = ["audit"]


def audit(kernel: Kernel) -> Iterator[Finding]:
    """Yield what is wrong with the tables and files of a kernel between two calls.

    Args:
        kernel: no inside function of it may be half-way through a call.
    """
    for table in kernel.tables:
        for number in table.reserved():
            yield Finding(Problem.NUMBER_LEFT, str(number))
    held: Counter[File] = Counter(file for _, file in kernel.holders())
    for file in {**dict.fromkeys(kernel.files()), **held}:
        counted, holders = file.references, held[file]
        if counted > holders:
            yield Finding(Problem.FILE_LEFT, f"{file!r}, references: {counted}, holders: {holders}")
        elif counted < holders:
            yield Finding(Problem.DANGLING, f"{file!r}, holders: {holders}, references: {counted}")
