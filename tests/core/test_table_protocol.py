"""The patterns, over every kind of table: one suite, and no table knows that it is not the only one."""

import errno
import gc
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import fdproof
from fdproof import FileFlags, FlagError, Reservation, StateError
from tests.core.subjects import SUBJECTS, Subject


class Unusual(BaseException):
    """What nobody catches by ``except Exception``."""


EXCEPTIONS = [
    OSError(errno.EMFILE, "full"),
    ValueError(),
    KeyboardInterrupt(),
    SystemExit(1),
    GeneratorExit(),
    Unusual(),
]


def in_transaction(subject: Subject, build: Callable[[], Any], **where: Any) -> Any:
    with fdproof.transaction(table=subject.table) as block:
        entry = block.prepare(build, **where)
    return entry.descriptor


PATTERNS: dict[str, Callable[..., Any]] = {
    "reserve": lambda subject, build, **where: (
        fdproof.reserve(table=subject.table, **where).build(build).publish()
    ),
    "prepare": lambda subject, build, **where: fdproof.prepare(
        build, table=subject.table, **where
    ).publish(),
    "add": lambda subject, build, **where: fdproof.add(build, table=subject.table, **where),
    "transaction": in_transaction,
}

each_pattern = pytest.mark.parametrize("pattern", PATTERNS.values(), ids=list(PATTERNS))


@each_pattern
def test_takes_the_lowest_number(subject: Subject, pattern: Callable[..., Any]) -> None:
    before = subject.state()
    number = subject.lowest_free()

    published = pattern(subject, subject.file)

    assert subject.number(published) == number
    assert subject.close_on_exec(published)
    subject.close(published)
    assert subject.state() == before


@each_pattern
def test_takes_the_lowest_number_from(subject: Subject, pattern: Callable[..., Any]) -> None:
    published = pattern(subject, subject.file, at_least=40)

    assert subject.number(published) == 40
    again = pattern(subject, subject.file, at_least=40, inheritable=True)
    assert subject.number(again) == 41
    assert not subject.close_on_exec(again)
    subject.close(published)
    subject.close(again)


@each_pattern
def test_takes_exactly_this_number(subject: Subject, pattern: Callable[..., Any]) -> None:
    published = pattern(subject, subject.file, at=41)
    assert subject.number(published) == 41
    before = subject.state()
    built: list[object] = []

    with pytest.raises(OSError, match=r"^\[Errno") as caught:
        pattern(subject, lambda: built.append(subject.file()), at=41)

    assert caught.value.errno == errno.EBUSY
    assert built == []
    assert subject.state() == before
    subject.close(published)


@each_pattern
def test_refuses_flags_in_the_wrong_place(subject: Subject, pattern: Callable[..., Any]) -> None:
    before = subject.state()
    for value in (FileFlags.RDWR, fdproof.DescriptorFlags.CLOEXEC, 1, None):
        with pytest.raises(FlagError, match=r"^inheritable: "):
            pattern(subject, subject.file, inheritable=value)
    assert subject.state() == before


@each_pattern
@pytest.mark.parametrize("error", EXCEPTIONS, ids=lambda error: type(error).__name__)
def test_a_failed_build_leaves_nothing(
    subject: Subject, pattern: Callable[..., Any], error: BaseException
) -> None:
    before = subject.state()

    def build() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        pattern(subject, build)
    assert caught.value is error
    del caught
    error.__traceback__ = None
    assert subject.state() == before


@pytest.mark.parametrize("pattern", ["prepare", "add", "transaction"])
def test_a_failed_build_gives_back_at_once(subject: Subject, pattern: str) -> None:
    """Not only when the exception goes, whose traceback keeps every frame and what is in it."""
    before = subject.state()

    def build() -> None:
        raise ValueError

    with pytest.raises(ValueError, match=r"^$") as caught:
        PATTERNS[pattern](subject, build)
    assert subject.state() == before
    assert caught.value.__traceback__ is not None


@each_pattern
@pytest.mark.parametrize("result", [None, True, 1.5, object()])
def test_a_build_that_returns_no_file_leaves_nothing(
    subject: Subject, pattern: Callable[..., Any], result: Any
) -> None:
    before = subject.state()

    with pytest.raises(TypeError):
        pattern(subject, lambda: result)
    assert subject.state() == before


def test_the_number_is_held_while_the_file_is_built(subject: Subject) -> None:
    def build() -> Any:
        assert subject.held(number)
        return subject.file()

    with fdproof.reserve(table=subject.table) as entry:
        number = entry.number or 0
        assert subject.held(number)
        entry.build(build)
        assert subject.held(number), "nothing is visible before the publish"
        assert entry.number == number
        entry.file  # noqa: B018  # there to be set up
        published = entry.publish()
    assert entry.descriptor is published
    assert not subject.held(number)
    subject.close(published)


def test_install_takes_a_file_from_elsewhere(subject: Subject) -> None:
    with fdproof.reserve(table=subject.table) as entry:
        number = entry.number
        published = entry.install(subject.table.adopt(subject.file()))

    assert subject.number(published) == number
    assert entry.descriptor is published
    subject.close(published)


def test_receive_gives_a_number_to_a_file_that_exists(subject: Subject) -> None:
    first = fdproof.add(subject.file, table=subject.table)
    source = first if subject.table is fdproof.own_table else subject.identity(first)
    before = subject.state()

    second = fdproof.receive(source, at_least=30, table=subject.table)
    third = fdproof.receive(source, at=33, inheritable=True, table=subject.table)

    assert (subject.number(second), subject.number(third)) == (30, 33)
    assert subject.identity(first) == subject.identity(second) == subject.identity(third)
    assert (subject.close_on_exec(second), subject.close_on_exec(third)) == (True, False)
    with pytest.raises(OSError, match=r"^\[Errno"):
        fdproof.receive(source, at=33, table=subject.table)
    subject.close(second)
    subject.close(third)
    assert subject.state() == before
    subject.close(first)


