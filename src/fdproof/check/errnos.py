"""Which errnos a system call can realistically get, and what each of them means there.

The data is in errnos.toml. Every errno stands in a manual page of its call and can be returned
by the kernel there. Errnos that only a wrong program sees (EBADF, EFAULT, EINVAL), that a signal
causes (EINTR), or that only say "not yet" in non-blocking I/O (EAGAIN, EINPROGRESS) are not in
it: a check would otherwise report what cannot happen. Left out on purpose, with the reason in `LEFT_OUT`:
close and close_range, which free the number whatever they say; calls that wait, because how
often they run depends on timing; and variants of a call that cannot fail.

`python -m fdproof.check.errnos` writes the table as a page of the reference documentation.
"""

from __future__ import annotations

import enum
import errno
import importlib.resources
import itertools
import stat
import sys
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fdproof.notifier import Condition

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


class Kind(enum.Enum):
    """What a system call does to the table."""

    CREATES = "creates"
    ACTS = "acts"
    PROCESS = "process"


class Referent(enum.Enum):
    """What a descriptor's file refers to, as far as it decides which errnos are possible."""

    REGULAR = "regular"
    DIRECTORY = "directory"
    PIPE = "pipe"
    SOCKET = "socket"
    DEVICE = "device"
    OTHER = "other"

    @classmethod
    def of(cls, mode: int) -> Referent:
        """Tell the referent from the `st_mode` of a stat result."""
        tests = (
            (stat.S_ISREG, cls.REGULAR),
            (stat.S_ISDIR, cls.DIRECTORY),
            (stat.S_ISFIFO, cls.PIPE),
            (stat.S_ISSOCK, cls.SOCKET),
            (stat.S_ISCHR, cls.DEVICE),
            (stat.S_ISBLK, cls.DEVICE),
        )
        return next((referent for test, referent in tests if test(mode)), cls.OTHER)


@dataclass(frozen=True, slots=True)
class Errno:
    """One way for a call to fail: its name, what it means in this call, and where it is possible.

    An empty `on` means that it is possible whatever the descriptor refers to.
    """

    name: str
    reason: str
    on: frozenset[Referent] = frozenset()

    @property
    def number(self) -> int:
        """The errno as the kernel returns it."""
        number: int = getattr(errno, self.name)
        return number


@dataclass(frozen=True, slots=True)
class Call:
    """One system call, or the part of it for which all of `when` hold.

    `errnos` is never empty; its first member is the representative. `descriptor_argument` is the
    index of the argument with the descriptor that the call acts on or takes its file from; it is
    None where there is none, and for directories that only a path is resolved against.
    """

    name: str
    kind: Kind
    errnos: tuple[Errno, ...]
    man: str
    descriptor_argument: int | None
    when: tuple[Condition, ...] = ()

    def errnos_on(self, referent: Referent) -> tuple[Errno, ...]:
        """Pick the errnos that are possible for a descriptor of this kind.

        Where the result is empty, the call cannot realistically fail on this descriptor: a read
        from a pipe, for example, gets no I/O error.

        Args:
            referent: what the descriptor in `descriptor_argument` refers to.

        Returns:
            The errnos in the table's order, so that the first one is the representative.
        """
        return tuple(each for each in self.errnos if not each.on or referent in each.on)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A system call, or the part of it for which all of `when` hold, that is never made to fail."""

    name: str
    reason: str
    when: tuple[Condition, ...] = ()


def call_for(name: str, args: Sequence[int]) -> Call | None:
    """Find the entry for a system call with these arguments.

    Entries of one name are tried in the table's order, special ones first. What `LEFT_OUT` covers
    has no entry, even where a general one of the same name would match.

    Args:
        name: the kernel's name of the call, such as `openat`.
        args: all six argument registers; the conditions mask what the kernel would ignore.

    Returns:
        The entry, or None for a call that is not to be made to fail.
    """
    if any(_applies(each.when, args) for each in _LEFT_OUT_BY_NAME.get(name, ())):
        return None
    return next((each for each in _CALLS_BY_NAME.get(name, ()) if _applies(each.when, args)), None)


def names() -> tuple[str, ...]:
    """List the names of all calls that can be made to fail, each once, in the table's order."""
    return tuple(_CALLS_BY_NAME)


def _applies(when: Iterable[Condition], args: Sequence[int]) -> bool:
    return all(condition.holds(args) for condition in when)


# The table as written has one entry for several names and several values; callers want it flat.


