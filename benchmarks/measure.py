"""Contests: several ways to do one thing, measured in turns, compared round by round."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

__all__ = ["Budget", "Contest", "Contestant", "Line", "measure", "summarise"]


@dataclass(frozen=True, slots=True)
class Budget:
    """What the ratio of a contestant's time to that of ``against`` must be."""

    against: str
    at_most: float | None = None
    at_least: float | None = None

    def met(self, ratio: float) -> bool:
        """Tell whether a ratio keeps the budget."""
        if self.at_most is not None:
            return ratio <= self.at_most
        return self.at_least is None or ratio >= self.at_least

    def __str__(self) -> str:
        if self.at_most is not None:
            return f"<= {self.at_most:g}"
        return f">= {self.at_least:g}"


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to do it.

    Args:
        name: what the table says.
        run: does it a number of times; returns the seconds that one took.
        budget: what is demanded of it.
    """

    name: str
    run: Callable[[], float]
    budget: Budget | None = None


@dataclass(frozen=True, slots=True)
class Contest:
    """Contestants that do the same; all ratios are to the first, unless a budget names another.

    Args:
        name: in the samples.
        title: what the table says.
        contestants: who takes part.
        missing: what the table says of those who cannot.
        unit: how many of what one does, where the table says how many that is a second.
        close: ends what lasts for the contest.
    """

    name: str
    title: str
    contestants: Sequence[Contestant]
    missing: Sequence[str] = ()
    unit: tuple[int, str] | None = None
    close: Callable[[], None] = lambda: None


@dataclass(slots=True)
class Line:
    """One contestant's result: seconds per unit, and the ratio to ``against``."""

    name: str
    against: str
    samples: list[float] = field(default_factory=list)
    seconds: float = 0.0
    ratio: float = 1.0
    lowest: float = 1.0
    highest: float = 1.0
    budget: str = ""
    met: bool | None = None


def measure(
    contests: Sequence[Contest], rounds: int, progress: Callable[[str], None]
) -> dict[str, dict[str, list[float]]]:
    """Let every contestant of every contest have its turn, in every round.

    Args:
        contests: whom to measure.
        rounds: how many turns each has.
        progress: told what comes next.

    Returns:
        The samples, by contest and contestant.
    """
    samples: dict[str, dict[str, list[float]]] = {
        contest.name: {one.name: [] for one in contest.contestants} for contest in contests
    }
    for turn in range(rounds):
        for contest in contests:
            # Every other round runs backwards, so that nobody always follows the same one.
            order = contest.contestants if turn % 2 == 0 else contest.contestants[::-1]
            for one in order:
                progress(f"round {turn + 1} of {rounds}: {one.name}")
                samples[contest.name][one.name].append(one.run())
    return samples


def summarise(contest: Contest, samples: dict[str, list[float]]) -> list[Line]:
    """Turn the samples of a contest into lines: medians, ratios of medians, and the range of the ratios.

    Args:
        contest: what was measured.
        samples: by contestant.
    """
    lines = []
    for one in contest.contestants:
        budget = one.budget
        against = budget.against if budget else contest.contestants[0].name
        own, other = samples[one.name], samples[against]
        ratios = [mine / theirs for mine, theirs in zip(own, other, strict=True)]
        seconds = statistics.median(own)
        ratio = seconds / statistics.median(other)
        lines.append(
            Line(
                one.name,
                against,
                own,
                seconds,
                ratio,
                min(ratios),
                max(ratios),
                str(budget) if budget else "",
                budget.met(ratio) if budget else None,
            )
        )
    return lines
