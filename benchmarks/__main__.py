"""Measure and print one table: ``python -m benchmarks``."""

import argparse
import contextlib
import dataclasses
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine, model, notification, passing, publication, spawning, sweeps
from benchmarks.compiled import Compiled
from benchmarks.measure import Contest, Line, measure, summarise

__all__ = ["main"]

_CONTESTS = {
    "publication": (publication.contest,),
    "spawn": (spawning.from_small, spawning.from_large, spawning.from_many),
    "passing": (passing.of_one, passing.of_many, passing.beside_a_thread),
    "notification": (notification.contest,),
    "callable": (sweeps.of_callable,),
    "command": (sweeps.of_command,),
    "model": (model.openings, model.replacements, model.look_ups, model.forks),
}
_WIDTH = 46


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for; returns the exit status.

    Args:
        arguments: the command line, without the program's name.
    """
    parser = argparse.ArgumentParser(
        "benchmarks", description="Print one table of ratios, measured in turns."
    )
    parser.add_argument("--rounds", type=int, default=11, help="turns of each line (default: 11)")
    parser.add_argument(
        "--quick", action="store_true", help="one short round: to see that it works"
    )
    parser.add_argument(
        "--only", action="append", choices=list(_CONTESTS), help="these contests; may be repeated"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every sample there, too")
    options = parser.parse_args(arguments)
    rounds = 1 if options.quick else options.rounds
    if rounds < 1:
        parser.error("--rounds: takes at least one")
    where = machine.description()
    with (
        tempfile.TemporaryDirectory(prefix="fdproof-bench-") as directory,
        contextlib.ExitStack() as after,
    ):
        compiled = Compiled(Path(directory))
        contests = [
            contest(compiled, quick=options.quick)
            for name in options.only or _CONTESTS
            for contest in _CONTESTS[name]
        ]
        for contest in contests:
            after.callback(contest.close)
        samples = measure(contests, rounds, _say)
    _say("")
    results = {contest.name: summarise(contest, samples[contest.name]) for contest in contests}
    print(_table(contests, results, where, rounds), end="")
    if options.json is not None:
        options.json.write_text(_as_json(results, where, rounds), encoding="utf-8")
    return 0


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text:<78.78}", end="" if text else "\r", file=sys.stderr, flush=True)


def _table(
    contests: Sequence[Contest], results: dict[str, list[Line]], where: dict[str, str], rounds: int
) -> str:
    told = f"Linux {where['kernel']}, {where['processor']}, {where['cores']} core{'' if where['cores'] == '1' else 's'}, Python {where['python']}"
    lines = [
        f"{told}; medians of {rounds} interleaved round{'s' if rounds != 1 else ''}",
        "",
        f"{'':{_WIDTH}} {'median':>10} {'ratio':>7} {'lowest-highest':>15}  budget",
    ]
    for contest in contests:
        lines.append(contest.title)
        limit = contest.contestants[0].name
        lines.extend(_row(line, limit) for line in results[contest.name])
        lines.extend(f"  ({text})" for text in contest.missing)
        if contest.unit is not None:
            count, what = contest.unit
            lines.extend(
                f"  ({line.name}: {count / line.seconds:,.0f} {what} a second)"
                for line in results[contest.name]
            )
    return "\n".join(lines) + "\n"


def _row(line: Line, limit: str) -> str:
    name = f"  {line.name}"
    if line.name == line.against:
        return f"{name:{_WIDTH}} {_time(line.seconds):>10} {'1':>7}"
    row = f"{name:{_WIDTH}} {_time(line.seconds):>10} {_ratio(line.ratio):>7} {_ratio(line.lowest) + '-' + _ratio(line.highest):>15}"
    if line.met is None:
        return row
    to = "" if line.against == limit else f" of {line.against}"
    return f"{row}  {line.budget}{to}: {'met' if line.met else 'missed'}"


def _time(seconds: float) -> str:
    if seconds < 0.0001:
        return f"{seconds * 1e6:.2f} us"
    return f"{seconds * 1e3:.2f} ms"


def _ratio(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"


def _as_json(results: dict[str, list[Line]], where: dict[str, str], rounds: int) -> str:
    contests = {
        name: [dataclasses.asdict(line) for line in lines] for name, lines in results.items()
    }
    return json.dumps({"machine": where, "rounds": rounds, "contests": contests}, indent=2) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
