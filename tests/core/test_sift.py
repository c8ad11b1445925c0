"""Sifting: the first version stands, a repetition changes nothing, a contradiction is kept beside it."""

from collections.abc import Iterable
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.intake import Acceptance, Later
from ledger.rating import Tariff
from ledger.sift import KnownAcceptance, KnownLater, Sifted, sift
from schemas.codes import Line

DAY = date(2026, 10, 3)
TARIFF = Tariff(7, "31", Line.RIDE_HAILING, DAY, DAY.replace(day=1), 100, Decimal(1), 100, True, False)


def accepted(
    order_id: str = "o",
    occurred_us: int = 1,
    worker_id: str = "w",
    city: int = 310100,
    line: Line = Line.RIDE_HAILING,
    ordinal: int = 0,
    platform_no: int = 7,
) -> Acceptance:
    return Acceptance(platform_no, order_id, occurred_us, worker_id, city, line, ordinal, TARIFF)


def ended(kind: bytes = b"C", occurred_us: int = 1, ordinal: int = 0, order_id: str = "o") -> Later:
    return Later(7, order_id, "", occurred_us, kind, None, ordinal)


def reassigned(
    event_id: str = "e", worker_id: str = "w", occurred_us: int = 1, ordinal: int = 0, order_id: str = "o"
) -> Later:
    return Later(7, order_id, event_id, occurred_us, b"R", worker_id, ordinal)


def known_of(
    sifted: Sifted,
) -> tuple[dict[tuple[int, str], KnownAcceptance], dict[tuple[int, str, str], KnownLater]]:
    """What the books hold once a batch is booked."""
    return (
        {
            event[:2]: KnownAcceptance(event.occurred_us, event.worker_id, event.city, event.line)
            for event in sifted.acceptances
        },
        {event[:3]: KnownLater(event.occurred_us, event.kind, event.worker_id) for event in sifted.later},
    )


def test_the_first_acceptance_of_an_order_stands():
    first, second = accepted(), accepted(ordinal=1)
    sifted = sift([first, second], [], {}, {})
    assert (sifted.acceptances, sifted.duplicates, sifted.conflicts) == ([first], [1], [])


@pytest.mark.parametrize(
    ("second", "differs"),
    [
        (accepted(occurred_us=2), ("time",)),
        (accepted(occurred_us=1 + 86_400_000_000), ("time",)),
        (accepted(worker_id="x"), ("worker",)),
        (accepted(city=440100), ("city",)),
        (accepted(line=Line.FOOD_DELIVERY), ("line",)),
        (accepted("o", 2, "x", 440100, Line.FOOD_DELIVERY), ("time", "worker", "city", "line")),
    ],
)
def test_another_content_under_the_same_order_is_a_conflict(second: Acceptance, differs: tuple[str, ...]):
    first, second = accepted(), second._replace(ordinal=1)
    in_one_batch = sift([first, second], [], {}, {})
    assert in_one_batch.conflicts == [(second, differs)]
    assert (in_one_batch.acceptances, in_one_batch.duplicates) == ([first], [])
    in_the_next = sift([second], [], known_of(in_one_batch)[0], {})
    assert (in_the_next.acceptances, in_the_next.conflicts) == ([], [(second, differs)])


def test_the_same_order_id_on_another_platform_is_another_order():
    sifted = sift([accepted(), accepted(platform_no=8, ordinal=1)], [], {}, {})
    assert len(sifted.acceptances) == 2


def test_an_order_ends_once_however_it_ends():
    completed, cancelled, again = ended(b"C"), ended(b"X", ordinal=1), ended(b"C", ordinal=2)
    sifted = sift([], [completed, cancelled, again], {}, {})
    assert (sifted.later, sifted.conflicts, sifted.duplicates) == ([completed], [(cancelled, ("type",))], [2])


def test_an_ending_at_another_time_is_a_conflict():
    second = ended(occurred_us=2, ordinal=1)
    assert sift([], [ended(), second], {}, {}).conflicts == [(second, ("time",))]


def test_an_order_may_be_reassigned_many_times_under_different_event_ids():
    sifted = sift([], [reassigned("e1"), reassigned("e2", "x", ordinal=1), ended(ordinal=2)], {}, {})
    assert len(sifted.later) == 3


def test_the_same_event_id_with_another_worker_is_a_conflict():
    second = reassigned(worker_id="x", ordinal=1)
    assert sift([], [reassigned(), second], {}, {}).conflicts == [(second, ("worker",))]


def test_an_acceptance_and_its_later_events_do_not_collide():
    sifted = sift([accepted()], [ended(ordinal=1)], {}, {})
    assert (len(sifted.acceptances), len(sifted.later)) == (1, 1)


