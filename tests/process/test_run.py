"""run and communicate feed and read a child at the same time, and lose nothing."""

import os
import signal
import threading

import pytest

import fdproof
from fdproof import process
from fdproof.process import DEVNULL, PIPE, STDOUT, Completed, ExitError, ExpiredError
from tests.process.children import CAT, SLEEP

pytestmark = pytest.mark.requires_kernel("pidfd_open", "close_range")

# More than pipes hold in both directions.
MUCH = bytes(range(256)) * 4096


def test_run_captures_bytes_or_text() -> None:
    script = ["/bin/sh", "-c", "cat; echo err >&2"]

    expected = Completed(tuple(script), 0, b"in\xff", b"err\n")
    assert process.run(script, input=b"in\xff", capture=True) == expected
    text = process.run(script, input="ä", capture=True, encoding="utf-8")
    assert (text.stdout, text.stderr) == ("ä", "err\n")
    both = process.run(script, input="ä", stdout=PIPE, stderr=STDOUT, encoding="utf-8")
    assert (both.stdout, both.stderr) == ("äerr\n", None)
    silent: Completed[bytes] = Completed(("true",), 0, None, None)
    assert process.run(["true"], stdout=DEVNULL) == silent


def test_input_and_output_larger_than_any_pipe() -> None:
    assert process.run(CAT, input=MUCH, capture=True).stdout == MUCH
    both = process.run(["/bin/sh", "-c", "tee /dev/stderr"], input=MUCH, capture=True)
    assert (both.stdout, both.stderr) == (MUCH, MUCH)


def test_a_child_need_not_read_its_input() -> None:
    assert process.run(["true"], input=MUCH, capture=True).returncode == 0
    closing = ["/bin/sh", "-c", "exec <&-; echo done; sleep 0.05; echo again"]
    assert process.run(closing, input=MUCH, capture=True).stdout == b"done\nagain\n"


def test_empty_input_is_an_end_of_file() -> None:
    assert process.run(CAT, input=b"", capture=True).stdout == b""


def test_check_makes_another_status_an_error() -> None:
    with pytest.raises(ExitError, match="'sh -c echo out; exit 3' ended with exit status 3") as one:
        process.run(["sh", "-c", "echo out; exit 3"], check=True, capture=True)
    with pytest.raises(ExitError, match="ended with signal 15"):
        process.run(["sh", "-c", "kill $$"], check=True)

    assert one.value.completed.stdout == b"out\n"


def test_a_run_whose_time_is_over_is_killed() -> None:
    with pytest.raises(ExpiredError, match=r"was killed after 0\.2 seconds") as caught:
        process.run(
            ["sh", "-c", "echo so far; exec sleep 1000"],
            timeout=0.2,
            capture=True,
            encoding="ascii",
        )

    assert isinstance(caught.value, TimeoutError)
    assert caught.value.completed.returncode == -signal.SIGKILL
    assert caught.value.completed.stdout == "so far\n"
    with pytest.raises(ExpiredError):
        process.run(SLEEP, timeout=0)


def test_communicate_goes_on_after_a_time_limit() -> None:
    with fdproof.pipe() as (ours, theirs):
        script = 'cat; read line <&"$0"; echo "$line"'
        # The shell's numbers have one digit.
        argv = ["/bin/sh", "-c", script, "7"]
        with (
            theirs,
            process.spawn(argv, stdin=PIPE, stdout=PIPE, files={7: ours}) as child,
        ):
            with pytest.raises(TimeoutError, match="has not closed its output in time"):
                child.communicate(MUCH, 0.1)
            with pytest.raises(ValueError, match="input: was given"):
                child.communicate(b"more")
            os.write(theirs.fileno(), b"at last\n")

            assert child.communicate() == (MUCH + b"at last\n", None)
            assert child.communicate() == (MUCH + b"at last\n", None)
            assert child.collected()[0] == MUCH + b"at last\n"


def test_communicate_needs_its_pipes() -> None:
    with process.spawn(CAT, stdin=PIPE, stdout=PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        with child.stdout.into_file("rb") as stream:
            with pytest.raises(fdproof.ClosedError, match="stdout: was closed"):
                child.communicate()
            child.stdin.close()
            assert stream.read() == b""
    with process.spawn(["true"]) as child:
        with pytest.raises(ValueError, match="stdin=PIPE"):
            child.communicate(b"text")
        assert child.communicate() == (None, None)


def test_pipes_can_be_used_as_files() -> None:
    with process.spawn(CAT, stdin=PIPE, stdout=PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        with child.stdin.into_file("w", encoding="utf-8") as writing:
            writing.write("line\n")
        with child.stdout.into_file("r", encoding="utf-8") as reading:
            assert reading.readlines() == ["line\n"]


def test_what_does_not_fit_together() -> None:
    with pytest.raises(ValueError, match="input: stdin is given"):
        process.run(CAT, input=b"", stdin=DEVNULL)
    with pytest.raises(TypeError, match="needs an encoding"):
        process.run(CAT, input="text")  # type: ignore[call-overload]


def test_runs_in_threads_keep_their_pipes_apart() -> None:
    """A pipe end in somebody else's child would keep that pipe open, and a run waiting."""
    results: list[bytes | None] = []

    def work(number: int) -> None:
        text = b"%d" % number
        results.extend(process.run(CAT, input=text, capture=True).stdout for _ in range(20))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(results, key=str) == sorted([b"0", b"1", b"2", b"3"] * 20, key=str)
