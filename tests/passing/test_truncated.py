"""TruncatedError: what came is owned, what did not is told with its reason, and nothing is silent."""

import copy
import errno
import pickle
import resource
import socket
from collections.abc import Callable, Iterator

import pytest

import fdproof
from fdproof import Descriptor, TruncatedError, passing
from fdproof.passing import Message
from fdproof.passing._truncation import truncated
from tests.core.child import in_child
from tests.core.full_table import limit
from tests.core.own_table import table
from tests.passing.raw import KINDS, SO_PASSPIDFD, empty, pair

each_kind = pytest.mark.parametrize("kind", KINDS)
packets = pytest.mark.parametrize("kind", ["datagram", "seqpacket"])


@pytest.fixture
def file() -> Iterator[Descriptor]:
    with fdproof.memfd("sent") as owner:
        yield owner


@each_kind
@pytest.mark.parametrize(
    ("room", "sent", "asked"),
    [(0, 1, 1), (0, 253, 253), (1, 3, 3), (2, 3, 3), (2, 3, 100), (7, 8, 8), (1, 5, 2), (0, 5, 0)],
)
def test_a_full_table_is_told_with_its_limit_and_the_remedy(
    kind: str, room: int, sent: int, asked: int, file: Descriptor
) -> None:
    def check() -> None:
        with pair(kind) as (near, far):
            passing.send(near, b"payload", [file] * sent)
            limit(room)
            before = table()
            with pytest.raises(TruncatedError) as caught:
                passing.receive(far, 100, asked)
            error = caught.value
            soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            assert (error.reason, error.came, error.asked) == ("limit", room, asked)
            assert str(error) == (
                f"Only {room} of the descriptors that the peer sent arrived, then the table of this "
                f"process was full (EMFILE; the limit of open files, RLIMIT_NOFILE, is {soft}): close "
                "what is no longer needed, or raise the limit (ulimit -n)"
            )
            assert error.message.data == b"payload"
            assert [one.same_file(file) for one in error.message.files] == [True] * room
            error.close()
            assert all(one.closed for one in error.message.files)
            assert table() == before
            # The stream is where it was: nothing of this message is left, and the next one comes whole.
            assert empty(far)

    in_child(check)


@each_kind
def test_after_a_full_table_the_next_message_comes_whole(kind: str, file: Descriptor) -> None:
    def check() -> None:
        with pair(kind) as (near, far):
            passing.send(near, b"one", [file] * 3)
            passing.send(near, b"two", [file] * 2)
            limit(2)
            with pytest.raises(TruncatedError) as caught:
                passing.receive(far, 100, 3)
            with caught.value:
                pass
            with passing.receive(far, 100, 3) as message:
                assert (message.data, len(message.files)) == (b"two", 2)

    in_child(check)


def admitted(asked: int) -> int:
    """How many descriptors come where nobody uses the room for credentials and a pidfd."""
    room = (
        socket.CMSG_SPACE(12)
        + socket.CMSG_SPACE(4)
        + (socket.CMSG_SPACE(4 * asked) if asked else 0)
    )
    return (room - socket.CMSG_LEN(0)) // 4


@each_kind
@pytest.mark.parametrize(
    ("asked", "sent"),
    [(0, 1), (0, 253), (1, 2), (1, 3), (1, 253), (2, 3), (5, 6), (200, 201), (252, 253)],
)
def test_more_than_asked_for_is_owned_as_far_as_it_came(
    kind: str, asked: int, sent: int, file: Descriptor
) -> None:
    with pair(kind) as (near, far):
        passing.send(near, b"payload", [file] * sent)
        before = table()

        with pytest.raises(TruncatedError) as caught:
            passing.receive(far, 100, asked)

        with caught.value as error:
            assert error.reason == "room"
            assert error.asked == asked
            assert error.came == len(error.message.files) == min(sent, admitted(asked))
            assert str(error).startswith(
                f"The peer sent more descriptors than were asked for: {error.came} arrived with "
                f"max_files={asked}, "
            )
            assert "raise max_files" in str(error)
            assert error.message.data == b"payload"
            assert all(one.same_file(file) for one in error.message.files)
        assert table() == before
        assert empty(far)


@pytest.mark.requires_kernel("SO_PASSPIDFD")
@each_kind
@pytest.mark.parametrize("sent", [1, 2, 3, 4, 5, 6, 7, 8, 9, 253])
@pytest.mark.parametrize("asked", [0, 1, 2, 3, 4])
def test_whoever_asked_for_enough_gets_it_and_whoever_did_not_is_told(
    kind: str, asked: int, sent: int, file: Descriptor
) -> None:
    """With credentials and a pidfd in the same message, wherever they come to lie."""
    with pair(kind) as (near, far):
        far.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        far.setsockopt(socket.SOL_SOCKET, SO_PASSPIDFD, 1)
        passing.send(near, b"x", [file] * sent)
        before = table()
        if sent <= asked:
            with passing.receive(far, 1, asked) as message:
                assert len(message.files) == sent
                assert message.process is not None
        else:
            with pytest.raises(TruncatedError) as caught:
                passing.receive(far, 1, asked)
            with caught.value as error:
                assert (error.reason, error.came > asked) == ("room", True)
                assert error.message.credentials is not None
        assert table() == before


