"""The pages say what is true: their commands are run and their output compared, their Python runs."""

import doctest
import gc
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import fdproof
from tests.docs.pages import (
    HOME,
    ROOT,
    blocks,
    commands,
    environment,
    pages,
    prepare,
    run_console,
    same,
)

each_page = pytest.mark.parametrize(
    "page", pages(), ids=lambda page: str(page.relative_to(ROOT).with_suffix(""))
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "fdproof"
    path.mkdir()
    return path


@each_page
def test_commands_print_what_the_page_shows(page: Path, directory: Path) -> None:
    text = page.read_text(encoding="utf-8")
    consoles = [block for block in blocks(text) if block.language == "console"]
    if not consoles:
        return
    prepare(directory, text)
    for block in consoles:
        wanted = commands(block.body)
        for command, seen in zip(wanted, run_console(directory, wanted), strict=True):
            where = f"{page.relative_to(ROOT)}:{block.line}"
            if not command.runs:
                assert not command.output, f"{where}: {command.text!r} is not run: show no output"
            elif not same(command.output, seen, directory):
                pytest.fail(
                    f"{where}: $ {command.text}\n--- the page shows\n{command.output}"
                    f"--- it prints (python tests/docs/record.py writes it)\n{seen}",
                    pytrace=False,
                )


@each_page
def test_sessions_answer_what_the_page_shows(
    page: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = page.read_text(encoding="utf-8")
    sessions = [block for block in blocks(text) if ">>> " in block.body]
    if not sessions:
        return
    prepare(directory, text)
    monkeypatch.chdir(directory)
    # As docs/conf.py has it for the builder.
    flags = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    runner = doctest.DocTestRunner(optionflags=flags, verbose=False)
    names: dict[str, object] = {"fdproof": fdproof}
    said: list[str] = []
    for block in sessions:
        test = doctest.DocTestParser().get_doctest(
            block.code, names, str(page.relative_to(ROOT)), str(page), block.line
        )
        assert test.examples
        runner.run(test, out=said.append, clear_globs=False)
        names = test.globs
    names.clear()
    gc.collect()
    assert not said, "".join(said)


@each_page
def test_programs_run(page: Path, directory: Path) -> None:
    """A Python block that is no session and no file of its own runs as it stands."""
    text = page.read_text(encoding="utf-8")
    programs = [
        block for block in blocks(text) if block.language == "python" and ">>> " not in block.body
    ]
    if not programs:
        return
    prepare(directory, text)
    for block in programs:
        result = subprocess.run(
            [sys.executable, "-c", block.body],
            check=False,
            cwd=directory,
            env=environment(directory),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert result.returncode == 0, f"{page.relative_to(ROOT)}:{block.line}\n{result.stdout}"


@each_page
def test_page_names_no_place_of_this_machine(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    assert [
        place
        for place in {
            sys.prefix,
            sys.base_prefix,
            str(ROOT),
            str(Path.home()),
            tempfile.gettempdir(),
        }
        if len(place) > len("/tmp") and place in text
    ] == []


def test_demo_ends_as_it_says(directory: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "demo.py")],
        check=False,
        env=environment(directory),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == 0, result.stdout
    assert [line for line in result.stdout.splitlines() if line.startswith("$")] == [
        "$ fdproof check examples/leak.py:copy",
        "$ fdproof check examples/no_leak.py:copy",
        "$ fdproof check examples/stdlib_leak.py:start",
    ]


@pytest.mark.parametrize(
    ("shown", "seen", "equal"),
    [
        ("clean: 4 faults in 0.1 s", "clean: 4 faults in 2.7 s", True),
        ("clean: 4 faults in 0.1 s", "clean: 5 faults in 0.1 s", False),
        ("      3  a pipe", "     14  a pipe", True),
        ("      3  a pipe", "      3  a socket", False),
        ("at here.py:7 in f", "at here.py:8 in f", False),
        ("at asyncio/base.py:7 in f", "at asyncio/base.py:8 in f", True),
        ("called from here.py:7 in f", "called from here.py:8 in f", False),
        ("called from asyncio/base.py:7 in f", "called from x:0 in g", True),
        ("9 faults at 9 system calls of cat x", "8 faults at 8 system calls of cat x", True),
        ("9 faults at 9 system calls of x.py:f", "8 faults at 8 system calls of x.py:f", False),
        ("one\n...\ntwo", "one\nmore\ntwo", True),
        (f"'{HOME}/x'", "'/elsewhere/x'", False),
        ("", "something", False),
    ],
)
def test_comparison_can_fail(shown: str, seen: str, equal: bool, directory: Path) -> None:
    (directory / "here.py").touch()

    assert same(shown, seen, directory) is equal


def test_console_blocks_are_split_at_the_dollar() -> None:
    split = commands("$ one \\\n  more\nfirst\n\n$ two\n")

    assert [(each.text, each.output, each.runs) for each in split] == [
        ("one \\\n  more", "first\n\n", True),
        ("two", "", True),
    ]


@pytest.mark.parametrize(
    ("body", "runs"),
    [
        ("$ make demo\n$ fdproof check x\n", [True]),
        ("$ make demo\n", [True]),
        ("$ make demo\n$ make test\n", [False, False]),
    ],
)
def test_commands_that_set_up_are_not_run(body: str, runs: list[bool]) -> None:
    assert [command.runs for command in commands(body)] == runs
