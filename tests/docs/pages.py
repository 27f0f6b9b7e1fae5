"""The pages, their blocks, and how each block is run: shared by the test and by record.py."""

import doctest
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fdproof

ROOT = Path(__file__).resolve().parents[2]
# What stands in a page instead of the directory in which its commands were run.
HOME = "/home/you/fdproof"
# They change the machine or take the whole suite with them: shown, not run, and so without output.
_NOT_RUN = re.compile(r"(sudo |apt|\. |git clone|cd |python3? -m venv|pip |make (?!demo))")
# Run for what it prints, unless it stands among commands that are only shown.
_DEMO = re.compile(r"make demo\b")
_MARK = "\x1emark"
_SECONDS = 120

_FENCE = re.compile(
    r"^(?P<fence>`{3,})(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=fence)[ ]*$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """A fenced block: what it is, its text, where the text stands in the page."""

    info: str
    body: str
    start: int
    line: int

    @property
    def language(self) -> str:
        return self.info.split()[0].strip("{}") if self.info.split() else ""

    @property
    def caption(self) -> str:
        found = re.search(r"^:caption: (.+)$", self.body, re.MULTILINE)
        return found[1] if self.language == "code-block" and found else ""

    @property
    def code(self) -> str:
        """The text without a directive's options."""
        return re.sub(r"\A(?::[\w-]+:.*\n)+\n?", "", self.body)


@dataclass(frozen=True)
class Command:
    """A command of a console block and the output that the page shows."""

    text: str
    output: str
    runs: bool


def pages() -> list[Path]:
    found = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("README.md")]
    return sorted(page for page in found if "_build" not in page.parts)


def blocks(text: str) -> Iterator[Block]:
    for match in _FENCE.finditer(text):
        start = match.start("body")
        yield Block(match["info"].strip(), match["body"], start, text.count("\n", 0, start) + 1)


def commands(body: str) -> list[Command]:
    """Split a console block: a line with a dollar starts a command, a backslash continues it."""
    found: list[tuple[list[str], list[str]]] = []
    for line in body.splitlines(keepends=True):
        # The demo prints its commands with their dollar.
        in_demo = bool(found) and _DEMO.match(found[-1][0][0]) and line.startswith("$ fdproof ")
        if line.startswith("$ ") and not in_demo:
            found.append(([line[2:]], []))
        elif found and not found[-1][1] and found[-1][0][-1].endswith("\\\n"):
            found[-1][0].append(line)
        elif found:
            found[-1][1].append(line)
        else:
            raise ValueError(f"a console block starts with output: {line!r}")
    whole = [("".join(text).rstrip("\n"), "".join(output)) for text, output in found]
    setting_up = any(_NOT_RUN.match(text) for text, _ in whole)
    return [
        Command(text, output, not (_NOT_RUN.match(text) or (setting_up and _DEMO.match(text))))
        for text, output in whole
    ]


def prepare(directory: Path, text: str) -> None:
    """Lay out what a page's commands find: the examples, and the files that the page shows."""
    shutil.copytree(ROOT / "examples", directory / "examples", dirs_exist_ok=True)
    for block in blocks(text):
        if block.caption:
            (directory / block.caption).parent.mkdir(parents=True, exist_ok=True)
            (directory / block.caption).write_text(block.code, encoding="utf-8")
    programs = directory / ".bin"
    programs.mkdir()
    for name, arguments in (("python", ""), ("python3", ""), ("fdproof", "-m fdproof ")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
        program.chmod(0o755)


def environment(directory: Path) -> dict[str, str]:
    package = Path(fdproof.__file__).resolve().parents[1]
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
        "PATH": f"{directory / '.bin'}:{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": str(package),
        "PYTHONDONTWRITEBYTECODE": "1",
        # An operation whose own clean-up is made to fail leaves its files: here, not on the machine.
        "TMPDIR": str(directory / ".bin"),
        "COLUMNS": "80",
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
    }


def run_console(directory: Path, wanted: list[Command]) -> list[str]:
    """Run the commands of a block in one shell; return what each wrote, standard error included."""
    script = []
    for command in wanted:
        text = command.text if command.runs else "true"
        # What one runs from the checkout; make itself would build an environment first.
        text = _DEMO.sub("python examples/demo.py", text, count=1)
        # The mark must not change what the next command sees as the last status.
        script.append(f"{text}\nstatus=$?; printf '{_MARK}\\n'; (exit $status)\n")
    result = subprocess.run(
        ["bash", "-c", "".join(script)],
        check=False,
        cwd=directory,
        env=environment(directory),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_SECONDS,
    )
    text = result.stdout.replace(str(directory), HOME)
    # Of this kernel a page tells the version, not whose build it is.
    release = os.uname().release
    text = text.replace(release, ".".join(release.split(".")[:2]))
    return text.split(f"{_MARK}\n")[: len(wanted)]


def same(shown: str, seen: str, directory: Path) -> bool:
    """Compare output with what a page shows, in which ... stands for anything."""
    return doctest.OutputChecker().check_output(
        _normal(shown, directory), _normal(seen, directory), doctest.ELLIPSIS
    )


def _normal(text: str, directory: Path) -> str:
    """Take out what differs from one run, machine or Python to the next."""

    def caller(match: re.Match[str]) -> str:
        # Through which line of the library a call came is the library's affair.
        return match[0] if (directory / match[1]).exists() else "called from LIBRARY"

    def position(match: re.Match[str]) -> str:
        # A line of the page's own files is as shown; one of the standard library moves.
        return match[0] if (directory / match[1]).exists() else f"{match[1]}:LINE"

    text = re.sub(r" in \d+\.\d+ s\b", " in TIME s", text)
    text = re.sub(r'"(seconds|number|line)": [\d.]+', r'"\1": N', text)
    text = re.sub(r'"(kernel|python|target)": ".*?"', r'"\1": TEXT', text)
    text = re.sub(r"\bversion \S+", "version N", text)
    # How many calls a command makes, or a module of the standard library, is the machine's affair.
    text = re.sub(
        r"\d+ faults? at \d+ system calls? of (?=examples/stdlib_leak|(?!\S+\.py:))",
        "FAULTS of ",
        text,
    )
    # Which numbers are free in the process under test depends on how the check itself was started.
    text = re.sub(r"^ +\d+  (?=\S)", "    N  ", text, flags=re.MULTILINE)
    text = re.sub(r"called from (\S+?):\d+ in \S+", caller, text)
    text = re.sub(r"([\w./-]+\.py):\d+", position, text)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
