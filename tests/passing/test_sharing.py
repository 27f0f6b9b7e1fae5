"""What lies ready for other processes: who gets it, and what is left of it in every other case."""

import socket
import threading
from collections.abc import Iterator

import pytest

import fdproof
from fdproof import Descriptor, passing
from fdproof.passing._sharing import Claim, fetch, share
from tests.core.child import in_child
from tests.core.own_table import table
from tests.passing import tasks
from tests.passing.raw import hung_up, refused
from tests.passing.tasks import numbers_of
from tests.process.children import until


@pytest.fixture(autouse=True)
def _shares_no_more() -> Iterator[None]:
    yield
    passing.stop_sharing()


@pytest.fixture
def shared() -> Iterator[Descriptor]:
    with fdproof.memfd("shared") as file:
        yield file


def ask(claim: Claim, question: bytes, files: list[Descriptor]) -> None:
    """Send the process that keeps the descriptor of ``claim`` whatever one likes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
        passing.send(asking, question, files, address=claim[0])


def test_it_is_the_same_file_and_only_once(shared: Descriptor) -> None:
    claim = share(shared)
    with fetch(claim) as fetched:
        assert shared.same_file(fetched)
        assert not fetched.inheritable
    with pytest.raises(EOFError, match="fetched before"):
        fetch(claim)


def test_stopping_leaves_the_table_as_it_was_and_can_be_repeated(shared: Descriptor) -> None:
    before = table()
    for _ in range(3):
        share(shared)
        share(shared)
        fetch(share(shared)).close()
        passing.stop_sharing()
        passing.stop_sharing()
        assert table() == before
    assert threading.active_count() == 1


def test_who_asks_after_the_end_is_refused(shared: Descriptor) -> None:
    claim = share(shared)
    passing.stop_sharing()
    with pytest.raises(ConnectionRefusedError, match="has ended or stopped sharing"):
        fetch(claim)


def test_a_wrong_question_gets_nothing_and_takes_nothing(shared: Descriptor) -> None:
    name, _, answer = claim = share(shared)
    with pytest.raises(EOFError):
        fetch((name, bytes(16), answer))
    fetch(claim).close()


def test_a_stranger_who_took_the_name_over_is_not_believed(shared: Descriptor) -> None:
    """He learns the question, but not what must be answered."""
    claim = share(shared)
    passing.stop_sharing()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.bind(claim[0])

        def cheat() -> None:
            with passing.receive(stranger, 100, 1) as asked, fdproof.memfd("trap") as trap:
                passing.send(asked.files[0], bytes(16), [trap])

        thread = threading.Thread(target=cheat)
        thread.start()
        with pytest.raises(EOFError):
            fetch(claim)
        thread.join()
    assert numbers_of("trap") == 0


@pytest.mark.parametrize("question", [b"", b"short", bytes(16), bytes(100)], ids=len)
@pytest.mark.parametrize("count", [0, 1, 2, 253])
def test_nonsense_is_let_go_of(shared: Descriptor, question: bytes, count: int) -> None:
    claim = share(shared)
    with fdproof.pipe() as (reader, writer):
        ask(claim, question, [writer] * count)
        writer.close()
        until(lambda: hung_up(reader.fileno()))
    fetch(claim).close()


def test_an_answer_that_nobody_takes_is_let_go_of(shared: Descriptor) -> None:
    """A socket that is closed, one that is full, and something that is no socket."""
    ours, theirs = fdproof.socketpair(type=socket.SOCK_SEQPACKET)
    ours.close()
    full, unread = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    full.setblocking(False)
    with full, unread, theirs, fdproof.memfd("no socket") as file:
        while not refused(lambda: full.send(b"x")):
            pass
        for answered in (theirs, fdproof.receive(full), file):
            claim = share(shared)
            ask(claim, claim[1], [answered])
            answered.close()
        fetch(share(shared)).close()
        until(lambda: numbers_of("shared") == 1)


def test_many_ask_at_once(shared: Descriptor) -> None:
    claims = [share(shared) for _ in range(100)]
    wrong: list[bool] = []

    def some(mine: list[Claim]) -> None:
        for claim in mine:
            with fetch(claim) as fetched:
                if not shared.same_file(fetched):
                    wrong.append(True)

    threads = [threading.Thread(target=some, args=(claims[each::8],)) for each in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    until(lambda: numbers_of("shared") == 1)


def sockets() -> int:
    return sum(target.startswith("socket:") for target in tasks.table().values())


def test_a_forked_child_holds_nothing_of_it_and_shares_on_its_own(shared: Descriptor) -> None:
    before = sockets()
    claim = share(shared)

    def check() -> None:
        assert (sockets(), numbers_of("shared")) == (before, 1)
        own = share(shared)
        fetch(own).close()
        # The parent's is still the parent's to give.
        fetch(claim).close()

    in_child(check)
    with pytest.raises(EOFError):
        fetch(claim)


def test_a_fork_in_the_middle_of_an_answer_takes_nothing_along(shared: Descriptor) -> None:
    before = sockets()
    claims = [share(shared) for _ in range(500)]

    def fetch_all() -> None:
        for claim in claims:
            fetch(claim).close()

    def check() -> None:
        assert (sockets(), numbers_of("shared")) == (before, 1)

    asker = threading.Thread(target=in_child, args=(fetch_all,))
    asker.start()
    while asker.is_alive():
        in_child(check)
    asker.join()


def test_a_thread_that_cannot_start_leaves_nothing_and_the_next_try_works(
    shared: Descriptor, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = table()

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError):
            share(shared)
    assert table() == before
    fetch(share(shared)).close()
