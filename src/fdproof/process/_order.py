"""The arguments of a spawn, checked and turned into what the kernel takes."""

import errno
import os
import resource
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

from fdproof._creating import open as open_file
from fdproof._descriptor import Descriptor
from fdproof._errors import UnsupportedError
from fdproof._flags import FileFlags
from fdproof.process._identity import identity_of
from fdproof.process._places import Move, plan
from fdproof.process._stdio import STDOUT, Source, Streams, number_of

__all__ = ["Options", "Order", "Path", "order_from"]

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]

_STREAMS = ("stdin", "stdout", "stderr")
_PATHS = (str, bytes, os.PathLike)
# The option to name when a step fails.
_BLAMED = {
    "cgroup": "cgroup",
    "chdir": "cwd",
    "setpgid": "process_group",
    "setgroups": "extra_groups",
    "setresgid": "group",
    "setresuid": "user",
}


class Options(TypedDict, total=False):
    """The keyword arguments of ``spawn``, which describes them; ``prepare`` and ``run`` take them too."""

    executable: Path | None
    env: Mapping[str, str] | Mapping[bytes, bytes] | None
    cwd: Path | None
    stdin: Source | None
    stdout: Source | None
    stderr: Source | None
    files: Mapping[int, Source] | None
    inheritable: Iterable[Source]
    user: str | int | None
    group: str | int | None
    extra_groups: Iterable[str | int] | None
    umask: int | None
    new_session: bool
    process_group: int | None
    cgroup: Path | Source | None
    parent_death_signal: int | None
    pid_variable: str | None


class Order:
    """One child to be made, in numbers and bytes; -1 and None leave things as they are.

    What is not asked for stays with the class: a spawn runs with cold caches, and what it does not
    touch costs nothing.
    """

    environment: list[bytes] | None = None
    pid_variable: bytes | None = None
    directory: bytes | None = None
    moves: tuple[Move, ...] = ()
    kept: tuple[int, ...] = (0, 1, 2)
    highest = 2
    channel = -1
    cgroup_number = -1
    new_session = False
    process_group = -1
    umask = -1
    parent_death_signal = 0
    user = -1
    group = -1
    extra_groups: list[int] | None = None

    def __init__(self, program: Path, arguments: list[bytes], options: Options) -> None:
        self.program = program
        self.arguments = arguments
        self.paths: list[bytes] = []
        self._options = options

    def failure(self, number: int, step: str, which: int) -> OSError:
        """Return the exception for a step that failed: its class from the errno, with step and name."""
        reason = os.strerror(number)
        if step in ("unshare", "close_range") and number in (errno.ENOSYS, errno.EINVAL):
            return UnsupportedError("close_range with CLOSE_RANGE_UNSHARE", "5.9", number)
        if step == "files":
            source, place, _ = self.moves[which]
            if number == errno.EBADF and place >= resource.getrlimit(resource.RLIMIT_NOFILE)[0]:
                reason = "the number is beyond the limit of open files (RLIMIT_NOFILE)"
            return OSError(number, f"files: placing descriptor {source} at {place}: {reason}")
        blamed = self._blamed(step)
        if step == "exec" and number == errno.ENOENT and self._exists():
            reason += " (the file exists, but not its interpreter or loader)"
        if blamed is None:
            return OSError(number, f"{step}: {reason}")
        return OSError(number, f"{step}: {reason}", blamed)

    def _exists(self) -> bool:
        program = os.fsdecode(self.program)
        return "/" in program and os.path.exists(
            os.path.join(os.fsdecode(self.directory or b""), program)
        )

    def _blamed(self, step: str) -> str | None:
        """Return the file or name to show when a step fails."""
        if step == "exec":
            return os.fsdecode(self.program)
        value: Any = self._options.get(_BLAMED.get(step, ""))
        return (
            os.fsdecode(value)
            if isinstance(value, _PATHS)
            else None
            if value is None
            else str(value)
        )


def order_from(
    argv: Sequence[Path], options: Options, streams: Streams, channel: int | None = None
) -> Order:
    """Check the arguments of ``spawn`` and open what they name.

    Args:
        argv: the program and its arguments.
        options: the keyword arguments; one that is left out or None changes nothing.
        streams: owns what is opened here.
        channel: a number that the child needs until its exec.

    Raises:
        ValueError, TypeError: an argument cannot be; the message begins with its name.
        OSError: a pipe, /dev/null or the cgroup cannot be opened.
    """
    if isinstance(argv, _PATHS):
        raise TypeError(f"argv: takes a list of arguments, not one string: [{argv!r}]")
    arguments = [_encoded(one, "argv") for one in argv]
    program = options.get("executable")
    if program is None:
        program = argv[0] if arguments else ""
    if not os.fspath(program):
        raise ValueError("argv: names no program")
    order = Order(program, arguments, options)
    if options or channel is not None:
        _apply(order, options, streams, channel)
    order.paths = _candidates(_encoded(program, "executable"), order.environment)
    return order


