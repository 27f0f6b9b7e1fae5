"""What the docstrings of the model's calls say of errnos."""

import errno
import re

from fdproof.model import Task
from tests.model.errno_scenes import FAULTED, FAULTS

__all__ = ["declared", "faults"]

SAME_AS = {"open": ("openat",), "dup3": ("dup2",)}
"""Docstrings that refer to another one; open has no directory's descriptor that could be bad."""


def declared(call: str) -> set[int]:
    """The errnos that the docstring of a call names."""
    text = getattr(Task, call).__doc__
    raises = text.split("Raises:")[1].split("Kernel:")[0] if "Raises:" in text else ""
    named = {
        getattr(errno, name)
        for name in re.findall(r"\bE[A-Z0-9]+\b", raises)
        if hasattr(errno, name)
    }
    named = named.union(*map(declared, SAME_AS.get(call, ())))
    return named - {errno.EBADF} if call == "open" else named


def faults(call: str) -> set[int]:
    """The errnos with which steps of a call can be made to fail in the model."""
    known = FAULTS.keys() if call in FAULTED else set()
    return {number for number in known if number != errno.EAGAIN or call == "clone"}
