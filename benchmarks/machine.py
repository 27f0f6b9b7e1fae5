"""Where a table was measured: kernel, processor, cores, Python."""

import os
import platform

__all__ = ["description"]


def description() -> dict[str, str]:
    """Return what a reader needs to know of the machine."""
    return {
        "kernel": platform.release().partition("-")[0],
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "python": platform.python_version(),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key.strip() == "model name":
                    return value.strip()
    except OSError:
        pass
    return platform.machine()
