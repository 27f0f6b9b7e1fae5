"""What the tests of handover share: programs as a manager starts them, and a store in a thread."""

import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fdproof import process
from fdproof.handover import Store
from fdproof.process import PIPE

# Prints what the expression `result` is, as JSON, at its end.
_FRAME = """
import json, os, socket, stat, sys
from fdproof import handover
arguments = json.loads(sys.argv[1])
def kinds(handed):
    return [[e.name, e.family, e.type, e.protocol, e.listening] for e in handed]
def table():
    return sorted(int(n) for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}"))
"""


def run(
    program: str,
    files: Mapping[int, Any] | None = None,
    *,
    arguments: object = None,
    pid_variable: str | None = "LISTEN_PID",
    **variables: str,
) -> Any:
    """Run a Python program that was handed ``files``; return its ``result``.

    Args:
        program: sets ``result`` to what JSON can say.
        files: by number in the child.
        arguments: what ``arguments`` is there.
        pid_variable: None leaves LISTEN_PID to ``variables``.
        variables: added to the environment.
    """
    argv = [
        sys.executable,
        "-W",
        "error",
        "-c",
        f"{_FRAME}\n{program}\nprint(json.dumps(result))",
        json.dumps(arguments),
    ]
    env = {**os.environ, **variables}
    with process.spawn(
        argv, files=files or {}, env=env, pid_variable=pid_variable, stdout=PIPE
    ) as child:
        out, _ = child.communicate(timeout=60)
        assert child.wait() == 0
    assert out is not None
    return json.loads(out)


@contextlib.contextmanager
def served(store: Store) -> Iterator[Store]:
    """The store, served by a thread of this process until the end of the block."""
    thread = threading.Thread(target=store.serve)
    thread.start()
    try:
        yield store
    finally:
        store.stop()
        thread.join()


def names(kept: Sequence[Any]) -> list[str]:
    """The names of what a store keeps, or of what was handed over."""
    return [one.name for one in kept]
