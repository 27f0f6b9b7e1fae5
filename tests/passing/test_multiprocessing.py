"""Descriptors through multiprocessing: each way it has of passing things, with each of its start methods."""

import concurrent.futures
import copy
import gc
import multiprocessing
import os
import pickle
import warnings
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver, reduction, resource_tracker
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest

import fdproof
from fdproof import ClosedError, Descriptor, FileFlags, passing
from fdproof.passing import Credentials, Message
from fdproof.process import Process
from tests.core.child import in_child
from tests.core.full_table import limit
from tests.core.own_table import table
from tests.passing import tasks
from tests.passing.raw import refused
from tests.process.children import until

METHODS = ["fork", "spawn", "forkserver"]

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(autouse=True)
def _multiprocessing_ends() -> Iterator[None]:
    """End what multiprocessing keeps running until the interpreter ends."""
    yield
    # A pool is a cycle, and its semaphores are the tracker's as long as it lives.
    gc.collect()
    passing.stop_sharing()
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


@pytest.fixture(params=METHODS)
def context(request: pytest.FixtureRequest) -> Any:
    return multiprocessing.get_context(request.param)


@pytest.fixture
def shared() -> Iterator[Descriptor]:
    with fdproof.memfd("shared") as file:
        # Several processes write to it at once.
        file.status |= FileFlags.APPEND
        yield file


def only_ours() -> bool:
    """Whether nobody but the test has the shared file open here; the thread that sends is not waited for."""
    return tasks.numbers_of("shared") == 1


def text(file: Descriptor) -> bytes:
    return os.pread(file.fileno(), 1000, 0)


def test_an_argument_of_a_process(context: Any, shared: Descriptor) -> None:
    """The child has it once, close-on-exec, and owns it; ours stays ours."""
    ours, theirs = context.Pipe()
    with ours:
        child = context.Process(target=tasks.answer_write, args=(shared, theirs))
        child.start()
        theirs.close()
        assert ours.recv() == (1, 0, False)
        child.join()
        assert child.exitcode == 0
        child.close()
    assert text(shared) == b"argument"
    assert not shared.closed


def test_arguments_that_are_one_object_are_one_object_there(
    context: Any, shared: Descriptor
) -> None:
    ours, theirs = context.Pipe()
    with ours:
        message = Message(b"data", [shared])
        child = context.Process(target=tasks.answer_twice, args=(shared, shared, message, theirs))
        child.start()
        theirs.close()
        assert ours.recv() == (True, True, b"data")
        child.join()
        child.close()


def test_there_and_back_over_a_connection(context: Any, shared: Descriptor) -> None:
    ours, theirs = context.Pipe()
    with ours:
        child = context.Process(target=tasks.serve, args=(theirs,))
        child.start()
        theirs.close()
        for _ in range(3):
            ours.send(shared)
            with ours.recv() as back:
                assert shared.same_file(back)
                assert not back.inheritable
            ours.send("received")
        ours.send(None)
        child.join()
        child.close()
    assert text(shared) == b"there" * 3


def test_the_sender_may_close_at_once(context: Any) -> None:
    """The bytes on the way hold a descriptor of their own."""
    ours, theirs = context.Pipe()
    with ours:
        child = context.Process(target=tasks.serve, args=(theirs,))
        child.start()
        theirs.close()
        with fdproof.memfd("closed") as file:
            ours.send(file)
        with ours.recv() as back:
            assert text(back) == b"there"
        ours.send("received")
        ours.send(None)
        child.join()
        child.close()


@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue", "JoinableQueue"])
def test_a_queue_leaves_nothing_on_either_side(context: Any, kind: str) -> None:
    count = 20
    files = []
    for index in range(count):
        files.append(fdproof.memfd("queued"))
        os.write(files[-1].fileno(), b"%d" % index)
    queue = getattr(context, kind)()
    ours, theirs = context.Pipe()
    with ours:
        child = context.Process(target=tasks.read_all, args=(queue, count, theirs))
        child.start()
        theirs.close()
        for file in files:
            queue.put(file)
        texts, change = ours.recv()
        child.join()
        child.close()
    assert texts == [b"%d" % index for index in range(count)]
    assert change == 0
    for file in files:
        file.close()
    queue.close()
    if kind != "SimpleQueue":
        queue.join_thread()


def test_tasks_and_results_of_a_pool(context: Any, shared: Descriptor) -> None:
    with context.Pool(2) as pool:
        # Of one chunk all tasks would have the same object, and the first to close it.
        wrote = pool.starmap(tasks.write, [(shared, b"pool")] * 10, chunksize=1)
        # A forked worker has inherited one besides.
        assert [before - after for before, after, _ in wrote] == [1] * 10
        assert not any(inheritable for _, _, inheritable in wrote)
        made = pool.map(tasks.make, [b"first", b"second"])
        for file, expected in zip(made, [b"first", b"second"], strict=True):
            with file:
                assert text(file) == expected
        pool.close()
        pool.join()
    assert text(shared) == b"pool" * 10


def test_a_pool_keeps_nothing_however_many_tasks(context: Any, shared: Descriptor) -> None:
    with context.Pool(1) as pool:
        pool.apply(tasks.write, (shared, b"x"))
        before = pool.apply(tasks.table_size, (0,))
        for _ in range(50):
            pool.apply(tasks.write, (shared, b"x"))
            with pytest.raises(ValueError, match="did not like Descriptor"):
                pool.apply(tasks.fails, (shared,))
        assert pool.apply(tasks.table_size, (0,)) == before
        until(only_ours)
        pool.close()
        pool.join()


