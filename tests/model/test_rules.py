"""The page of rules and the tests of rules are about the same rules."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "model-rules.md"
TESTS = sorted(Path(__file__).parent.glob("test_rules_*.py"))


def test_every_rule_on_the_page_has_one_test_and_every_test_its_rule() -> None:
    rules = [int(number) for number in re.findall(r"^(\d+)\. ", PAGE.read_text(), re.MULTILINE)]
    tested = [
        int(number)
        for path in TESTS
        for number in re.findall(r"^def test_rule_(\d+)_", path.read_text(), re.MULTILINE)
    ]

    assert rules == list(range(1, len(rules) + 1))
    assert sorted(tested) == rules


def test_the_page_names_the_files_with_the_tests() -> None:
    page = PAGE.read_text()

    assert [path.name for path in TESTS if path.name not in page] == []
