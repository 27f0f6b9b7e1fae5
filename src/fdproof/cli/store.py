"""`fdproof store`: keep the descriptors of a service over its restarts."""

import contextlib
import os
import re
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator

import click

from fdproof._errors import UnsupportedError
from fdproof.handover import Notification, Refusal, Store
from fdproof.handover._activation import listeners
from fdproof.handover._command import Restart, run_with

__all__ = ["store"]

USAGE, UNSUPPORTED, NOT_RUN = 2, 3, 127
# Refusals of one user that are told one by one; of the others, only how many there are.
_TOLD_EACH = 10
# What fdproof-XXXXXXXX/notify leaves of the path of a Store.
_LONGEST_PARENT = 75


def _permissions(_: click.Context, __: click.Parameter, value: str) -> int:
    if not re.fullmatch("[0-7]{3}", value):
        raise click.BadParameter(f"{value!r} is not like 600 or 660.")
    return int(value, 8)


@click.command()
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--socket",
    "path",
    type=click.Path(path_type=str),
    metavar="PATH",
    help="The store's socket.  [default: one of its own, for COMMAND alone]",
)
@click.option(
    "--mode",
    callback=_permissions,
    default="600",
    show_default=True,
    metavar="OCTAL",
    help="The socket's permissions: who can write to it can use the store.",
)
@click.option(
    "--per-user",
    type=click.IntRange(min=0),
    default=512,
    show_default=True,
    metavar="N",
    help="The most descriptors of one user.",
)
@click.option(
    "--total",
    type=click.IntRange(min=0),
    metavar="N",
    help="The most descriptors of all users.  [default: what ulimit -n allows]",
)
@click.option(
    "--restart",
    type=click.Choice(["never", "on-failure", "always"]),
    default="on-failure",
    show_default=True,
    help="After which ends COMMAND is started again.",
)
@click.option(
    "--stop-timeout",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long COMMAND has to end after SIGTERM.",
)
@click.option("--verbose", is_flag=True, help="Say what services tell, too.")
@click.pass_context
def store(
    ctx: click.Context,
    command: tuple[str, ...],
    path: str | None,
    mode: int,
    per_user: int,
    total: int | None,
    restart: Restart,
    stop_timeout: float,
    verbose: bool,
) -> None:
    """Keep what services push by sd_notify(3), and give it back when they start again.

    With COMMAND, run it with NOTIFY_SOCKET set, and start it again with what it has stored as
    LISTEN_FDS. SIGTERM and SIGINT stop both; SIGHUP starts COMMAND again:

    \b
      fdproof store -- python server.py
      fdproof store --socket /run/app/notify

    Nothing is kept when the store itself ends.

    Exit status: that of COMMAND, 128 and the number of the signal that ended it, 127 if it cannot be
    run; else 0, 2 if the socket cannot be had, 3 not supported here.
    """  # noqa: D301 - click wants the character itself before lines that it must not rewrap
    if path is None and not command:
        raise click.UsageError("give --socket PATH, or -- and a command", ctx)
    with contextlib.ExitStack() as stack:
        if path is None:
            directory = tempfile.TemporaryDirectory(prefix="fdproof-", dir=_short_directory())
            path = os.path.join(stack.enter_context(directory), "notify")
        try:
            kept = stack.enter_context(
                Store(
                    path,
                    mode=mode,
                    per_client=per_user,
                    total=total,
                    heard=_hear if verbose else None,
                    refused=_Refusals().tell,
                )
            )
        except UnsupportedError as error:
            _say(str(error.strerror))
            ctx.exit(UNSUPPORTED)
        except (OSError, ValueError) as error:
            _say(_text(error))
            ctx.exit(USAGE)
        if command:
            ctx.exit(_run(kept, command, restart, stop_timeout))
        with _stopped_by_signals(kept):
            _say(f"keeping descriptors at {kept.path}")
            kept.serve()


def _short_directory() -> str:
    """Return where a directory for a socket has room in the socket's address."""
    for parent in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir()):
        if parent and len(parent) <= _LONGEST_PARENT and os.path.isdir(parent):
            return parent
    return "/tmp"


def _run(kept: Store, command: tuple[str, ...], restart: Restart, stop_timeout: float) -> int:
    with listeners() as given:
        for entry in given:
            with given.take(entry) as file:
                kept.keep(entry.name, file, poll=False)
    try:
        status = run_with(kept, command, restart=restart, stop_timeout=stop_timeout, tell=_say)
    except OSError as error:
        _say(_text(error))
        return NOT_RUN
    return status if status >= 0 else 128 - status


@contextlib.contextmanager
def _stopped_by_signals(kept: Store) -> Iterator[None]:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: kept.stop()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Refusals:
    """Says what was refused; of a flood, how much."""

    def __init__(self) -> None:
        self._of: Counter[int | None] = Counter()

    def tell(self, refusal: Refusal) -> None:
        self._of[refusal.uid] += 1
        count = self._of[refusal.uid]
        # 100, 1000, 10000, ...
        if count > _TOLD_EACH and str(count).strip("0") != "1":
            return
        who = "" if refusal.uid is None else f" from user {refusal.uid}"
        if refusal.pid:
            who += f", process {refusal.pid}"
        many = f" ({count} by now)" if count > _TOLD_EACH else ""
        _say(f"refused{who}: {refusal.reason}{many}")


def _hear(notification: Notification) -> None:
    fields = ", ".join(f"{name}={value!r}" for name, value in notification.fields.items())
    _say(f"user {notification.uid}, process {notification.pid}: {fields}")


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _say(text: str) -> None:
    # What a stranger has sent must not reach a terminal as it is.
    click.echo("fdproof: " + "".join(one if one.isprintable() else "?" for one in text), err=True)
