"""Check three programs as a user would: a leak, the same without it, and one in the standard library.

Exits with 0 when each check ends as expected: 1 (findings), 0 (clean), 1 (findings).
"""

import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHECKS = (
    ("examples/leak.py:copy", 1),
    ("examples/no_leak.py:copy", 0),
    ("examples/stdlib_leak.py:start", 1),
)


def main() -> int:
    surprises = []
    for position, (target, expected) in enumerate(CHECKS):
        arguments = ["check", target]
        if position:
            print()
        print("$", shlex.join(["fdproof", *arguments]), flush=True)
        command = [sys.executable, "-m", "fdproof", *arguments]
        status = subprocess.run(command, cwd=ROOT, check=False).returncode
        if status != expected:
            surprises.append(f"{target}: exit status {status}, expected {expected}")
    for surprise in surprises:
        print(surprise, file=sys.stderr)
    return 1 if surprises else 0


if __name__ == "__main__":
    sys.exit(main())
