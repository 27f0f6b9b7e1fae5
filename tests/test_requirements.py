"""The rules of conftest.py hold: a test that did not run, or left something behind, says so."""

import os
from pathlib import Path

import pytest

from tests import kernel_features

CONFTEST = Path(__file__).with_name("conftest.py")


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A suite of its own, under this suite's rules, on a kernel that lacks one feature."""
    monkeypatch.setitem(kernel_features.FEATURES, "time travel", lambda: False)
    monkeypatch.setitem(kernel_features.FEATURES, "gravity", lambda: True)
    monkeypatch.setattr(kernel_features, "_answers", {})
    pytester.makeconftest(CONFTEST.read_text())
    pytester.makeini(
        "[pytest]\nmarkers =\n  root: root\n  requires_kernel(f): feature\n  requires_program(p): program\n"
    )
    return pytester


NEEDS_A_FEATURE = """
    import pytest

    @pytest.mark.requires_kernel("gravity", "time travel")
    def test_it(): pass

    @pytest.mark.requires_kernel("gravity")
    def test_other(): pass
"""


def test_missing_feature_skips_by_name(suite: pytest.Pytester) -> None:
    suite.makepyfile(NEEDS_A_FEATURE)

    result = suite.runpytest_inprocess("-rs")

    result.assert_outcomes(skipped=1, passed=1)
    result.stdout.fnmatch_lines(["*this kernel lacks time travel*"])


def test_required_kernel_turns_the_skip_into_a_failure(suite: pytest.Pytester) -> None:
    suite.makepyfile(NEEDS_A_FEATURE)

    result = suite.runpytest_inprocess("--require-kernel")

    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["*this kernel lacks time travel*"])


def test_an_old_kernel_is_not_asked_for_a_newer_feature(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(kernel_features.SINCE, "time travel", (999, 0))
    suite.makepyfile(NEEDS_A_FEATURE)

    result = suite.runpytest_inprocess("-rs", "--require-kernel")

    result.assert_outcomes(skipped=1, passed=1)
    result.stdout.fnmatch_lines(["*this kernel is too old for time travel*"])


@pytest.mark.parametrize(
    ("options", "outcome"), [([], {"skipped": 1}), (["--require-kernel"], {"errors": 1})]
)
def test_a_missing_program_is_treated_like_a_missing_feature(
    suite: pytest.Pytester, options: list[str], outcome: dict[str, int]
) -> None:
    suite.makepyfile("""
        import pytest

        @pytest.mark.requires_program("sh", "no-such-program")
        def test_it(): pass

        @pytest.mark.requires_program("sh")
        def test_other(): pass
    """)

    result = suite.runpytest_inprocess("-rs", *options)

    result.assert_outcomes(passed=1, **outcome)
    result.stdout.fnmatch_lines(["*this machine lacks the program no-such-program*"])


def test_unknown_feature_is_refused(suite: pytest.Pytester) -> None:
    suite.makepyfile("""
        import pytest

        @pytest.mark.requires_kernel("opnat2")
        def test_it(): pass
    """)

    result = suite.runpytest_inprocess()

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*test_it requires 'opnat2'*"])


def test_root_is_not_a_kernel_feature(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    suite.makepyfile("""
        import pytest

        @pytest.mark.root
        def test_it(): pass
    """)

    result = suite.runpytest_inprocess("-rs", "--require-kernel")

    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*needs root*"])


LEFTOVERS = {
    "left open: * -> /dev/null": "import os; os.open('/dev/null', 0)",
    "lost: * -> /dev/zero": "import os; os.close(int(os.environ['SPARE']))",
    "replaced: * -> /dev/zero, now /dev/null": (
        "import os; n = os.open('/dev/null', 0); os.dup2(n, int(os.environ['SPARE'])); os.close(n)"
    ),
    "left a child process: *": (
        "import os; pid = os.fork() or os._exit(0); os.environ['CHILD'] = str(pid)"
    ),
}


@pytest.mark.parametrize("message", LEFTOVERS)
def test_leftovers_fail_the_test_that_left_them(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    spare = os.open("/dev/zero", os.O_RDONLY)
    before = set(os.listdir("/proc/self/fd"))
    monkeypatch.setenv("SPARE", str(spare))
    suite.makepyfile(f"def test_it(): {LEFTOVERS[message]}\ndef test_other(): pass")

    result = suite.runpytest_inprocess("-p", "no:cacheprovider")

    if "CHILD" in os.environ:
        os.waitpid(int(os.environ.pop("CHILD")), 0)
    for number in {str(spare), *os.listdir("/proc/self/fd")} - (before - {str(spare)}):
        try:
            os.close(int(number))
        except OSError:
            pass  # the listing's own descriptor, or the spare that the suite has closed
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines([f"*{message}"])


def test_garbage_is_collected_before_it_counts(suite: pytest.Pytester) -> None:
    suite.makepyfile("""
        import os

        class Owner:
            def __init__(self): self.number, self.me = os.open("/dev/null", 0), self
            def __del__(self): os.close(self.number)

        def test_it(): Owner()
    """)

    suite.runpytest_inprocess().assert_outcomes(passed=1)
