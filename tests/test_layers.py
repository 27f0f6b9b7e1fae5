"""Imports go down: what the modules import is what CONTRIBUTING.md says they may."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "fdproof"
SOURCES = sorted(
    path for suffix in ("py", "pyi", "pyx", "pxd") for path in PACKAGE.rglob(f"*.{suffix}")
)

DRAWERS = {"utils", "helpers", "common", "misc", "base", "core"}

CYTHON_FROM = re.compile(
    r"^[ \t]*from[ \t]+(?P<module>[.\w]+)[ \t]+c?import[ \t]*(?:\((?P<many>[^)]*)\)|(?P<few>[^\n#]*))",
    re.MULTILINE,
)
CYTHON_IMPORT = re.compile(r"^[ \t]*c?import[ \t]+(?P<modules>[^\n#]+)", re.MULTILINE)


class Layers:
    """The table of CONTRIBUTING.md."""

    def __init__(self, text: str) -> None:
        table = re.search(
            r"\| module \| may import from fdproof \|\n\|[- |]+\|\n((?:\|.*\n)+)", text
        )
        assert table, "CONTRIBUTING.md has no table 'module | may import from fdproof'"
        cells = [line.strip("|\n ").split(" | ") for line in table[1].splitlines()]
        self.rows = {module.strip("`"): permission for module, permission in cells}

    def row(self, module: str) -> str | None:
        """The most special row for a module, as in ``observe.snapshot`` before ``observe``."""
        names = module.split(".")
        candidates = (".".join(names[:length]) for length in range(len(names), 0, -1))
        return next((name for name in candidates if name in self.rows), None)

    def permitted(self, row: str) -> set[str]:
        permission = self.rows[row]
        if permission == "everything":
            return set(self.rows)
        named = set(re.findall(r"`([^`]+)`", permission))
        assert named or permission == "nothing", f"{row}: cannot read {permission!r}"
        if not permission.endswith("and below"):
            return named
        return named.union(*(self.permitted(name) for name in named))

    def may_import(self, importer: str, imported: str) -> bool:
        row = self.row(importer)
        if row is None:
            return False
        if row == self.row(imported):
            return True
        # A package may use its own parts, also those that have a row of their own.
        allowed = self.permitted(row) | {row}
        return any(imported == name or imported.startswith(name + ".") for name in allowed)


def module_name(path: Path) -> str:
    """``check.errnos`` for its file; ``__init__`` for the root's."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts[-1] == "__init__" and len(parts) > 1:
        parts = parts[:-1]
    return ".".join(parts)


def statements(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Each import of a file: level, module and the names taken from it."""
    text = path.read_text()
    if path.suffix in {".py", ".pyi"}:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                yield from ((0, alias.name, []) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield node.level, node.module or "", [alias.name for alias in node.names]
        return
    for match in CYTHON_FROM.finditer(text):
        module = match["module"].lstrip(".")
        names = re.sub(r"#.*", "", match["many"] or match["few"] or "").split(",")
        taken = [name.split()[0] for name in names if name.strip()]
        yield len(match["module"]) - len(module), module, taken
    for match in CYTHON_IMPORT.finditer(text):
        for name in match["modules"].split(","):
            yield 0, name.split()[0], []


def imports(path: Path) -> Iterator[str]:
    """The modules of fdproof that a file imports, without the leading ``fdproof.``."""
    folder = ("fdproof", *path.relative_to(PACKAGE).parts[:-1])
    for level, module, names in statements(path):
        origin = [*folder[: len(folder) - level + 1]] if level else []
        full = [*origin, *(module.split(".") if module else [])]
        if full[0] != "fdproof":
            continue
        for name in names or [""]:
            # ``from fdproof import check`` takes a module, ``from fdproof import open`` the root.
            place = PACKAGE.joinpath(*full[1:], name)
            taken = [*full[1:], name] if name and is_module(place) else full[1:]
            yield ".".join(taken) or "__init__"


def is_module(place: Path) -> bool:
    return place.is_dir() or any(place.with_suffix(s).exists() for s in (".py", ".pyx", ".pxd"))


LAYERS = Layers((ROOT / "CONTRIBUTING.md").read_text())


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    importer = module_name(path)
    assert LAYERS.row(importer), f"CONTRIBUTING.md has no row for {importer}"

    wrong = sorted({name for name in imports(path) if not LAYERS.may_import(importer, name)})

    assert wrong == [], f"{importer} may import {LAYERS.rows[LAYERS.row(importer) or '']}"


def test_table_names_only_its_own_rows() -> None:
    for row in LAYERS.rows:
        assert LAYERS.permitted(row) <= set(LAYERS.rows)


def test_nothing_is_above_itself() -> None:
    for row in {row for row, permission in LAYERS.rows.items() if permission != "everything"}:
        assert row not in LAYERS.permitted(row)


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("_descriptor", "_syscalls", True),
        ("_syscalls", "_descriptor", False),
        ("check.sweep", "check.points", True),
        ("check.sweep", "_errors", True),
        ("check.sweep", "__init__", False),
        ("check.sweep", "report.text", False),
        ("observe", "observe.snapshot", True),
        ("observe.snapshot", "notifier.listener", False),
        ("report.text", "_descriptor", False),
        ("cli.check", "report.text", True),
        ("stranger", "_errors", False),
    ],
)
def test_table_is_read_as_written(importer: str, imported: str, allowed: bool) -> None:
    assert LAYERS.may_import(importer, imported) is allowed


def test_every_form_of_import_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    for name in ("_errors.py", "_syscalls.pxd", "check/_loop.pyx", "check/sweep.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    compiled = tmp_path / "check" / "_loop.pyx"
    compiled.write_text(
        "from fdproof._syscalls cimport *\nfrom fdproof._errors import (\n    Error,  # why\n)\n"
        "cimport fdproof.check.sweep as sweep, cython\nfrom . import sweep\nfrom .. cimport _errors\n"
    )
    plain = tmp_path / "check" / "sweep.py"
    plain.write_text(
        "import os, fdproof._errors\nfrom fdproof import check, Descriptor\n"
        "def later():\n    from ._loop import run\n"
    )

    assert sorted(set(imports(compiled))) == ["_errors", "_syscalls", "check.sweep"]
    assert sorted(imports(plain)) == ["__init__", "_errors", "check", "check._loop"]


def test_no_module_is_a_drawer() -> None:
    assert {path.stem.strip("_") for path in PACKAGE.rglob("*")} & DRAWERS == set()


@pytest.mark.parametrize(
    "path",
    [*SOURCES, *sorted(PACKAGE.rglob("*.h"))],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_file_can_be_read_in_one_sitting(path: Path) -> None:
    lines = path.read_text().count("\n")

    assert lines <= 600
