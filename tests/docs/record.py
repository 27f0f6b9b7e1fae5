"""Write into the pages what their commands print now: ``python tests/docs/record.py [--all] [PAGE ...]``.

Output that still says the same is left alone, so that times and numbers do not change for nothing;
with ``--all`` it is written anew, too. What was shortened by hand with ``...`` is left to the hand.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.docs.pages import ROOT, Command, blocks, commands, pages, prepare, run_console, same


def record(page: Path, fresh: bool) -> list[str]:
    """Rewrite the outputs of a page; return the commands whose output was rewritten."""
    text = page.read_text(encoding="utf-8")
    result = text
    changed: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch).resolve() / "fdproof"
        directory.mkdir()
        prepare(directory, text)
        # From the front, because a later block may build on an earlier one; positions are shifted along.
        shift = 0
        for block in blocks(text):
            if block.language != "console":
                continue
            wanted = commands(block.body)
            seen = run_console(directory, wanted)
            body = "".join(
                _recorded(command, output, directory, changed, fresh)
                for command, output in zip(wanted, seen, strict=True)
            )
            start = block.start + shift
            result = result[:start] + body + result[start + len(block.body) :]
            shift += len(body) - len(block.body)
    if changed:
        page.write_text(result, encoding="utf-8")
    return changed


def _recorded(command: Command, seen: str, directory: Path, changed: list[str], fresh: bool) -> str:
    shown = command.output
    differs = not same(shown, seen, directory)
    if command.runs and (differs or fresh):
        if "..." in shown:
            if differs:
                print(f"  {command.text}: shortened by hand; what it prints now:\n{seen}")
        else:
            shown = seen if seen.endswith("\n") or not seen else f"{seen}\n"
            changed.append(command.text)
    return f"$ {command.text}\n{shown}"


def main() -> None:
    names = [name for name in sys.argv[1:] if name != "--all"]
    for page in [Path(name).resolve() for name in names] or pages():
        for command in record(page, "--all" in sys.argv):
            print(f"{page.relative_to(ROOT)}: $ {command}")


if __name__ == "__main__":
    main()
