"""Operations for `fdproof check`: each leaves no child, or aborts, which is a finding.

A descriptor that leaks is seen by the check itself; an orphan or a zombie is seen here.
"""

import functools
import os
import time
from collections.abc import Callable

import fdproof
from fdproof import process
from fdproof.process import DEVNULL, PIPE, Process

TRUE = ["/bin/true"]
CAT = ["/bin/cat"]


def leaves_no_child(operation: Callable[[], object]) -> Callable[[], None]:
    @functools.wraps(operation)
    def checked() -> None:
        try:
            operation()
        finally:
            try:
                os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                pass
            else:
                os.abort()

    return checked


@leaves_no_child
def spawn() -> None:
    with process.spawn(TRUE) as child:
        child.wait()


@leaves_no_child
def spawn_with_everything() -> None:
    with fdproof.memfd("given") as given:
        with process.spawn(
            CAT,
            stdin=PIPE,
            stdout=PIPE,
            stderr=process.STDOUT,
            # The last two are a cycle if the numbers are as usual.
            files={7: given, 9: given, given.fileno(): 0},
            cwd="/",
            umask=0o22,
            new_session=True,
            parent_death_signal=9,
        ) as child:
            assert child.stdin is not None
            child.stdin.close()
            child.wait()


@leaves_no_child
def spawn_as_user() -> None:
    with process.spawn(TRUE, stdin=DEVNULL, user=os.geteuid(), group=os.getegid()) as child:
        child.wait()


@leaves_no_child
def spawn_that_fails() -> None:
    try:
        process.spawn(["/nowhere"], stdin=PIPE)
    except FileNotFoundError:
        pass


@leaves_no_child
def spawn_without_with() -> None:
    child = process.spawn(TRUE)
    child.wait()
    child.close()


@leaves_no_child
def prepare_and_publish() -> None:
    with process.prepare(TRUE, stdout=PIPE) as child:
        with child.publish() as running:
            running.wait()


@leaves_no_child
def prepare_and_give_up() -> None:
    with process.prepare(TRUE, stdin=PIPE):
        # A check wants the same system calls in every run: the child should have come to its read.
        time.sleep(0.05)


@leaves_no_child
def run() -> None:
    process.run(CAT, input=b"text", capture=True)


@leaves_no_child
def run_out_of_time() -> None:
    try:
        process.run(["/bin/sleep", "1000"], timeout=0, capture=True)
    except TimeoutError:
        pass


@leaves_no_child
def communicate() -> None:
    with process.spawn(CAT, stdin=PIPE, stdout=PIPE, stderr=PIPE) as child:
        child.communicate(b"text")


@leaves_no_child
def wait_many() -> None:
    with process.spawn(TRUE) as first, process.spawn(TRUE) as second:
        process.wait_many([first, second], count=None)


@leaves_no_child
def fetch() -> None:
    with fdproof.memfd("given") as given, process.spawn(CAT, stdin=PIPE, files={7: given}) as child:
        with child.fetch(7):
            pass


@leaves_no_child
def open_others() -> None:
    with Process.current() as me, Process.from_pidfd(fdproof.pidfd(os.getpid())) as again:
        assert me.same_process(again)
        me.info()
        with me.namespace("net"):
            pass


@leaves_no_child
def kill_tree() -> None:
    with process.spawn(["/bin/sleep", "1000"]) as child:
        child.kill_tree()
        child.wait()


@leaves_no_child
def detach() -> None:
    child = process.spawn(TRUE)
    with child.detach() as pidfd:
        os.waitid(os.P_PIDFD, pidfd.fileno(), os.WEXITED)


OPERATIONS = [
    spawn,
    spawn_with_everything,
    spawn_as_user,
    spawn_that_fails,
    spawn_without_with,
    prepare_and_publish,
    prepare_and_give_up,
    run,
    run_out_of_time,
    communicate,
    wait_many,
    fetch,
    open_others,
    kill_tree,
    detach,
]


@leaves_no_child
def lost_child() -> None:
    """What a finding looks like: the child of a failed pidfd_open stays."""
    pid = os.posix_spawn(TRUE[0], TRUE, {})
    with fdproof.pidfd(pid):
        os.waitpid(pid, 0)