def _alternatives(entry: dict[str, Any]) -> Iterator[tuple[str, tuple[Condition, ...]]]:
    choices = [
        [
            Condition(each["argument"], each["mask"], value, spelled)
            for spelled, value in each["is"].items()
        ]
        for each in entry.get("when", ())
    ]
    for name in entry["names"]:
        for when in itertools.product(*choices):
            yield name, when


def _errnos(entry: dict[str, Any], usual_reasons: dict[str, str]) -> tuple[Errno, ...]:
    reasons = usual_reasons | entry.get("reasons", {})
    on = entry.get("on", {})
    # A misspelt name would otherwise silently have no effect.
    unknown = (entry.get("reasons", {}).keys() | on.keys()) - set(entry["errnos"])
    if unknown:
        raise ValueError(f"{entry['names']}: {sorted(unknown)} not among the errnos")
    return tuple(
        Errno(name, reasons[name], frozenset(Referent(each) for each in on.get(name, ())))
        for name in entry["errnos"]
    )


def _calls(table: dict[str, Any]) -> Iterator[Call]:
    for entry in table["call"]:
        errnos = _errnos(entry, table["reasons"])
        for name, when in _alternatives(entry):
            kind = Kind(entry["kind"])
            yield Call(name, kind, errnos, entry["man"], entry.get("descriptor"), when)


def _left_out(table: dict[str, Any]) -> Iterator[LeftOut]:
    for entry in table["left_out"]:
        for name, when in _alternatives(entry):
            yield LeftOut(name, entry["reason"], when)


_TABLE = tomllib.loads(
    importlib.resources.files("fdproof.check").joinpath("errnos.toml").read_text(encoding="utf-8")
)
CALLS: tuple[Call, ...] = tuple(_calls(_TABLE))
LEFT_OUT: tuple[LeftOut, ...] = tuple(_left_out(_TABLE))

_CALLS_BY_NAME: dict[str, list[Call]] = {}
for _call in CALLS:
    _CALLS_BY_NAME.setdefault(_call.name, []).append(_call)
_LEFT_OUT_BY_NAME: dict[str, list[LeftOut]] = {}
for _each in LEFT_OUT:
    _LEFT_OUT_BY_NAME.setdefault(_each.name, []).append(_each)


_INTRODUCTION = """\
# Errnos

`fdproof check` makes system calls fail one at a time. This page says which errnos each call can
get. The first errno of a call is its representative and the one used by default; with
`--errnos all` every errno of the list has its turn.

Every errno is documented in the manual page named beside the call and can be returned by the
kernel there. Wrong arguments (`EBADF`, `EFAULT`, `EINVAL`), interruptions (`EINTR`) and the "not
yet" of non-blocking I/O (`EAGAIN`, `EINPROGRESS`) are not in the table: a check must not report
what cannot happen. Where an errno is possible on some descriptors only, the second column
names what must be behind it.
"""

_HEADINGS = {
    Kind.CREATES: "Calls that create a descriptor",
    Kind.ACTS: "Calls that act on a descriptor",
    Kind.PROCESS: "Calls that create a process or a thread",
}


def _titled(name: str, when: Iterable[Condition]) -> str:
    conditions = ", ".join(f"`{each.spelled}`" for each in when)
    return f"`{name}` with {conditions}" if conditions else f"`{name}`"


def page() -> str:
    """Write the table as a Markdown page."""
    lines = [_INTRODUCTION]
    for kind, heading in _HEADINGS.items():
        lines.append(f"## {heading}\n")
        # Calls that the table treats alike share a section, as they do in errnos.toml.
        alike = itertools.groupby(
            (call for call in CALLS if call.kind is kind),
            lambda call: (call.errnos, call.man, call.descriptor_argument),
        )
        for (errnos, man, _), calls in alike:
            lines.append("### " + "; ".join(_titled(call.name, call.when) for call in calls) + "\n")
            lines.append(f"Manual: {man}\n")
            lines.append("| errno | behind the descriptor | meaning |\n| --- | --- | --- |")
            for each in errnos:
                on = ", ".join(sorted(referent.value for referent in each.on)) or "anything"
                lines.append(f"| `{each.name}` | {on} | {each.reason} |")
            lines.append("")
    lines.append("## Calls that never fail on purpose\n")
    for reason, left_out in itertools.groupby(LEFT_OUT, lambda each: each.reason):
        lines.append("- " + "; ".join(_titled(each.name, each.when) for each in left_out) + ":")
        lines.append(f"  {reason}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the page to standard output."""
    sys.stdout.write(page())


if __name__ == "__main__":
    main()
