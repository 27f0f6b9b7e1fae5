"""The C programs: compiled when a run begins, run once per turn."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

__all__ = ["Compiled"]

_SOURCES = Path(__file__).parent / "c"


class Compiled:
    """Programs of ``benchmarks/c``, compiled into a directory.

    Args:
        directory: where they are put; the caller removes it.

    Raises:
        OSError: there is no C compiler.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def program(self, name: str) -> str:
        """Return the path of a program, compiling it the first time.

        Args:
            name: of its source, without the ending.
        """
        path = self._directory / name
        if not path.exists():
            subprocess.run(["cc", "-O2", "-o", str(path), str(_SOURCES / f"{name}.c")], check=True)
        return str(path)

    def seconds(self, name: str, arguments: Sequence[object]) -> float:
        """Run a program that prints how many seconds one took.

        Args:
            name: of the program.
            arguments: what it is given.
        """
        command = [self.program(name), *map(str, arguments)]
        return float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
