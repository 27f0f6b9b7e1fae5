"""What cannot be checked says why and what to change, in one paragraph, and exits with 2."""

import shutil
from pathlib import Path

import pytest

from tests.check.command_line import check
from tests.check.swept import DIRECTORY

pytestmark = pytest.mark.requires_kernel("seccomp notifier", "pidfd_getfd")

UNFIT = str(DIRECTORY / "unfit.py")

FILES = {
    "needs_more.py": "import no_such_thing",
    "divides.py": "1 / 0",
    "empty.py": "x = 1",
    "wrong.py": "def f(:",
    "text.txt": "no program",
}

MISSING = (
    "run fdproof in the environment where it is installed, or name the file, as in "
    "path/to/script.py:function."
)
WHAT = "write module:function, path/to/script.py:function, or -- command arguments."
SUCCEEDS = (
    "Check something that succeeds, with its files, servers and environment in place, so that a "
    "difference means something."
)
ENDS = "Give it more with --timeout, or check something that ends."
FOUND = "give a path, or a name that is in PATH. A Python function is written module:function, without --."

# Arguments, and the whole message.
CASES: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown module": (("no_such:f",), f"there is no module 'no_such': {MISSING}"),
    "unknown submodule": (("json.no_such:f",), f"there is no module 'json.no_such': {MISSING}"),
    "module that needs another": (
        ("needs_more:f",),
        "importing 'needs_more' failed: it needs 'no_such_thing', which is not installed.",
    ),
    "script that needs another": (
        ("needs_more.py:f",),
        (
            "running 'needs_more.py' failed: ModuleNotFoundError: No module named 'no_such_thing'. "
            "Make it importable first."
        ),
    ),
    "module that fails": (
        ("divides:f",),
        "importing 'divides' failed: ZeroDivisionError: division by zero. Make it importable first.",
    ),
    "script that fails": (
        ("divides.py:f",),
        "running 'divides.py' failed: ZeroDivisionError: division by zero. Make it importable first.",
    ),
    "script that is missing": (
        ("missing.py:f",),
        "there is no file 'missing.py': give a path that exists from here.",
    ),
    "path to something else": (
        ("./text.txt:f",),
        "'text.txt' is not a Python file: its name must end in .py.",
    ),
    "unknown function": (
        ("json:nothing",),
        "'json' has no 'nothing': it has detect_encoding, dump, dumps, load, loads.",
    ),
    "module without functions": (
        ("empty.py:f",),
        "'empty.py' has no 'f': it defines no function.",
    ),
    "not callable": (
        (f"{UNFIT}:number",),
        f"'{UNFIT}:number' is not a function but int: name a function that does the work.",
    ),
    "needs arguments": (
        (f"{UNFIT}:needs",),
        (
            f"'{UNFIT}:needs' needs arguments (path, mode): write a function without any that calls it, "
            "with the arguments that you want checked, and name that one."
        ),
    ),
    "no function named": (("nothing",), f"'nothing' does not say what to check: {WHAT}"),
    "no module named": ((":f",), f"':f' does not say what to check: {WHAT}"),
    "no name": (("json:",), f"'json:' does not say what to check: {WHAT}"),
    "command not found": (
        ("--", "no_such_command"),
        f"the command 'no_such_command' is not found, or not executable: {FOUND}",
    ),
    "command not executable": (
        ("--", "./text.txt"),
        f"the command './text.txt' is not found, or not executable: {FOUND}",
    ),
    "command that is no program": (
        ("--", "./garbage"),
        (
            "'./garbage' cannot be started: [Errno 8] execve: Exec format error: '{directory}/garbage'. A "
            "command must be a program for this machine, and there must be room for one more process."
        ),
    ),
    "command without dashes": (
        ("cat", "file name"),
        (
            "\"cat 'file name'\" looks like a command: write two dashes before it, as in "
            "fdproof check -- cat 'file name'"
        ),
    ),
    "fails clean": (
        (f"{UNFIT}:fails",),
        f"'{UNFIT}:fails' fails already when nothing is made to fail: LookupError: not today. {SUCCEEDS}",
    ),
    "fails clean without a word": (
        (f"{UNFIT}:fails_without_a_word",),
        (
            f"'{UNFIT}:fails_without_a_word' fails already when nothing is made to fail: LookupError. "
            f"{SUCCEEDS}"
        ),
    ),
    "fails the second time": (
        (f"{UNFIT}:succeeds_only_once",),
        (
            f"'{UNFIT}:succeeds_only_once' fails already when nothing is made to fail: LookupError: not "
            f"again. {SUCCEEDS}"
        ),
    ),
    "exits clean": (
        (f"{UNFIT}:exits",),
        f"'{UNFIT}:exits' fails already when nothing is made to fail: SystemExit: 4. {SUCCEEDS}",
    ),
    "command fails clean": (
        ("--", "sh", "-c", "echo that is why >&2; exit 3"),
        (
            "'sh -c echo that is why >&2; exit 3' fails already when nothing is made to fail: it ended with "
            f"status 3, saying: that is why. {SUCCEEDS}"
        ),
    ),
    "command killed clean": (
        ("--", "sh", "-c", "kill -9 $$"),
        f"'sh -c kill -9 $$' fails already when nothing is made to fail: it ended with status -9. {SUCCEEDS}",
    ),
    "hangs clean": (
        ("--timeout", "0.5", f"{UNFIT}:never_ends"),
        (
            "the operation does not end when it runs undisturbed: nothing came back within 0.5 seconds. "
            f"{ENDS}"
        ),
    ),
    "hangs the second time": (
        ("--timeout", "0.5", f"{UNFIT}:ends_only_once"),
        f"'{UNFIT}:ends_only_once' does not end within 0.5 seconds when it runs undisturbed. {ENDS}",
    ),
    "command hangs clean": (
        ("--timeout", "0.5", "--", "sleep", "1000"),
        f"'sleep 1000' does not end within 0.5 seconds when it runs undisturbed. {ENDS}",
    ),
    "not repeatable": (
        (f"{UNFIT}:differs",),
        (
            f"'{UNFIT}:differs' is not repeatable: two clean runs made different system calls (1 differ, such "
            "as eventfd2 #1). Take out what depends on time, chance, caches or a race between threads, or "
            "check a smaller part of it."
        ),
    ),
    "leaves the process": (
        (f"{UNFIT}:leaves",),
        (
            f"the process of the operation '{UNFIT}:leaves' ended by itself, with status 3. Check a function "
            "that returns."
        ),
    ),
    "kills the process": (
        (f"{UNFIT}:is_killed",),
        (
            f"the process of the operation '{UNFIT}:is_killed' ended by itself, with status -9. Check a "
            "function that returns."
        ),
    ),
    "report that cannot be written": (
        ("--json", "missing/report", f"{UNFIT}:NotAFunction"),
        (
            "the report cannot be written to 'missing/report': No such file or directory. Give --json a file "
            "in a directory that exists."
        ),
    ),
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    shutil.copy(tmp_path / "text.txt", tmp_path / "garbage")
    (tmp_path / "garbage").chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("case", CASES)
