"""One operation or more for every public operation of fdproof, to be swept by fdproof itself."""

import os
import pickle
import select
import signal
import socket
import warnings
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

import anyio

import fdproof
from fdproof import FileFlags, TruncatedError, passing
from fdproof.notifier import Filter, Listener, Rule
from fdproof.observe import snapshot
from fdproof.passing import Message, _sharing

_SO_PASSPIDFD = 76

# What each case is there for: public names as their module lists them, methods with their class.
COVERS: dict[str, tuple[str, ...]] = {}

_TARGET = (
    "A process has one listener at most: under check, starting a target is EBUSY. Its error paths are "
    "in test_targets.py, by RLIMIT_NOFILE and by filters that refuse."
)
_RECORD = "A value without system calls."
_ANSWER = (
    "It acts on a supervised call, which exists in a target only: tests/notifier/test_listener.py."
)

# The features of the kernel that a case needs, by their names in tests/kernel_features.py.
NEEDS: dict[str, tuple[str, ...]] = {
    "asking_for_the_peer": ("SO_PEERPIDFD",),
    "passing_by_datagrams": ("SO_PASSPIDFD",),
    "passing_descriptors": ("SO_PASSPIDFD",),
    "passing_too_many": ("SO_PASSPIDFD",),
    "passing_what_is_refused": ("SO_PASSPIDFD",),
}

# Public names without a case, and why. The completeness test reads it.
EXEMPT: dict[str, str] = {
    "fdproof.notifier.fork": _TARGET,
    "fdproof.notifier.spawn": _TARGET,
    "fdproof.notifier.Target": _TARGET,
    **{f"fdproof.notifier.Target.{name}": _TARGET for name in ("close", "kill", "poll", "wait")},
    "fdproof.notifier.Notification": _ANSWER,
    **{
        f"fdproof.notifier.Notification.{name}": _ANSWER
        for name in (
            "answered",
            "arguments",
            "call",
            "fail",
            "id",
            "instruction_pointer",
            "name",
            "pid",
            "reply",
            "resume",
            "valid",
        )
    },
    "fdproof.notifier.Condition": _RECORD,
    **{
        f"fdproof.notifier.Condition.{name}": _RECORD
        for name in ("argument", "holds", "mask", "spelled", "value")
    },
    **{f"fdproof.notifier.Rule.{name}": _RECORD for name in ("conditions", "name")},
    **{f"fdproof.passing.Credentials.{name}": _RECORD for name in ("gid", "pid", "uid")},
    **{
        f"fdproof.passing.Peer.{name}": _RECORD
        for name in ("gid", "groups", "pid", "process", "uid")
    },
}


