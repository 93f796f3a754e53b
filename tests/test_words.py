"""How numbers and facts are put in words."""

from __future__ import annotations

import pytest

from sigwindow.analysis import words


@pytest.mark.parametrize(
    ("count", "of", "told"),
    [
        (0, 20_000, "0.0%"),
        (4, 20_000, "<0.1%"),
        (9, 20_000, "<0.1%"),
        (10, 20_000, "0.1%"),
        (1, 3, "33.3%"),
        (19_989, 20_000, "99.9%"),
        (19_990, 20_000, ">99.9%"),
        (19_996, 20_000, ">99.9%"),
        (20_000, 20_000, "100.0%"),
        (0, 0, "-"),
    ],
)
def test_a_share_is_rounded_to_none_or_all_only_where_it_is(count: int, of: int, told: str) -> None:
    assert words.share(count, of) == told


def test_a_number_of_things() -> None:
    assert [words.counted(number, "thread") for number in (0, 1, 1412)] == ["0 threads", "1 thread", "1,412 threads"]