def test_the_second_of_two_conflicting_repetitions_is_held_against_the_first_version():
    versions = [accepted(), accepted(worker_id="x", ordinal=1), accepted(worker_id="x", ordinal=2)]
    sifted = sift(versions, [], {}, {})
    assert [conflict.event.ordinal for conflict in sifted.conflicts] == [1, 2]


# Against a plain dictionary

EVENTS = st.one_of(
    st.builds(
        accepted,
        st.sampled_from("abc"),
        st.integers(1, 2),
        st.sampled_from("wx"),
        st.sampled_from([310100, 440100]),
        st.sampled_from([Line.RIDE_HAILING, Line.FOOD_DELIVERY]),
    ),
    st.builds(ended, st.sampled_from([b"C", b"X"]), st.integers(1, 2), st.just(0), st.sampled_from("abc")),
    st.builds(
        reassigned,
        st.sampled_from(["e1", "e2"]),
        st.sampled_from("wx"),
        st.integers(1, 2),
        st.just(0),
        st.sampled_from("abc"),
    ),
)
BATCHES = st.lists(st.lists(EVENTS, max_size=12), max_size=5)


def key_and_facts(event: Acceptance | Later) -> tuple[tuple[object, ...], tuple[object, ...]]:
    if isinstance(event, Acceptance):
        return event[:2], event[2:6]
    return event[:3], event[3:6]


def model(events: Iterable[Acceptance | Later], stands: dict[object, object]) -> dict[int, str]:
    """The answers as a dictionary would give them: whoever comes first under a key stands."""
    answers = {}
    for event in events:
        key, facts = key_and_facts(event)
        if key not in stands:
            stands[key] = facts
            answers[event.ordinal] = "new"
        else:
            answers[event.ordinal] = "duplicate" if stands[key] == facts else "conflict"
    return answers


def answers_of(sifted: Sifted) -> dict[int, str]:
    told = [(event.ordinal, "new") for event in (*sifted.acceptances, *sifted.later)]
    told += [(ordinal, "duplicate") for ordinal in sifted.duplicates]
    told += [(conflict.event.ordinal, "conflict") for conflict in sifted.conflicts]
    assert len(dict(told)) == len(told), "one answer per event"
    return dict(told)


def split(batch: list[Acceptance | Later]) -> tuple[list[Acceptance], list[Later]]:
    numbered = [event._replace(ordinal=ordinal) for ordinal, event in enumerate(batch)]
    return (
        [event for event in numbered if isinstance(event, Acceptance)],
        [event for event in numbered if isinstance(event, Later)],
    )


@settings(max_examples=200, deadline=None)
@given(BATCHES)
def test_any_batches_in_any_order_are_answered_as_a_dictionary_would(batches: list[list[Acceptance | Later]]):
    stands: dict[object, object] = {}
    known_acceptances: dict[tuple[int, str], KnownAcceptance] = {}
    known_later: dict[tuple[int, str, str], KnownLater] = {}
    for batch in batches:
        acceptances, later = split(batch)
        sifted = sift(acceptances, later, known_acceptances, known_later)
        assert answers_of(sifted) == model([*acceptances, *later], stands)
        booked_acceptances, booked_later = known_of(sifted)
        known_acceptances |= booked_acceptances
        known_later |= booked_later
    assert len(known_acceptances) + len(known_later) == len(stands)


@settings(max_examples=100, deadline=None)
@given(BATCHES)
def test_what_was_booked_once_is_all_duplicates_the_second_time(batches: list[list[Acceptance | Later]]):
    for batch in batches:
        once = sift(*split(batch), {}, {})
        again = sift(once.acceptances, once.later, *known_of(once))
        assert (again.acceptances, again.later, again.conflicts) == ([], [], [])
        assert sorted(again.duplicates) == sorted(event.ordinal for event in (*once.acceptances, *once.later))


@settings(max_examples=100, deadline=None)
@given(st.lists(EVENTS, max_size=16), st.data())
def test_how_events_are_cut_into_batches_changes_nothing(batch: list[Acceptance | Later], data: st.DataObject):
    acceptances, later = split(batch)
    at_once = sift(acceptances, later, {}, {})
    cut = data.draw(st.integers(0, len(batch)))
    early = sift(
        [event for event in acceptances if event.ordinal < cut],
        [event for event in later if event.ordinal < cut],
        {},
        {},
    )
    late = sift(
        [event for event in acceptances if event.ordinal >= cut],
        [event for event in later if event.ordinal >= cut],
        *known_of(early),
    )
    assert answers_of(early) | answers_of(late) == answers_of(at_once)