def covers(*names: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Say which public operations a case is there for."""

    def register(case: Callable[[], None]) -> Callable[[], None]:
        COVERS[case.__name__] = names
        return case

    return register


def _comm() -> fdproof.Descriptor:
    return fdproof.open("/proc/self/comm")


# Creating calls.


@covers("fdproof.open")
def opening() -> None:
    with fdproof.open("/proc/self", FileFlags.DIRECTORY) as directory:
        with fdproof.open("comm", directory=directory, resolve=fdproof.ResolveFlags.BENEATH):
            pass


@covers("fdproof.pipe", "fdproof.Pair", "fdproof.Pair.close", "fdproof.Pair.first")
def piping() -> None:
    with fdproof.pipe(nonblocking=True) as ends:
        os.write(ends[1].fileno(), b"x")
        os.read(ends.first.fileno(), 1)
    ends.close()


@covers("fdproof.socketpair", "fdproof.Pair.second")
def pairing() -> None:
    with fdproof.socketpair(type=socket.SOCK_SEQPACKET) as ends:
        first, second = ends
        os.write(first.fileno(), b"x")
        os.read(second.fileno(), 1)
        assert ends.second is second


@covers("fdproof.memfd")
def memory() -> None:
    with fdproof.memfd("memory", allow_sealing=True) as file:
        os.ftruncate(file.fileno(), 10)


@covers("fdproof.eventfd")
def events() -> None:
    with fdproof.eventfd(1, semaphore=True) as event:
        os.eventfd_read(event.fileno())


@covers("fdproof.timerfd")
def timers() -> None:
    with fdproof.timerfd(after=0.001, every=0.001) as timer:
        os.read(timer.fileno(), 8)
    with fdproof.timerfd():
        pass


@covers("fdproof.signalfd")
def signals() -> None:
    with fdproof.signalfd([signal.SIGUSR1], nonblocking=True):
        pass


@covers("fdproof.epoll")
def polling() -> None:
    with fdproof.epoll() as epoll, fdproof.eventfd(1) as event:
        with select.epoll.fromfd(epoll.detach()) as waiting:
            waiting.register(event.fileno(), select.EPOLLIN)
            waiting.poll(0)


@covers("fdproof.inotify")
def watching() -> None:
    with fdproof.inotify(nonblocking=True):
        pass


@covers("fdproof.pidfd")
def naming_a_process() -> None:
    with fdproof.pidfd(os.getpid()) as process:
        signal.pidfd_send_signal(process.fileno(), 0)


# The owner.


@covers(
    "fdproof.Descriptor",
    "fdproof.Descriptor.close",
    "fdproof.Descriptor.closed",
    "fdproof.Descriptor.detach",
    "fdproof.Descriptor.fileno",
)
def owning() -> None:
    one = fdproof.Descriptor(socket.socket())
    with fdproof.Descriptor(one.detach()) as owner:
        assert owner.fileno() >= 0
    owner.close()
    assert owner.closed


@covers("fdproof.Descriptor.duplicate", "fdproof.Descriptor.same_file")
def duplicating() -> None:
    with fdproof.eventfd() as one, one.duplicate(at_least=20, inheritable=True) as other:
        assert one.same_file(other)


@covers("fdproof.Descriptor.inheritable", "fdproof.Descriptor.status")
def setting_flags() -> None:
    with fdproof.memfd("flags") as file:
        file.inheritable = not file.inheritable
        file.status |= FileFlags.APPEND


@covers("fdproof.Descriptor.into_file")
def becoming_a_file() -> None:
    for mode in ("r", "rb"):
        with _comm() as owner, owner.into_file(mode) as file:
            file.read()
    with fdproof.memfd("text") as owner, owner.into_file("w") as file:
        file.write("text")


@covers("fdproof.Descriptor.into_socket")
def becoming_a_socket() -> None:
    with fdproof.socketpair() as ends, ends.first.into_socket() as one:
        one.sendall(b"x")


# The patterns.


@covers(
    "fdproof.reserve",
    "fdproof.Reservation",
    "fdproof.Reservation.build",
    "fdproof.Reservation.descriptor",
    "fdproof.Reservation.file",
    "fdproof.Reservation.number",
    "fdproof.Reservation.publish",
)
def reserving() -> None:
    with fdproof.reserve() as reservation:
        number = reservation.number
        reservation.build(_comm)
        os.fstat(reservation.file.fileno())
        with reservation.publish() as owner:
            assert owner.fileno() == number
            assert reservation.descriptor is owner


@covers("fdproof.Reservation.install")
def installing() -> None:
    with fdproof.reserve(at_least=10, inheritable=True) as reservation, _comm() as file:
        with reservation.install(file):
            pass


@covers("fdproof.Reservation.cancel")
def cancelling() -> None:
    reservation = fdproof.reserve(at=50)
    reservation.cancel()
    reservation = fdproof.reserve()
    try:
        reservation.build(_comm)
    finally:
        reservation.cancel()
        reservation.cancel()


def reserving_and_forgetting() -> None:
    """Nobody cancels: the finaliser gives the number and the file back."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        fdproof.reserve().build(_comm)
        fdproof.reserve()


@covers("fdproof.prepare")
def preparing() -> None:
    with fdproof.prepare(_comm) as one, fdproof.prepare(fdproof.eventfd, at=60) as other:
        with one.publish(), other.publish():
            pass


def preparing_what_fails() -> None:
    def build() -> fdproof.Descriptor:
        with _comm():
            raise LookupError

    try:
        fdproof.prepare(build)
    except LookupError:
        pass


@covers("fdproof.add")
def adding() -> None:
    with fdproof.add(_comm), fdproof.add(socket.socket, at=70, inheritable=True):
        pass


@covers("fdproof.receive")
def receiving() -> None:
    here, there = socket.socketpair()
    with here, there, fdproof.receive(here) as one, fdproof.receive(there, at=80) as other:
        with fdproof.receive(one, at_least=90, inheritable=True):
            assert other.fileno() == 80


@covers(
    "fdproof.transaction",
    "fdproof.Transaction",
    "fdproof.Transaction.prepare",
    "fdproof.Transaction.reserve",
)
def several_together() -> None:
    with fdproof.transaction() as block:
        one = block.prepare(_comm)
        other = block.reserve(at=95)
        other.build(fdproof.eventfd)
        third = block.prepare(lambda: fdproof.memfd("third"), inheritable=True)
    for reservation in (one, other, third):
        reservation.descriptor.close()


def several_or_none() -> None:
    try:
        with fdproof.transaction() as block:
            block.prepare(_comm)
            block.reserve()
            raise LookupError
    except LookupError:
        pass


@covers(
    "fdproof.OwnTable",
    "fdproof.OwnTable.adopt",
    "fdproof.OwnTable.discard",
    "fdproof.OwnTable.install_all",
    "fdproof.OwnTable.receive",
    "fdproof.OwnTable.reserve",
    "fdproof.Slot",
    "fdproof.Slot.cancel",
    "fdproof.Slot.install",
    "fdproof.Slot.make_room",
    "fdproof.Slot.number",
    "fdproof.Table",
    "fdproof.Table.adopt",
    "fdproof.Table.discard",
    "fdproof.Table.install_all",
    "fdproof.Table.receive",
    "fdproof.Table.reserve",
)
def by_the_protocol() -> None:
    flags = fdproof.DescriptorFlags.CLOEXEC
    table = fdproof.OwnTable()
    slots = []
    try:
        for _ in range(3):
            slots.append(table.reserve(at=None, at_least=0, flags=flags))  # noqa: PERF401 - each is owned at once
        for slot in slots:
            assert slot.number is not None
            slot.make_room()
        with _comm() as one, table.adopt(socket.socket()) as other, fdproof.eventfd() as third:
            with slots[0].install(one):
                published = table.install_all(slots[1:], [other, third])
                for owner in published:
                    table.discard(owner)
    finally:
        for slot in slots:
            slot.cancel()
    table.receive(0, at=None, at_least=0, flags=flags).close()


@covers(
    "fdproof.Headroom",
    "fdproof.Headroom.close",
    "fdproof.Headroom.held",
    "fdproof.Headroom.refill",
    "fdproof.Headroom.run",
)
def keeping_headroom() -> None:
    with fdproof.Headroom(2, paths=["accept"]) as headroom:
        headroom.run("accept", _comm).close()
        assert headroom.refill() == headroom.held
    headroom.close()


# Passing.


def _asking_pair(kind: int) -> tuple[socket.socket, socket.socket]:
    """The second end asks for credentials and pidfds."""
    near, far = socket.socketpair(socket.AF_UNIX, kind)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    far.setsockopt(socket.SOL_SOCKET, _SO_PASSPIDFD, 1)
    return near, far


@covers(
    "fdproof.passing.send",
    "fdproof.passing.receive",
    "fdproof.passing.Message",
    *(
        f"fdproof.passing.Message.{name}"
        for name in ("address", "close", "credentials", "data", "files", "flags", "process")
    ),
    "fdproof.passing.Credentials",
    "fdproof.passing.Credentials.current",
)
def passing_descriptors() -> None:
    near, far = _asking_pair(socket.SOCK_STREAM)
    with near, far, _comm() as one, fdproof.eventfd() as other:
        own = passing.Credentials.current()
        passing.send(near, b"data", [one, other, one], credentials=own)
        with passing.receive(far, 100, 3) as message:
            assert (message.data, message.credentials) == (b"data", own)
            assert (message.address, message.flags) == (None, 0)
            assert message.process is not None
            with message.files[0].into_file() as stream:
                stream.read()
        message.close()
        with passing.Message(b"", [one.duplicate()]):
            pass


def passing_by_datagrams() -> None:
    near, far = _asking_pair(socket.SOCK_DGRAM)
    with near, far, _comm() as one:
        passing.send(near, b"", [one])
        with passing.receive(far, 100, 1, peek=True), passing.receive(far, 100, 1):
            pass


def passing_too_many() -> None:
    near, far = _asking_pair(socket.SOCK_SEQPACKET)
    with near, far, _comm() as one:
        passing.send(near, b"data", [one] * 9)
        try:
            passing.receive(far, 2)
        except TruncatedError as error:
            error.close()


def passing_what_is_refused() -> None:
    near, far = _asking_pair(socket.SOCK_STREAM)
    with near, far, _comm() as one:
        for more in (1, 300):
            try:
                passing.send(near, b"x", [one, *[999] * more])
            except OSError:
                pass


@covers(
    *(
        f"fdproof.passing.Channel.{name}"
        for name in ("close", "closed", "end_receiving", "end_sending", "fileno", "pair")
    ),
    "fdproof.passing.Channel",
    "fdproof.passing.Channel.receive",
    "fdproof.passing.Channel.send",
)
def passing_whole_messages() -> None:
    near, far = passing.Channel.pair()
    with near, far, _comm() as one:
        near.send(b"data", [one] * 300, timeout=0)
        with far.receive(timeout=0) as message:
            assert len(message.files) == 300
        near.send(b"x" * 100_000)
        near.end_sending()
        assert len(far.receive().data) == 100_000
        try:
            far.receive()
        except EOFError:
            far.end_receiving()
    assert near.closed


@covers("fdproof.passing.Channel.send_async", "fdproof.passing.Channel.receive_async")
def passing_whole_messages_in_a_loop() -> None:
    """Driven by hand: an event loop has descriptors of its own."""
    near, far = passing.Channel.pair()

    async def both() -> None:
        with near, far, _comm() as one:
            await near.send_async(b"data", [one] * 300)
            with await far.receive_async():
                pass

    anyio.run(both)


def _receive_what_is_there(sock: socket.socket, *arguments: Any, **options: Any) -> Message:
    """How often a receive looks before it waits is chance: here it begins when there is something."""
    select.select([sock], [], [])
    return passing.receive(sock, *arguments, **options)


@covers("fdproof.passing.stop_sharing")
def passing_through_multiprocessing() -> None:
    setattr(_sharing, "receive", _receive_what_is_there)  # noqa: B010  # mypy knows only its own
    with _comm() as one:
        try:
            pickle.loads(ForkingPickler.dumps(one)).close()
            ForkingPickler.dumps(one)
        finally:
            passing.stop_sharing()


@covers("fdproof.passing.peer", "fdproof.passing.Peer", "fdproof.passing.Peer.close")
def asking_for_the_peer() -> None:
    near, far = socket.socketpair()
    with near, far, passing.peer(near) as peer:
        assert peer.pid == os.getpid()
    peer.close()


# The notifier, as far as it can be had in a supervised process.


@covers("fdproof.notifier.Filter", "fdproof.notifier.Rule")
def compiling_a_filter() -> None:
    Filter(["openat", Rule("getsid")])


@covers(
    "fdproof.notifier.Listener",
    "fdproof.notifier.Listener.close",
    "fdproof.notifier.Listener.descriptor",
    "fdproof.notifier.Listener.fileno",
    "fdproof.notifier.Listener.receive",
    "fdproof.notifier.Listener.stop",
)
def listening() -> None:
    """A file takes the listener's place: what is owned, stopped and closed is the same."""
    with fdproof.memfd("in place of a listener") as file, Listener(file) as listener:
        assert listener.descriptor.fileno() == listener.fileno()
        listener.stop()
        assert listener.receive() is None
        listener.close()


@covers("fdproof.observe.snapshot.snapshot", "fdproof.observe.snapshot.numbers")
def looking_at_a_table() -> None:
    assert set(snapshot.snapshot(os.getpid())) == set(snapshot.numbers(os.getpid()))


@covers(
    "fdproof.observe.snapshot.entry",
    "fdproof.observe.snapshot.same_file",
    "fdproof.observe.snapshot.describe",
)
def looking_at_a_slot() -> None:
    one = snapshot.entry(os.getpid(), 0)
    assert one is not None
    assert one.what == snapshot.describe(one.target, one.mode, one.flags)
    snapshot.same_file(os.getpid(), os.getpid(), 0)