MISUSES: dict[str, tuple[str, Callable[[Subject, Reservation[Any, Any]], object]]] = {
    "publish before build": ("reserved", lambda subject, entry: entry.publish()),
    "file before build": ("reserved", lambda subject, entry: entry.file),
    "descriptor before build": ("reserved", lambda subject, entry: entry.descriptor),
    "build twice": ("built", lambda subject, entry: entry.build(subject.file)),
    "install over a build": ("built", lambda subject, entry: entry.install(subject.file())),
    "descriptor before publish": ("built", lambda subject, entry: entry.descriptor),
    **{
        f"{name} after {state}": (state, use)
        for state in ("published", "cancelled")
        for name, use in {
            "publish": lambda subject, entry: entry.publish(),
            "build": lambda subject, entry: entry.build(subject.file),
            "install": lambda subject, entry: entry.install(subject.file()),
            "number": lambda subject, entry: entry.number,
            "file": lambda subject, entry: entry.file,
            "with": lambda subject, entry: entry.__enter__(),
        }.items()
    },
    "descriptor after cancelled": ("cancelled", lambda subject, entry: entry.descriptor),
}


@pytest.mark.parametrize("misuse", MISUSES)
@pytest.mark.filterwarnings(
    "ignore:unclosed descriptor:ResourceWarning"
)  # the file that was refused
def test_every_misuse_is_a_state_error(subject: Subject, misuse: str) -> None:
    state, use = MISUSES[misuse]
    with fdproof.reserve(table=subject.table) as entry:
        published = None
        if state != "reserved":
            entry.build(subject.file)
        if state == "published":
            published = entry.publish()
        if state == "cancelled":
            entry.cancel()
        before = subject.state()

        with pytest.raises(StateError):
            use(subject, entry)

        assert subject.state() == before
        if state == "built":
            published = entry.publish()
        if published is not None:
            subject.close(published)


@pytest.mark.parametrize("inside", ["build", "cancel", "publish"])
def test_a_build_does_not_use_its_own_reservation(subject: Subject, inside: str) -> None:
    """What the inner call did stays true, and the outer file is not installed over it."""
    before = subject.state()

    def build() -> Any:
        if inside != "cancel":
            entry.build(subject.file)
        if inside == "publish":
            published.append(entry.publish())
        if inside == "cancel":
            entry.cancel()
        return subject.file()

    published: list[Any] = []
    with fdproof.reserve(table=subject.table) as entry:
        with pytest.raises(StateError, match="while it was building"):
            entry.build(build)
    for descriptor in published:
        subject.close(descriptor)
    assert subject.state() == before


def test_cancel_is_quiet_however_often(subject: Subject) -> None:
    before = subject.state()
    entry = fdproof.prepare(subject.file, table=subject.table)

    entry.cancel()
    entry.cancel()

    assert subject.state() == before


def test_cancel_after_publish_undoes_nothing(subject: Subject) -> None:
    with fdproof.prepare(subject.file, table=subject.table) as entry:
        published = entry.publish()
        before = subject.state()
        entry.cancel()
    assert subject.state() == before
    subject.close(published)


def test_early_return_after_a_successful_prepare_leaves_nothing(subject: Subject) -> None:
    """The bug of the first FD_PREPARE: it asked whether there was an error, and there was none."""

    def early() -> str:
        with fdproof.prepare(subject.file, table=subject.table) as entry:
            if entry.file is not None:
                return "no error, and no publish either"
            entry.publish()
        return "unreachable"

    before = subject.state()
    assert early().startswith("no error")
    assert subject.state() == before


def test_break_and_continue_leave_nothing(subject: Subject) -> None:
    before = subject.state()
    for leave in (True, False):
        with fdproof.prepare(subject.file, table=subject.table):
            if leave:
                continue
            break
    assert subject.state() == before


def test_closing_a_generator_leaves_nothing(subject: Subject) -> None:
    def numbers() -> Iterator[int | None]:
        with fdproof.prepare(subject.file, table=subject.table) as entry:
            yield entry.number
            entry.publish()

    before = subject.state()
    generator = numbers()
    assert next(generator) is not None
    assert subject.state() != before
    generator.close()  # type: ignore[attr-defined]
    assert subject.state() == before


def test_a_dropped_reservation_gives_its_number_back(subject: Subject) -> None:
    before = subject.state()
    fdproof.reserve(table=subject.table)
    assert subject.state() == before

    entry: Any = fdproof.reserve(table=subject.table)
    cycle = [entry]
    cycle.append(cycle)
    del entry, cycle
    gc.collect()
    assert subject.state() == before


def test_a_dropped_own_file_warns() -> None:
    own = SUBJECTS["own"]()
    before = own.state()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fdproof.prepare(own.file)
    assert [warning.category for warning in caught] == [ResourceWarning]
    assert own.state() == before


def test_a_number_that_was_taken_away_is_noticed(subject: Subject) -> None:
    with fdproof.prepare(subject.file, table=subject.table) as entry:
        number = entry.number or 0
        subject.steal(number)
        with pytest.raises(subject.taken, match="taken from its reservation"):
            entry.publish()
        assert entry.file is not None, "the file still belongs to the reservation"
    assert not subject.held(number)
