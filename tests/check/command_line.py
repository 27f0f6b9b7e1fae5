"""Run the command line as its users do, in a process of its own."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

FDPROOF = (sys.executable, "-m", "fdproof")


@dataclass(frozen=True)
class Result:
    status: int
    out: str
    err: str


def environment(directory: Path) -> dict[str, str]:
    """This process's environment, for operations that keep something in a directory."""
    return os.environ | {"OPERATION_DIRECTORY": str(directory), "TERM": "xterm", "COLUMNS": "80"}


def check(directory: Path, *arguments: str) -> Result:
    """Run ``fdproof check`` in a directory."""
    result = subprocess.run(
        [*FDPROOF, "check", *arguments],
        cwd=directory,
        env=environment(directory),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return Result(result.returncode, result.stdout, result.stderr)
