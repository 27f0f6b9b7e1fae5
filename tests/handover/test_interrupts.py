"""Ctrl-C at every bytecode boundary: what is created, received or handed over is owned, never lost."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

import fdproof
from fdproof.handover import Service, Store
from fdproof.handover._restoring import Restoring
from tests.core.boundaries import sweep
from tests.handover.children import run

pytestmark = [
    pytest.mark.requires_kernel("pidfd_open", "close_range", "SO_PASSPIDFD"),
    # An owner that an interrupt drops warns, and closes: here that is the right end.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.timeout(300),
]


@pytest.fixture
def place(tmp_path: Path) -> Callable[[], str]:
    """A path of its own for each run: what an interrupt leaves of a socket is no descriptor."""
    numbers = itertools.count()
    return lambda: f"{tmp_path}/{next(numbers):06}"


def with_a_store(place: Callable[[], str]) -> None:
    with Store(place()):
        pass


def with_a_push(place: Callable[[], str]) -> None:
    with Store(place()) as store, fdproof.eventfd() as file:
        service = Service(store.path)
        service.push("a", file)
        store.handle()
        service.remove("a")
        store.handle()


def with_a_question(place: Callable[[], str]) -> None:
    with Store(place()) as store, Restoring() as question:
        store.keep("a", fdproof.eventfd())
        Service(store.path).tell({"FDPROOF_RESTORE": "1"}, [question.theirs])
        store.handle()
        question.receive()
        question.receive()
        with question.handed() as handed, handed.take("a"):
            pass


def with_a_barrier(place: Callable[[], str]) -> None:
    with Store(place()) as store:
        with pytest.raises(TimeoutError):
            Service(store.path).barrier(0)
        store.handle()


@pytest.mark.parametrize("operation", [with_a_store, with_a_push, with_a_question, with_a_barrier])
def test_an_interrupt_anywhere_leaves_no_descriptor(
    operation: Callable[[Callable[[], str]], None], place: Callable[[], str]
) -> None:
    found = sweep(lambda: operation(place))

    assert found.boundaries > 100
    assert found.damage == [], str(found)


def test_an_interrupted_take_has_taken_all_or_nothing() -> None:
    program = """
import warnings
sys.path.insert(0, arguments)
warnings.simplefilter("ignore", ResourceWarning)
import fdproof
from fdproof.handover import _activation
from tests.core.boundaries import sweep

def take():
    with handover.listeners() as handed, handed.take("a"), handed.take_socket("b"):
        pass

def operation():
    _activation._taken_by.clear()
    with fdproof.socketpair(inheritable=True) as (first, second):
        assert (first.detach(), second.detach()) == (3, 4)
    os.environ.update(LISTEN_FDS="2", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="a:b")
    take()

found = sweep(operation, clean_up=os.close)
result = [
    found.boundaries,
    [[one.place, sorted(one.left), sorted(one.lost)] for one in found.damage],
]
"""
    root = str(Path(__file__).parents[2])
    boundaries, damage = run(program, arguments=root, pid_variable=None)

    assert boundaries > 100
    # Before they are taken, both are left as the manager has placed them.
    mine = [one for one in damage if not one[0].startswith("operation")]
    assert mine
    assert [one for one in mine if one[1:] != [[3, 4], []]] == []