@pytest.mark.requires_kernel("SO_PASSPIDFD")
@pytest.mark.parametrize("sent", [0, 1, 2, 3])
def test_a_pidfd_for_which_there_is_no_number_is_told_and_nothing_else_is_missing(
    sent: int, file: Descriptor
) -> None:
    def check() -> None:
        with pair("seqpacket") as (near, far):
            far.setsockopt(socket.SOL_SOCKET, SO_PASSPIDFD, 1)
            passing.send(near, b"payload", [file] * sent)
            passing.send(near, b"next", [file] * sent)
            limit(sent)
            before = table()
            with pytest.raises(
                TruncatedError, match="no pidfd of the sender, because the table"
            ) as caught:
                passing.receive(far, 100, sent)
            with caught.value as error:
                assert (error.reason, error.came, error.asked) == ("limit", sent, sent)
                assert error.message.data == b"payload"
                assert error.message.process is None
            assert table() == before
            limit(sent + 1)
            with passing.receive(far, 100, sent) as message:
                assert message.process is not None
                assert len(message.files) == sent

    in_child(check)


@packets
@pytest.mark.parametrize("count", [0, 2])
def test_a_datagram_that_is_too_long_is_told(kind: str, count: int, file: Descriptor) -> None:
    with pair(kind) as (near, far):
        passing.send(near, b"payload", [file] * count)

        with pytest.raises(TruncatedError) as caught:
            passing.receive(far, 3, count)

        with caught.value as error:
            assert (error.reason, error.came, error.asked) == ("data", count, count)
            assert error.message.data == b"pay"
            assert error.message.flags & socket.MSG_TRUNC
            assert str(error) == (
                "The datagram is longer than max_bytes=3, and its end is lost: raise max_bytes"
            )
        assert empty(far)


def test_several_reasons_are_all_told_and_descriptors_come_first(file: Descriptor) -> None:
    with pair("datagram") as (near, far):
        passing.send(near, b"payload", [file] * 9)

        with pytest.raises(
            TruncatedError, match=r"asked for: 9 .* The datagram is longer"
        ) as caught:
            passing.receive(far, 3, 1)

        with caught.value as error:
            assert (error.reason, error.came) == ("room", 9)


@each_kind
def test_what_was_peeked_at_is_still_there(kind: str, file: Descriptor) -> None:
    with pair(kind) as (near, far):
        passing.send(near, b"payload", [file] * 2)
        with pytest.raises(TruncatedError) as caught:
            passing.receive(far, 100, 1, peek=True)
        caught.value.close()
        with passing.receive(far, 100, 2) as message:
            assert len(message.files) == 2


@pytest.mark.parametrize(
    ("files", "options", "reason", "text"),
    [
        (
            1,
            {"stopped": True},
            "refused",
            (
                "Only 1 of the descriptors that the peer sent arrived; the kernel refused the next, though "
                "there was room and a free number: a security module forbids it, or the table was full for "
                "a moment"
            ),
        ),
        (
            2,
            {"refused": errno.EACCES},
            "refused",
            (
                "Only 2 of the descriptors that the peer sent arrived; the kernel refused one (Permission "
                "denied): a security module forbids it"
            ),
        ),
        (
            0,
            {"refused_process": errno.ESRCH},
            "refused",
            (
                "There is no pidfd of the sender: it was reaped before its message was received, which "
                "needs Linux 6.16"
            ),
        ),
        (
            0,
            {"refused_process": errno.ENFILE},
            "refused",
            "There is no pidfd of the sender: Too many open files in system",
        ),
    ],
)
def test_what_this_kernel_does_not_refuse_has_its_words_as_well(
    files: int, options: dict[str, int], reason: str, text: str, file: Descriptor
) -> None:
    """A security module, SO_RIGHTS_NOTRUNC (7.3), kernels before 6.16."""
    given = {"stopped": False, "table_full": False, "refused": 0, "refused_process": 0} | options
    message = Message(b"", [file.duplicate() for _ in range(files)])

    with truncated(message, asked=5, **given) as error:  # type: ignore[arg-type]
        assert (error.reason, error.came, error.asked) == (reason, files, 5)
        assert str(error) == text


# The error as an owner.


def caught(count: int) -> TruncatedError:
    with pair() as (near, far), fdproof.memfd("x") as file:
        passing.send(near, b"x", [file] * count)
        try:
            passing.receive(far, 1)
        except TruncatedError as error:
            return error.with_traceback(None)
    raise AssertionError("nothing was missing")


def test_an_error_that_is_dropped_warns_for_each_descriptor() -> None:
    error = caught(2)
    with pytest.warns(ResourceWarning, match="unclosed descriptor") as warned:
        del error
    assert len(warned) == 2


def test_an_error_gives_up_what_is_taken_from_it() -> None:
    with caught(2) as error:
        kept = error.message.files[0].duplicate()
    assert all(one.closed for one in error.message.files)
    kept.close()
    error.close()


def test_it_is_one_of_our_own_errors_and_no_oserror() -> None:
    with caught(1) as error:
        assert isinstance(error, fdproof.Error)
        assert not isinstance(error, OSError)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_it_cannot_be_copied(duplicate: Callable[[TruncatedError], object]) -> None:
    with caught(1) as error, pytest.raises(TypeError, match="owns descriptors"):
        duplicate(error)
