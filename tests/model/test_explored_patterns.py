"""The patterns of publication, with every step of the model failing in turn: nothing is ever left."""

import os
from collections.abc import Callable

import pytest

import fdproof
from fdproof.model import File, Kernel, Run, Task, explore


def built(task: Task) -> File:
    return task.inside.anon_inode_getfile("[x]", os.O_RDWR)


def reserves(task: Task) -> int:
    reservation = fdproof.reserve(table=task.publication_table())
    task.inside.allocate()
    return reservation.build(lambda: built(task)).publish()


def reserves_in_a_block(task: Task) -> int:
    with fdproof.reserve(table=task.publication_table(), at_least=5) as reservation:
        reservation.build(lambda: built(task))
        task.inside.copy_to_user(reservation.number)
        return reservation.publish()


def prepares(task: Task) -> int:
    with fdproof.prepare(lambda: built(task), table=task.publication_table()) as prepared:
        task.inside.copy_to_user(prepared.number)
        return prepared.publish()


def adds(task: Task) -> int:
    return fdproof.add(lambda: built(task), table=task.publication_table())


def publishes_several(task: Task) -> list[int]:
    with fdproof.transaction(table=task.publication_table()) as transaction:
        entries = [transaction.reserve().build(lambda: built(task)) for _ in range(3)]
        for entry in entries:
            task.inside.copy_to_user(entry.number)
    return list(task.table())


def publishes_after_the_work(task: Task) -> int:
    """The careless one: what follows a publish can fail, and the number is nobody's."""
    number = fdproof.add(lambda: built(task), table=task.publication_table())
    task.inside.copy_to_user(number)
    return number


PATTERNS: list[Callable[[Task], object]] = [
    reserves,
    reserves_in_a_block,
    prepares,
    adds,
    publishes_several,
]


def failed_or_published(run: Run) -> None:
    """All or nothing: an error leaves an empty table."""
    if run.errors[0] is not None:
        assert run.tasks[0].table() == {}


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.__name__)
@pytest.mark.parametrize("faults", [1, 2])
def test_a_pattern_leaves_nothing_behind_on_any_path(
    pattern: Callable[[Task], object], faults: int
) -> None:
    report = explore(pattern, invariant=failed_or_published, faults=faults)

    assert report, str(report)
    assert report.faulted >= 2


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.__name__)
def test_a_pattern_in_a_full_table_says_so_and_leaves_nothing(
    pattern: Callable[[Task], object],
) -> None:
    def full() -> Task:
        return Kernel().spawn(rlimit_nofile=0)

    report = explore(pattern, setup=full, invariant=failed_or_published)

    assert report, str(report)


def test_what_follows_a_publish_is_found() -> None:
    report = explore(publishes_after_the_work)

    assert report.failing == 1
    assert "descriptor left open: 0" in str(report)
