"""The same with owners: whichever step fails, what is open by then is closed."""

import os

import fdproof


def copy() -> None:
    with fdproof.pipe() as (_, writer), fdproof.open(__file__) as source:
        os.write(writer.fileno(), os.read(source.fileno(), 100))
