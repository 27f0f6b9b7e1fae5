"""Filters: which system calls of a target stop for its supervisor."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fdproof.notifier._libseccomp import compile_filter, number_of

__all__ = ["Condition", "Filter", "Rule"]

# The call by which a target speaks to its supervisor: close_range with a first number that no table has.
_MARK = (0, 0xFFFFFFFF, 0xFFFFFFFF)
# The start of a target passes, by a value of the first argument: see FDP_FIRST_EXEC in _notify.h.
_PASSES = {"execveat": 0x0FD0F001, "exit_group": 0x0FD0F07F}


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison on an argument: ``arguments[argument] & mask == value``.

    ``spelled`` is how a reader would say it ("F_DUPFD"), for messages.
    """

    argument: int
    mask: int
    value: int
    spelled: str = ""

    def holds(self, arguments: Sequence[int]) -> bool:
        """Say whether a call with these arguments meets the condition."""
        return arguments[self.argument] & self.mask == self.value


@dataclass(frozen=True, slots=True)
class Rule:
    """A system call that stops for the supervisor, by kernel name, under all the conditions."""

    name: str
    conditions: tuple[Condition, ...] = ()


class Filter:
    """A compiled filter: the calls named notify the supervisor, everything else runs untouched.

    Calls that this architecture does not have are left out. Programs of another architecture
    (32-bit ones on a 64-bit kernel) are not seen at all.

    Args:
        rules: names of system calls, or Rules where arguments decide.

    Raises:
        ValueError: no rule names a call of this architecture.
        UnsupportedError: libseccomp is not installed, the kernel has no notifier (5.0), or a sandbox
            hides it.
        OSError: EINVAL, libseccomp refuses a condition.
    """

    def __init__(self, rules: Iterable[Rule | str]) -> None:
        wanted = [Rule(rule) if isinstance(rule, str) else rule for rule in rules]
        known = [(rule, number_of(rule.name)) for rule in wanted]
        self.rules = tuple(rule for rule, number in known if number is not None)
        if not self.rules:
            raise ValueError(
                "rules: none of them names a system call of this architecture: "
                + (", ".join(rule.name for rule in wanted) or "the list is empty")
            )
        compiled: list[tuple[int, list[tuple[int, int | None, int]]]] = []
        for rule, number in known:
            if number is not None:
                comparisons: list[tuple[int, int | None, int]] = [
                    (c.argument, c.mask, c.value) for c in rule.conditions
                ]
                if rule.name in _PASSES:
                    comparisons.extend(_all_but_the_start(rule, _PASSES[rule.name]))
                compiled.append((number, comparisons))
        mark = number_of("close_range")
        if mark is not None:
            compiled.append((mark, [_MARK]))
        self.program = compile_filter(compiled)

    def __repr__(self) -> str:
        return f"<fdproof.notifier.Filter of {len(self.rules)} rules>"


def _all_but_the_start(rule: Rule, passes: int) -> list[tuple[int, int | None, int]]:
    on_first = [condition for condition in rule.conditions if condition.argument == 0]
    if not on_first:
        return [(0, None, passes)]
    # libseccomp takes one comparison for each argument.
    if all(condition.holds((passes,)) for condition in on_first):
        raise ValueError(
            f"rules: {rule.name} under this condition on argument 0 cannot be told from the start of a "
            "target: leave the condition out, and look at the argument when the call comes"
        )
    return []
