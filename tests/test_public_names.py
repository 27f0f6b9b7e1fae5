"""Each public name has exactly one home, and the reference knows it."""

import importlib
import inspect
import pkgutil
import re
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

import fdproof

ROOT = Path(__file__).parents[1]

HEAP_TYPE = 1 << 9


def doors(package: ModuleType) -> list[ModuleType]:
    """The modules that users import from.

    A package that lists names is the door to its files; in one that lists none, each file
    without an underscore is its own door. The root is both.
    """
    found = [package] if getattr(package, "__all__", ()) else []
    if hasattr(package, "__path__") and (package is fdproof or not found):
        for child in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            if not child.name.rpartition(".")[2].startswith("_"):
                found += doors(importlib.import_module(child.name))
    return found


DOORS = doors(fdproof)
NAMES = [
    pytest.param(module, name, id=f"{module.__name__}.{name}")
    for module in DOORS
    for name in module.__all__
]


def has_a_home(value: object) -> bool:
    """Whether a value knows where it was made: classes and functions do, constants do not."""
    return isinstance(value, type) or inspect.isroutine(value)


each_door = pytest.mark.parametrize("module", DOORS, ids=lambda module: module.__name__)


@each_door
def test_all_is_sorted(module: ModuleType) -> None:
    assert list(module.__all__) == sorted(set(module.__all__))


@each_door
def test_all_is_exact(module: ModuleType) -> None:
    """Nothing is listed that is not there; nothing is there, as the module's own, unlisted."""

    def own(name: str) -> bool:
        value = getattr(module, name)
        if name.startswith("_") or isinstance(value, ModuleType):
            return False
        # The root exists to re-export, so there whatever is visible counts.
        return module is fdproof or (has_a_home(value) and value.__module__ == module.__name__)

    assert sorted(module.__all__) == sorted(
        {name for name in dir(module) if own(name)}
        | {name for name in module.__all__ if hasattr(module, name)}
    )


def test_each_name_has_one_home() -> None:
    homes = Counter(
        id(value)
        for module in DOORS
        for name in module.__all__
        if has_a_home(value := getattr(module, name))
    )

    assert [
        f"{module.__name__}.{name}"
        for module in DOORS
        for name in module.__all__
        if homes[id(getattr(module, name))] > 1
    ] == []


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_name_says_where_it_lives(module: ModuleType, name: str) -> None:
    """Tracebacks, pickles and the docs show the path that users import from."""
    value = getattr(module, name)
    if not has_a_home(value):
        return
    # The interpreter derives it from the C name of a compiled class and lets nobody change it.
    compiled = isinstance(value, type) and not value.__flags__ & HEAP_TYPE

    expected = f"{module.__name__}." if compiled else module.__name__
    assert value.__module__.startswith(expected) if compiled else value.__module__ == expected


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_reference_mentions_it(module: ModuleType, name: str) -> None:
    full = re.compile(rf"\b{re.escape(module.__name__)}\.{name}\b")
    pages = (ROOT / "docs" / "reference").glob("*.md")

    assert any(full.search(page.read_text()) for page in pages)
