"""The plan of moves brings every source to its number, whatever cycles and overlaps there are."""

from hypothesis import example, given
from hypothesis import strategies as st

from fdproof.process._places import Places, plan

NUMBERS = st.integers(0, 12)


def carry_out(places: Places, table: dict[int, str]) -> dict[int, tuple[str, bool]]:
    """What the child's C code does, on a table of names: number -> (file, close-on-exec)."""
    now = {number: (file, True) for number, file in table.items()}
    aside = -1
    for source, number, close_on_exec in places.moves:
        file, _ = now[aside if source < 0 else source]
        if number < 0:
            aside = next(free for free in range(3, 100) if free not in now)
            now[aside] = file, True
        else:
            now[number] = file, close_on_exec
    return {number: now[number] for number in places.kept if number in now}


@given(st.dictionaries(NUMBERS, NUMBERS, max_size=10))
@example({3: 4, 4: 3})
@example({3: 4, 4: 5, 5: 3, 6: 7, 7: 6, 8: 3})
@example({3: 3, 4: 3, 5: 4})
def test_every_number_gets_its_file(files: dict[int, int]) -> None:
    table = {number: f"file {number}" for number in {*range(3), *files.values()}}

    after = carry_out(plan(files), table)

    assert {number: after[number] for number in files} == {
        number: (table[source], False) for number, source in files.items()
    }
    assert after.keys() == {0, 1, 2, *files}


@given(st.dictionaries(NUMBERS, NUMBERS, max_size=10), NUMBERS)
def test_the_channel_is_where_the_plan_says_and_goes_with_the_exec(
    files: dict[int, int], channel: int
) -> None:
    table = {number: f"file {number}" for number in {*range(3), *files.values(), channel}}

    places = plan(files, channel)
    after = carry_out(places, table)

    assert places.channel not in {0, 1, 2, *files}
    assert after[places.channel] == (table[channel], True)
    for number, source in files.items():
        assert after[number] == (table[source], False)


@given(st.dictionaries(NUMBERS, NUMBERS), st.none() | NUMBERS)
def test_highest_is_above_all_that_is_needed(files: dict[int, int], channel: int | None) -> None:
    places = plan(files, channel)

    named = {0, 1, 2, *files, *files.values(), places.channel, -1 if channel is None else channel}
    assert places.highest == max(named)