def _apply(order: Order, options: Options, streams: Streams, channel: int | None) -> None:
    env = options.get("env")
    if env is not None:
        order.environment = _environment(env)
    variable = options.get("pid_variable")
    if variable is not None:
        name = _variable(_encoded(variable, "pid_variable"), "pid_variable")
        others = _environment(os.environb) if order.environment is None else order.environment
        order.environment = [one for one in others if not one.startswith(name + b"=")]
        order.pid_variable = name
    directory = options.get("cwd")
    if directory is not None:
        order.directory = _encoded(directory, "cwd")
    order.user, order.group, order.extra_groups = identity_of(
        options.get("user"), options.get("group"), options.get("extra_groups")
    )
    order.new_session = bool(options.get("new_session", False))
    order.process_group = _between(options, "process_group", 0, 2**31 - 1)
    if order.new_session and order.process_group >= 0:
        raise ValueError(
            "process_group: a new session begins with a process group of its own already"
        )
    order.umask = _between(options, "umask", 0, 0o777)
    order.parent_death_signal = max(_between(options, "parent_death_signal", 1, 64), 0)
    places = plan(_files(options, streams), channel)
    order.moves, order.kept = places.moves, places.kept
    order.highest, order.channel = places.highest, places.channel
    cgroup = options.get("cgroup")
    if cgroup is not None:
        order.cgroup_number = _open_cgroup(cgroup, streams)


def _encoded(text: Path, name: str) -> bytes:
    encoded = os.fsencode(text)
    if b"\0" in encoded:
        raise ValueError(f"{name}: {text!r} contains a NUL byte")
    return encoded


def _environment(env: Mapping[str, str] | Mapping[bytes, bytes]) -> list[bytes]:
    pairs = [(_encoded(name, "env"), _encoded(value, "env")) for name, value in env.items()]
    return [_variable(name, "env") + b"=" + value for name, value in pairs]


def _variable(name: bytes, option: str) -> bytes:
    if not name or b"=" in name:
        raise ValueError(f"{option}: {os.fsdecode(name)!r} cannot be the name of a variable")
    return name


def _between(options: Options, name: str, low: int, high: int) -> int:
    value: Any = options.get(name)
    if value is None:
        return -1
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: takes an int, not {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name}: {value} is not between {low} and {high}")
    return int(value)


def _candidates(program: bytes, environment: list[bytes] | None) -> list[bytes]:
    """Return the paths to try, as execvpe would, in the child's PATH."""
    if b"/" in program:
        return [program]
    if environment is None:
        path = os.environb.get(b"PATH")
    else:
        path = next((one[5:] for one in environment if one.startswith(b"PATH=")), None)
    directories = (os.fsencode(os.defpath) if path is None else path).split(b":")
    # An empty entry is the current directory, which is the child's.
    return [directory + b"/" + program if directory else program for directory in directories]


def _files(options: Options, streams: Streams) -> dict[int, int]:
    files: dict[int, int] = {}
    for number, source in (options.get("files") or {}).items():
        files[number_of(number, "files")] = number_of(source, f"files[{number}]")
    for source in options.get("inheritable", ()):
        number = number_of(source, "inheritable")
        if files.setdefault(number, number) != number:
            raise ValueError(f"inheritable: files= places something else at {number}")
    for number, name in enumerate(_STREAMS):
        given: Any = options.get(name)
        if given is not None and number in files:
            raise ValueError(f"files: {number} is {name}, which is given, too")
        # stderr=STDOUT follows stdout wherever that came from.
        following = files.get(1) if given == STDOUT else None
        placed = streams.number(name, given, following)
        if placed is not None:
            files[number] = placed
    return files


def _open_cgroup(cgroup: Path | Source, streams: Streams) -> int:
    if isinstance(cgroup, _PATHS):
        owner: Descriptor = open_file(
            os.path.join(os.fsdecode(cgroup), "cgroup.procs"), FileFlags.WRONLY
        )
    else:
        owner = open_file("cgroup.procs", FileFlags.WRONLY, directory=number_of(cgroup, "cgroup"))
    return streams.keep(owner).fileno()