def test_tasks_and_results_of_an_executor(context: Any, shared: Descriptor) -> None:
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
        before, after, inheritable = executor.submit(tasks.write, shared, b"pool").result()
        assert (before - after, inheritable) == (1, False)
        with executor.submit(tasks.make, b"made there").result() as file:
            assert text(file) == b"made there"
        with pytest.raises(ValueError, match="did not like"):
            executor.submit(tasks.fails, shared).result()
        with (
            Process.current() as me,
            Message(b"data", [shared.duplicate()], credentials=Credentials.current()) as message,
        ):
            described = executor.submit(tasks.describe, message, me).result()
    assert described == (b"data", 1, os.getpid(), os.getpid(), False)
    assert text(shared) == b"pool"


def test_a_closed_one_fails_the_task_and_not_the_executor(context: Any) -> None:
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
        with fdproof.memfd("closed") as file:
            pass
        with pytest.raises(ClosedError, match="owns nothing"):
            executor.submit(tasks.fails, file).result()
        assert executor.submit(abs, -1).result() == 1


def test_an_executor_says_that_a_task_could_not_be_received(shared: Descriptor) -> None:
    """multiprocessing.Pool would drop the task, and its result would never come."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
        executor.submit(tasks.have_no_number_left, 0).result()
        with pytest.raises(BrokenProcessPool):
            executor.submit(tasks.write, shared, b"x").result()


def test_the_bytes_on_the_wire_are_those_of_the_standard_library(shared: Descriptor) -> None:
    """So one end can be changed before the other."""
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        reduction.send_handle(ours, shared.fileno(), os.getpid())
        with passing.receive(theirs, 1, 1) as message:
            assert shared.same_file(message.files[0])
        passing.send(ours, b"\1", [shared])
        with Descriptor(reduction.recv_handle(theirs)) as received:
            assert shared.same_file(received)


def there(value: Any) -> Any:
    """The same on the other side of multiprocessing's pickle, which is here as well."""
    return pickle.loads(ForkingPickler.dumps(value))


@pytest.mark.parametrize("module", [pickle, copy], ids=lambda module: module.__name__)
def test_plain_pickle_and_copy_say_what_to_do(module: Any, shared: Descriptor) -> None:
    act = pickle.dumps if module is pickle else copy.copy
    with pytest.raises(TypeError, match=r"import fdproof\.passing"):
        act(shared)
    with fdproof.pipe() as pipe, pytest.raises(TypeError, match="take its two Descriptors"):
        act(pipe)
    with pytest.raises(TypeError, match="multiprocessing"):
        act(Message())


def test_records_are_plain_and_a_peer_brings_its_process() -> None:
    said = Credentials.current()
    assert pickle.loads(pickle.dumps(said)) == said
    ours, theirs = fdproof.socketpair()
    with ours, theirs, passing.peer(ours) as peer, there(peer) as copied:
        assert copied.pid == peer.pid
        assert copied.process.same_process(peer.process)


def test_only_the_first_who_asks_gets_it(shared: Descriptor) -> None:
    sent = ForkingPickler.dumps(shared)
    pickle.loads(sent).close()
    with pytest.raises(EOFError, match="it was fetched before"):
        pickle.loads(sent)


def test_a_sender_that_has_ended_is_named(context: Any) -> None:
    ours, theirs = context.Pipe()
    with ours:
        child = context.Process(target=tasks.send_and_end, args=(theirs,))
        child.start()
        theirs.close()
        child.join()
        child.close()
        with pytest.raises(
            ConnectionRefusedError, match="the process that sent this Descriptor has ended"
        ):
            ours.recv()


def test_what_nobody_fetched_is_closed_when_sharing_stops(shared: Descriptor) -> None:
    """A task that never ran, a queue that was dropped, a pickle that failed half-way."""
    ForkingPickler.dumps(shared)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        ForkingPickler.dumps([shared, lambda: None])
    assert tasks.numbers_of("shared") == 3
    passing.stop_sharing()
    assert only_ours()


def test_a_full_table_at_the_sender_is_an_error_there(shared: Descriptor) -> None:
    def check() -> None:
        limit(1)
        with fdproof.eventfd():
            before = table()
            with pytest.raises(OSError, match="Too many open files"):
                ForkingPickler.dumps(shared)
            assert table() == before

    in_child(check)


def test_a_first_that_cannot_be_kept_leaves_no_copy(shared: Descriptor) -> None:
    def check() -> None:
        before = table()
        # Room for the copy, and none for the socket that would listen.
        limit(1)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert refused(lambda: ForkingPickler.dumps(shared)) == "EMFILE"
        assert [str(one.message) for one in caught] == [], "closed, not dropped"
        assert table() == before

    in_child(check)


def test_a_full_table_at_the_receiver_says_so(context: Any, shared: Descriptor) -> None:
    connection, inner = context.Pipe()
    answers, told = context.Pipe()
    with connection, answers:
        child = context.Process(target=tasks.receive_in_full_table, args=(inner, told))
        child.start()
        inner.close()
        told.close()
        connection.send(shared)
        connection.send(shared)
        name, message = answers.recv()
        child.join()
        child.close()
    assert (name, message) == ("OSError", "[Errno 24] Too many open files")


def test_a_dropped_argument_belongs_to_the_child_that_never_saw_it(shared: Descriptor) -> None:
    """A child that cannot load its arguments ends, and its descriptors end with it."""
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=tasks.fails, args=(shared, 1, 2))
    child.start()
    child.join()
    assert child.exitcode == 1
    child.close()
    assert not shared.closed
