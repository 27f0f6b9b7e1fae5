"""Why the kernel refuses to let one process look into another: EPERM names no reason, this does."""

import os
from collections.abc import Mapping

__all__ = ["explain"]

_CAP_SYS_PTRACE = 1 << 19
_SCOPE = "/proc/sys/kernel/yama/ptrace_scope"

# What each value of Yama's switch asks of the caller, and what would help.
_SCOPES = {
    1: "only an ancestor may look into a process (kernel.yama.ptrace_scope = 1): let it call "
    "prctl(PR_SET_PTRACER), be its ancestor, or have CAP_SYS_PTRACE",
    2: "only CAP_SYS_PTRACE may look into a process (kernel.yama.ptrace_scope = 2)",
    3: "nobody may look into a process until the next boot (kernel.yama.ptrace_scope = 3)",
}


def explain(pid: int) -> str:
    """Return the likely reason, and what would help, in the order in which the kernel checks.

    It is found by looking around afterwards, so it is a guess: things may have changed since.

    Args:
        pid: the process that refused.

    Kernel: ptrace(2), "Ptrace access mode checking".
    """
    ours, theirs = _status("self"), _status(pid)
    if not theirs:
        return "it has ended, or is hidden from this process (/proc is mounted with hidepid)"
    privileged = bool(int(ours.get("CapEff", "0"), 16) & _CAP_SYS_PTRACE)
    foreign = _namespace(pid)
    # One that even CAP_SYS_PTRACE may not see is not one in which this process has it.
    elsewhere = privileged if foreign is None else foreign != _namespace("self")
    for kind, key in (("user", "Uid"), ("group", "Gid")):
        real = ours.get(key, "0").split()[0]
        ids = theirs.get(key, "").split()[:3]
        if any(one != real for one in ids) and (elsewhere or not privileged):
            return (
                f"it runs as {kind} {'/'.join(dict.fromkeys(ids))} and this process as {real}: "
                + (
                    "it is in another user namespace, where this process has no CAP_SYS_PTRACE"
                    if elsewhere
                    else f"run as the same {kind} (real, effective and saved), or with CAP_SYS_PTRACE"
                )
            )
    if elsewhere and privileged:
        return "it is in another user namespace, where this process has no CAP_SYS_PTRACE"
    if not privileged and _is_not_dumpable(pid, theirs):
        return (
            "it is not dumpable (prctl PR_SET_DUMPABLE, a set-user-ID program, or a file that it may "
            "execute and not read): let it become dumpable, or have CAP_SYS_PTRACE"
        )
    if elsewhere:
        return "it is in another user namespace, where this process has no CAP_SYS_PTRACE"
    if not privileged and int(theirs.get("CapPrm", "0"), 16) & ~int(ours.get("CapPrm", "0"), 16):
        return "it has capabilities that this process lacks: have them too, or CAP_SYS_PTRACE"
    scope = _scope()
    if scope == 3 or (scope and not privileged):
        return _SCOPES.get(scope, f"kernel.yama.ptrace_scope is {scope}")
    return (
        "none of the usual reasons holds (user, dumpable, user namespace, capabilities, Yama): a "
        "security module or a system-call filter refuses it"
    )


def _status(pid: int | str) -> Mapping[str, str]:
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as lines:
            return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
    except OSError:
        return {}


def _namespace(pid: int | str) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/user")
    except OSError:
        return None


def _is_not_dumpable(pid: int, status: Mapping[str, str]) -> bool:
    """Tell by the owner of its files in /proc, which is root when the process is not dumpable."""
    try:
        owner = os.stat(f"/proc/{pid}/status").st_uid
    except OSError:
        return False
    return str(owner) != status.get("Uid", "0 0").split()[1]


def _scope() -> int:
    try:
        with open(_SCOPE, encoding="utf-8") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0
