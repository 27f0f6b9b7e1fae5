"""The Python stack of a process that stands still at a supervised call, by py-spy."""

import itertools
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from fdproof.check.records import Frame
from fdproof.process import DEVNULL, PIPE, ExitError, ExpiredError, run

__all__ = ["python_stack"]

_SECONDS = 20.0
_STAGE_FILE = str(Path(__file__).with_name("stage.py"))


def python_stack(pid: int, task: int) -> tuple[Frame, ...]:
    """Return the Python stack of a thread, innermost frame first.

    Args:
        pid: its process.
        task: the thread.

    Returns:
        Empty when the program is no Python, when py-spy is missing or may not look.
    """
    beside = Path(sys.executable).parent / "py-spy"
    spy = str(beside) if beside.exists() else shutil.which("py-spy")
    if spy is None:
        return ()
    try:
        # Nonblocking: the target cannot be stopped by ptrace while it waits for its supervisor.
        result = run(
            [spy, "dump", "--nonblocking", "--json", "--pid", str(pid)],
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=DEVNULL,
            timeout=_SECONDS,
            check=True,
        )
        threads = json.loads(result.stdout or b"")
    except (OSError, ExitError, ExpiredError, ValueError):
        return ()
    for thread in threads:
        if thread.get("os_thread_id") in (task, None) or len(threads) == 1:
            return _of_the_operation(thread["frames"])
    return ()


def _of_the_operation(frames: list[dict[str, Any]]) -> tuple[Frame, ...]:
    """Leave out the lines below the operation: how the check called it."""
    own = itertools.takewhile(lambda frame: frame["filename"] != _STAGE_FILE, frames)
    # A line of 0 stands for the interpreter's own entry, which newer Pythons have between frames.
    return tuple(
        Frame(frame["filename"], frame["line"], frame["name"]) for frame in own if frame["line"]
    )
