"""The tree of choices that an exploration walks, one path a run.

A run is repeated from its start, because a kernel in the middle of a call cannot be copied. It asks
at each choice; what the last path has settled is answered as before, what is new with the first answer.
When the run has ended, the last choice that has another answer takes it, and the run starts again.

Of two steps that do not depend on each other, one order is enough. Which thread was tried at a choice
goes to sleep for the answers after it: it stays asleep as long as the steps of the others do not
depend on its own ("sleep sets", Godefroid 1996). A path on which all threads that could go on are
asleep shows nothing that another one has not shown, and is cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fdproof.model._footprint import Footprint, independent

__all__ = ["Cut", "Paths"]


class Cut(Exception):  # noqa: N818 - no error: the rest of this path is known
    """The rest of this path shows nothing new."""


@dataclass(slots=True, eq=False)
class _Turn:
    """Who is next, and who need not be tried any more.

    Args:
        left: who can be next, the one that is at the front.
        asleep: who was tried here or before, and what its step touches.
        footprint: what the step of the one at the front touches; None before it is taken.
    """

    left: list[int]
    asleep: dict[int, Footprint]
    footprint: Footprint | None = None

    def advance(self) -> bool:
        """Go on to the next one; False if all were tried."""
        tried = self.left.pop(0)
        if self.footprint is not None:
            self.asleep[tried] = self.footprint
        self.footprint = None
        return bool(self.left)

    def inherited(self) -> dict[int, Footprint]:
        """Who is still asleep after the step."""
        taken = self.footprint
        if taken is None:
            return {}
        return {
            thread: touched
            for thread, touched in self.asleep.items()
            if independent(touched, taken)
        }


@dataclass(slots=True)
class _Fault:
    """Whether a fallible step fails: first it does not."""

    fails: bool = False

    def advance(self) -> bool:
        if self.fails:
            return False
        self.fails = True
        return True


@dataclass(slots=True)
class Paths:
    """The choices of the path that is walked, and where in it the run is.

    Args:
        faults: how many steps may fail on one path.
        reduce: leave out orders that another path stands for.
    """

    faults: int
    reduce: bool
    _chosen: list[_Turn | _Fault] = field(default_factory=list)
    _position: int = 0
    _failed: int = 0

    def start(self) -> None:
        """Begin a run."""
        self._position = self._failed = 0

    def next(self) -> bool:
        """Take the next path; False if there is none."""
        # What the run did not come to any more was settled for a path that has been left.
        del self._chosen[self._position :]
        while self._chosen:
            if self._chosen[-1].advance():
                return True
            self._chosen.pop()
        return False

    def turn(self, able: Sequence[int]) -> int:
        """Return who is next.

        Args:
            able: the threads that can go on; the first is preferred.

        Raises:
            Cut: all of them are asleep.
        """
        if self._position == len(self._chosen):
            asleep = self._asleep() if self.reduce else {}
            left = [thread for thread in able if thread not in asleep]
            if not left:
                raise Cut
            self._chosen.append(_Turn(left, asleep))
        turn = self._chosen[self._position]
        if not isinstance(turn, _Turn) or turn.left[0] not in able:
            raise self._changed()
        self._position += 1
        return turn.left[0]

    def taken(self, footprint: Footprint) -> None:
        """Note what the step touches that the last turn was given for."""
        self._last_turn().footprint = footprint

    def waits(self) -> bool:
        """Take the last turn back, because its step would wait; False if nobody else is left to try."""
        turn = self._last_turn()
        # What could fail before it waited is asked again when it does not wait any more.
        del self._chosen[self._chosen.index(turn) :]
        self._position = len(self._chosen)
        turn.left.pop(0)
        if not turn.left:
            return False
        self._chosen.append(turn)
        return True

    def fails(self) -> bool:
        """Return whether the fallible step fails that the run has come to."""
        if self._failed == self.faults:
            return False
        if self._position == len(self._chosen):
            self._chosen.append(_Fault())
        fault = self._chosen[self._position]
        if not isinstance(fault, _Fault):
            raise self._changed()
        self._position += 1
        self._failed += fault.fails
        return fault.fails

    def _last_turn(self) -> _Turn:
        for choice in reversed(self._chosen[: self._position]):
            if isinstance(choice, _Turn):
                return choice
        raise AssertionError("no turn was given")

    def _asleep(self) -> dict[int, Footprint]:
        for choice in reversed(self._chosen[: self._position]):
            if isinstance(choice, _Turn):
                return choice.inherited()
        return {}

    @staticmethod
    def _changed() -> RuntimeError:
        return RuntimeError(
            "the program went another way than before with the same choices: it must depend on "
            "nothing but the model (no time, no random numbers, no state kept between runs)"
        )
