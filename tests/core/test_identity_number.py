"""Identity numbers are told from other texts of 18 characters, and are shown to nobody."""

import pytest

from ledger.identity_number import is_identity_number, masked

EXAMPLE = "11010519491231002X"  # of GB 11643


@pytest.mark.parametrize("text", [EXAMPLE, EXAMPLE.lower(), "440301200002290015"])
def test_a_birth_day_and_a_check_character_make_an_identity_number(text: str) -> None:
    assert is_identity_number(text)


@pytest.mark.parametrize(
    "text",
    [
        "110105194912310021",  # another check character
        *(f"44030120010229001{check}" for check in "0123456789X"),  # no such day
        "310105299912310018",  # not born yet
        "R-1024567890123456",
        "W0000184",
        "",
        f"{EXAMPLE} ",
        "１１０１０５１９４９１２３１００２Ｘ",
    ],
)
def test_other_texts_are_none(text: str) -> None:
    assert not is_identity_number(text)


def test_the_day_of_birth_is_looked_at() -> None:
    assert sum(is_identity_number(f"4403012001022800{place:02}") for place in range(100)) > 0
    assert sum(is_identity_number(f"4403012001023000{place:02}") for place in range(100)) == 0


def test_what_is_shown_has_stars_for_it_and_is_otherwise_the_same() -> None:
    shown = masked(f'{{"worker_id":"{EXAMPLE}","subject":"110105194912310021"}}')
    assert shown == f'{{"worker_id":"{"*" * 18}","subject":"110105194912310021"}}'
