"""Threads of a program take turns, one call each, as the path of an exploration says.

They are real threads, so that a program is a plain function, but only the one that holds the baton runs:
what happens depends on the choices alone. The baton changes hands at calls and nowhere else, so what a
program does between two calls belongs to the first of them. A call that would wait gives the baton
back and is tried again when another thread has got on.
"""

import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from fdproof.model._failure import Blocked
from fdproof.model._footprint import Footprint
from fdproof.model._paths import Cut

__all__ = ["Choices", "Deadlock", "Endless", "Interleaving", "Outcome"]

T = TypeVar("T")


class Abandoned(BaseException):
    """Ends a thread whose run is over; not an Exception, which a program might catch on the way."""


class Deadlock(Exception):  # noqa: N818 - a result, not an error
    """Every thread that is left waits."""

    def __init__(self, threads: tuple[int, ...]) -> None:
        super().__init__(threads)
        self.threads = threads


class Endless(Exception):  # noqa: N818 - a result, not an error
    """The run took more steps than it may."""


class Choices(Protocol):
    """What an interleaving asks: see Paths."""

    def turn(self, able: Sequence[int]) -> int:
        """Return one of those that can go on."""

    def taken(self, footprint: Footprint) -> None:
        """Note what its step touches."""

    def waits(self) -> bool:
        """Take the turn back; False if nobody else is left to try."""


@dataclass(slots=True)
class Outcome:
    """What a thread returned or raised."""

    value: Any = None
    error: Exception | None = None

    def fail(self, error: Exception) -> None:
        """Take note of an error that ended the thread, and let go of what its frames hold."""
        traceback.clear_frames(error.__traceback__)
        self.error = error


class Interleaving:
    """One run of several threads.

    Args:
        choices: says who is next.
        most_steps: a run that takes more is endless.
    """

    def __init__(self, choices: Choices, most_steps: int) -> None:
        self._choices = choices
        self._steps_left = most_steps
        self._outcomes: list[Outcome] = []
        self._gates: list[threading.Lock] = []
        # Free for the main thread: every thread has come to its first call; the run is over.
        self._parked = _closed()
        self._over = _closed()
        self._started = False
        self._running: list[int] = []
        self._waiting: set[int] = set()
        self._stuck = False
        self._end: BaseException | None = None

    def run(self, programs: Sequence[Callable[[], object]]) -> list[Outcome]:
        """Run them to their ends.

        Returns:
            What each returned or raised, in order.

        Raises:
            Cut: the rest of the path shows nothing new.
            Deadlock: every thread that is left waits.
            Endless: too many steps.
        """
        self._outcomes = [Outcome() for _ in programs]
        if len(programs) == 1:
            self._alone(programs[0])
            return self._outcomes
        self._gates = [_closed() for _ in programs]
        threads = [
            threading.Thread(target=self._body, args=(index, program), daemon=True)
            for index, program in enumerate(programs)
        ]
        try:
            for index, thread in enumerate(threads):
                self._running.append(index)
                thread.start()
                self._parked.acquire()
            self._started = True
            if self._running and self._end is None:
                self._hand_over(self._running[0])
                self._over.acquire()
        except BaseException as interrupt:
            self._end = interrupt
        for gate, thread in zip(self._gates, threads, strict=True):
            if thread.ident is None:
                continue
            # One after the other, so that the clean-up of abandoned threads does not mix.
            if self._end is not None and thread.is_alive():
                gate.release()
            thread.join()
        if self._end is not None:
            raise self._end
        return self._outcomes

    def call(self, thread: int, function: Callable[[], T], footprint: Callable[[], Footprint]) -> T:
        """Make a call of a thread when it is its turn.

        Args:
            thread: whose; it runs in that thread.
            function: makes the call.
            footprint: tells, right before it, what the call touches.
        """
        if not self._gates:
            return self._call_alone(function)
        while True:
            self._pause(thread)
            self._choices.taken(footprint())
            waited = False
            try:
                return function()
            except Blocked:
                waited = True
                self._waiting.add(thread)
                self._stuck = not self._choices.waits()
            finally:
                if not waited:
                    # What was done may be what they wait for.
                    self._waiting.clear()

    def _alone(self, program: Callable[[], object]) -> None:
        """Run the only program there is: no thread, no baton."""
        try:
            self._outcomes[0].value = program()
        except Abandoned:
            assert self._end is not None
            raise self._end from None
        except Exception as error:
            self._outcomes[0].fail(error)

    def _call_alone(self, function: Callable[[], T]) -> T:
        if self._steps_left == 0:
            self._end = Endless()
        self._steps_left -= 1
        try:
            if self._end is None:
                return function()
        except Blocked:
            self._end = Deadlock((0,))
        raise Abandoned

    def _pause(self, thread: int) -> None:
        """Give the baton away and wait until it comes back."""
        if self._end is not None:
            raise Abandoned
        if self._started:
            self._hand_over(thread)
        else:
            self._parked.release()
        self._gates[thread].acquire()
        if self._end is not None:
            raise Abandoned

    def _hand_over(self, last: int) -> None:
        try:
            chosen = self._choose(last)
        except Exception as end:
            self._end = end
            self._over.release()
        else:
            self._gates[chosen].release()

    def _choose(self, last: int) -> int:
        # The same thread first: the first path changes threads only where it must.
        able = [thread for thread in self._running if thread not in self._waiting]
        able.sort(key=lambda thread: thread != last)
        if not able:
            raise Deadlock(tuple(self._running))
        if self._stuck:
            raise Cut
        if self._steps_left == 0:
            raise Endless
        self._steps_left -= 1
        return self._choices.turn(able)

    def _body(self, thread: int, program: Callable[[], object]) -> None:
        outcome = self._outcomes[thread]
        try:
            outcome.value = program()
        except Abandoned:
            return
        except Exception as error:
            outcome.fail(error)
        except BaseException as interrupt:
            self._end = interrupt
        self._running.remove(thread)
        if not self._started:
            self._parked.release()
        elif self._running and self._end is None:
            self._hand_over(thread)
        else:
            self._over.release()


def _closed() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock
