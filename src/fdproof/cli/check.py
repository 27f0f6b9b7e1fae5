"""`fdproof check`: make every system call fail in turn, report what leaks."""

import contextlib
import os
import shlex
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from fdproof import _syscalls
from fdproof._errors import Error, UnsupportedError
from fdproof.check.operation import (
    CallableOperation,
    CommandOperation,
    Operation,
    OperationError,
)
from fdproof.check.sweep import sweep
from fdproof.check.tree import kill_descendants
from fdproof.report.json import as_json
from fdproof.report.text import as_text

__all__ = ["check"]

CLEAN, FINDINGS, USAGE, UNSUPPORTED, INTERRUPTED = 0, 1, 2, 3, 130
_PR_SET_CHILD_SUBREAPER = 36


class _AfterDashes(click.Command):
    """Remembers whether the arguments came after ``--``, which click does not tell."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = tuple(args)
        ctx.meta["command"] = "--" in given
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if "--" in given or given[0].startswith("-"):
                raise
            # An option of somebody else's, after a word that is no option.
            raise click.UsageError(f"{error.message} {_two_dashes(given)}", ctx) from None


@click.command(cls=_AfterDashes)
@click.argument("target", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option(
    "--errnos",
    type=click.Choice(["first", "all"]),
    default="first",
    show_default=True,
    help="One representative errno for each system call, or every one that it can realistically get.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="When a run counts as hung.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Runs at the same time.  [default: one for each core]",
)
@click.option(
    "--stacks/--no-stacks", default=True, help="Look up the Python lines behind each finding."
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, writable=True, allow_dash=True, path_type=str),
    metavar="FILE",
    help="Write the whole report as JSON as well; - for standard output instead of the text.",
)
@click.pass_context
def check(
    ctx: click.Context,
    target: tuple[str, ...],
    errnos: str,
    timeout: float,
    jobs: int | None,
    stacks: bool,
    json_file: str | None,
) -> None:
    """Make every system call of TARGET that creates or uses a descriptor fail in turn.

    TARGET is a Python function without arguments, module:function or path/to/script.py:function, or a
    command after two dashes:

    \b
      fdproof check mypackage.files:save
      fdproof check tests/example.py:connect
      fdproof check -- tar cf /dev/null /etc/hostname

    It is run once for each fault, so it must be safe to run many times.

    Exit status: 0 clean, 1 findings, 2 the target cannot be checked as given, 3 not supported here,
    130 interrupted.
    """  # noqa: D301 - click wants the character itself before lines that it must not rewrap
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        operation = _operation(target, command=bool(ctx.meta["command"]))
        if json_file not in (None, "-"):
            _check_writable(str(json_file))
        with _nothing_left_behind(), _progress(errors) as update:
            report = sweep(
                operation,
                all_errnos=errnos == "all",
                timeout=timeout,
                jobs=jobs,
                stacks=stacks,
                progress=update,
            )
    except OperationError as error:
        errors.print(f"fdproof: {error}", style=None, markup=False)
        ctx.exit(USAGE)
    except UnsupportedError as error:
        errors.print(f"fdproof: {error.strerror}", style=None, markup=False)
        ctx.exit(UNSUPPORTED)
    except Error as error:
        errors.print(f"fdproof: {error}", style=None, markup=False)
        ctx.exit(USAGE)
    if json_file == "-":
        click.echo(as_json(report), nl=False)
    else:
        if json_file is not None:
            Path(json_file).write_text(as_json(report), encoding="utf-8")
        Console(soft_wrap=True, highlight=False).print(as_text(report), end="")
    if report.interrupted:
        ctx.exit(INTERRUPTED)
    ctx.exit(FINDINGS if report.findings else CLEAN)


def _operation(target: tuple[str, ...], *, command: bool) -> Operation:
    if command:
        return CommandOperation(target)
    if len(target) > 1:
        raise OperationError(_two_dashes(target))
    return CallableOperation(target[0])


def _check_writable(path: str) -> None:
    # Before the runs, which may take long.
    try:
        with open(path, "a", encoding="utf-8"):
            pass
    except OSError as error:
        raise OperationError(
            f"the report cannot be written to {path!r}: {error.strerror}. Give --json a file in a "
            "directory that exists."
        ) from error


def _two_dashes(words: Sequence[str]) -> str:
    return (
        f"{shlex.join(words)!r} looks like a command: write two dashes before it, as in "
        f"fdproof check -- {shlex.join(words)}"
    )


@contextlib.contextmanager
def _nothing_left_behind() -> Iterator[None]:
    """Adopt whatever a run leaves, and end it when the check ends, however it ends."""
    _syscalls.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    # A terminal that hangs up, or a supervisor that asks, is treated like Ctrl-C.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        kill_descendants()


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def _progress(console: Console) -> Iterator[Any]:
    if not console.is_terminal or os.environ.get("TERM") == "dumb":
        yield None
        return
    with Progress(
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[findings]}"),
        console=console,
        transient=True,
    ) as progress:
        task = progress.add_task("faults", total=None, findings="")

        def update(done: int, total: int, findings: int) -> None:
            text = f"{findings} finding{'' if findings == 1 else 's'}" if findings else ""
            progress.update(task, completed=done, total=total, findings=text)

        yield update
