"""Ten lines with a leak: when the second open fails, nobody closes the pipe."""

import os


def copy() -> None:
    reader, writer = os.pipe()
    source = os.open(__file__, os.O_RDONLY)
    try:
        os.write(writer, os.read(source, 100))
    finally:
        for number in (source, reader, writer):
            os.close(number)