def test_it_says_why_and_what_to_do(case: str, directory: Path) -> None:
    arguments, message = CASES[case]

    result = check(directory, *arguments)

    assert result.err == f"fdproof: {message.replace('{directory}', str(directory))}\n"
    assert (result.status, result.out) == (2, "")


def test_a_script_with_a_mistake(directory: Path) -> None:
    """The words are the interpreter's, and differ between versions."""
    result = check(directory, "wrong.py:f")

    assert result.err.startswith("fdproof: running 'wrong.py' failed: SyntaxError: ")
    assert result.err.endswith("(wrong.py, line 1). Make it importable first.\n")
    assert result.status == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Missing argument 'TARGET...'"),
        (("--",), "Missing argument 'TARGET...'"),
        (("--errnos", "some", "json:f"), "'some' is not one of 'first', 'all'"),
        (("--timeout", "0", "json:f"), "0.0 is not in the range x>=0.1"),
        (("--jobs", "0", "json:f"), "0 is not in the range x>=1"),
        (("--json", ".", "json:f"), "is a directory"),
        (("ls", "-l"), "write two dashes before it, as in fdproof check -- ls -l"),
    ],
)
def test_usage(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    result = check(tmp_path, *arguments)

    assert message in result.err
    assert result.err.startswith("Usage: fdproof check [OPTIONS] TARGET...")
    assert (result.status, result.out) == (2, "")
