"""The operation that the sweep of a function measures: seven files opened, read and closed.

Run as a program, it is the same operation in a fresh interpreter, as strace has it.
"""

import os

__all__ = ["FILES", "read_seven_files"]

FILES = 7


def read_seven_files() -> None:
    """Open, read and close; an error ends one file, not the operation, so that every run does the same."""
    for _ in range(FILES):
        try:
            number = os.open("/etc/passwd", os.O_RDONLY)
        except OSError:
            continue
        try:
            os.read(number, 4096)
        except OSError:
            pass
        finally:
            try:
                os.close(number)
            except OSError:
                pass


if __name__ == "__main__":
    read_seven_files()
