"""Run a program to its end in one call."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import AnyStr, Generic, Unpack, overload

from fdproof._errors import Error
from fdproof.process._order import Options, Path
from fdproof.process._start import spawn
from fdproof.process._stdio import PIPE

__all__ = ["Completed", "ExitError", "ExpiredError", "run"]


@dataclass(frozen=True, slots=True)
class Completed(Generic[AnyStr]):
    """A program that has ended: what it was, how it ended, what it wrote (None where not captured)."""

    args: tuple[str, ...]
    returncode: int
    stdout: AnyStr | None
    stderr: AnyStr | None


class ExitError(Error):
    """A program ended with another status than 0; ``completed`` is the whole result."""

    def __init__(self, completed: "Completed[str] | Completed[bytes]") -> None:
        super().__init__(completed)
        self.completed = completed

    def __str__(self) -> str:
        code = self.completed.returncode
        how = f"exit status {code}" if code >= 0 else f"signal {-code}"
        return f"{' '.join(self.completed.args)!r} ended with {how}"


class ExpiredError(Error, TimeoutError):
    """A program was killed because its time was over; ``completed`` is what there was until then."""

    def __init__(self, completed: "Completed[str] | Completed[bytes]", timeout: float) -> None:
        super().__init__(completed, timeout)
        self.completed = completed
        self.timeout = timeout

    def __str__(self) -> str:
        return f"{' '.join(self.completed.args)!r} was killed after {self.timeout:g} seconds"


@overload
def run(
    argv: Sequence[Path],
    *,
    input: bytes | None = None,
    capture: bool = False,
    timeout: float | None = None,
    check: bool = False,
    encoding: None = None,
    errors: str = "strict",
    **options: Unpack[Options],
) -> Completed[bytes]: ...
@overload
def run(
    argv: Sequence[Path],
    *,
    input: str | None = None,
    capture: bool = False,
    timeout: float | None = None,
    check: bool = False,
    encoding: str,
    errors: str = "strict",
    **options: Unpack[Options],
) -> Completed[str]: ...
def run(
    argv: Sequence[Path],
    *,
    input: str | bytes | None = None,
    capture: bool = False,
    timeout: float | None = None,
    check: bool = False,
    encoding: str | None = None,
    errors: str = "strict",
    **options: Unpack[Options],
) -> Completed[str] | Completed[bytes]:
    """Run a program, wait for its end, and return what it wrote.

    Args:
        argv: the program and its arguments.
        input: what it reads from stdin; None leaves stdin as it is. A str needs ``encoding``.
        capture: collect stdout and stderr, unless the options say otherwise for one of them.
        timeout: seconds until it is killed; its own children are not.
        check: another exit status than 0 is an error.
        encoding, errors: turn input and output from and into str, as ``str.encode`` does.
        **options: as for ``spawn``; stdout=PIPE alone collects it as well.

    Raises:
        ExitError: ``check`` is given and the status is not 0.
        ExpiredError: the time was over; the program has been killed and reaped.
        OSError, ValueError, TypeError, UnsupportedError: as for ``spawn``.
    """
    if input is not None:
        if options.get("stdin") is not None:
            raise ValueError("input: stdin is given, too")
        options["stdin"] = PIPE
    if capture:
        for name in ("stdout", "stderr"):
            if options.get(name) is None:
                options[name] = PIPE
    data: bytes | None
    if isinstance(input, str):
        if encoding is None:
            raise TypeError("input: a str needs an encoding")
        data = input.encode(encoding, errors)
    else:
        data = input
    expired = False
    with spawn(argv, **options) as process:
        try:
            out, err = process.communicate(data, timeout)
        except TimeoutError:
            process.end()
            out, err = process.collected()
            expired = True
    status = process.wait()
    completed: Completed[str] | Completed[bytes]
    if encoding is None:
        completed = Completed(process.args, status, out, err)
    else:
        # What a killed program wrote may end in the middle of a character.
        lenient = "replace" if expired else errors
        text, complaint = (
            None if one is None else one.decode(encoding, lenient) for one in (out, err)
        )
        completed = Completed(process.args, status, text, complaint)
    if expired:
        assert timeout is not None
        raise ExpiredError(completed, timeout)
    if check and status != 0:
        raise ExitError(completed)
    return completed
