"""The Process behind a pidfd that the kernel handed over."""

from fdproof._descriptor import Descriptor
from fdproof._errors import UnsupportedError
from fdproof.process import Process
from fdproof.process._child import Child
from fdproof.process._info import info

__all__ = ["process_behind"]


def process_behind(pidfd: Descriptor, pid: int) -> Process:
    """Make a Process of a pidfd, whatever became of the process.

    Args:
        pidfd: owns nothing any more when this returns.
        pid: its number where the kernel told it, or 0. Not knowing it is no error: it is for people.
    """
    if not pid:
        try:
            pid = info(pidfd).process or 0
        except UnsupportedError:
            try:
                return Process.from_pidfd(pidfd)
            except OSError:
                pass
        except OSError:
            pass
    return Process(Child(pid, pidfd))
