"""The outbox stores batches for later, and cuts a batch to the broker's limit."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from hypothesis import given, settings
from hypothesis import strategies as st

from emotion_device.checks import Pending
from emotion_device.errors import BatchTooLarge
from emotion_device.outbox import Outbox, correlation_data, payload_limit, split
from emotion_device.wire import EMOTIONS, MAX_PERSON_ID, People

NOW = datetime(2025, 11, 14, 12, 34, 56, tzinfo=timezone.utc)
LATER = NOW + timedelta(seconds=1)
LATEST = NOW + timedelta(seconds=2)

untimed = settings(deadline=None)  # the machine may be busy
person_ids = st.text(st.characters(blacklist_categories=["Cc", "Cs"]), min_size=1, max_size=MAX_PERSON_ID)
cumulatives = st.dictionaries(st.sampled_from(EMOTIONS), st.floats(min_value=0, allow_infinity=False, allow_nan=False))
peoples = st.dictionaries(person_ids, cumulatives, max_size=30)


def people(*person_ids: str, happy: float = 1.0) -> People:
    return {person_id: {"happy": happy} for person_id in person_ids}


def outbox_with(*batches: Pending, max_departed: int = 1_000) -> Outbox:
    outbox = Outbox(max_departed=max_departed)
    for batch in batches:
        outbox.put(batch)
    return outbox


def test_a_newer_batch_replaces_the_older_one() -> None:
    outbox = outbox_with(Pending(NOW, people("1", happy=1)), Pending(LATER, people("1", happy=2)))

    assert outbox.take() == [Pending(LATER, people("1", happy=2))]


def test_who_has_left_keeps_their_last_entry_and_its_stamp() -> None:
    outbox = outbox_with(Pending(NOW, people("1", "2")), Pending(LATER, people("2", "3")), Pending(LATEST, people("3")))

    assert outbox.take() == [
        Pending(NOW, people("1")),
        Pending(LATER, people("2")),
        Pending(LATEST, people("3")),
    ]


def test_who_comes_back_is_in_the_newest_batch_only() -> None:
    outbox = outbox_with(Pending(NOW, people("1")), Pending(LATER, people("2")), Pending(LATEST, people("1", "2")))

    assert outbox.take() == [Pending(LATEST, people("1", "2"))]


def test_a_batch_with_nobody_in_view_is_kept_like_any_other() -> None:
    outbox = outbox_with(Pending(NOW, people("1")), Pending(LATER, {}))

    assert outbox.take() == [Pending(NOW, people("1")), Pending(LATER, {})]


def test_the_earliest_departed_are_given_up_beyond_the_bound() -> None:
    batches = [Pending(NOW + timedelta(seconds=number), people(str(number))) for number in range(5)]

    outbox = outbox_with(*batches, max_departed=2)

    assert outbox.take() == batches[2:]


def test_taking_empties_the_outbox() -> None:
    outbox = outbox_with(Pending(NOW, people("1")))

    outbox.take()

    assert not outbox
    assert outbox.take() == []


def test_what_is_put_back_into_an_empty_outbox_is_sent_again() -> None:
    outbox = outbox_with(Pending(NOW, people("1")), Pending(LATER, people("2")))
    taken = outbox.take()

    for batch in reversed(taken):
        outbox.put_back(batch)

    assert outbox.take() == taken


def test_parts_that_are_put_back_become_one_batch_again() -> None:
    outbox = Outbox()

    outbox.put_back(Pending(NOW, people("2")))
    outbox.put_back(Pending(NOW, people("1")))

    assert outbox.take() == [Pending(NOW, people("1", "2"))]


def test_what_is_put_back_overwrites_nothing_newer() -> None:
    outbox = outbox_with(Pending(LATER, people("1", "2", happy=2)), Pending(LATEST, people("1", happy=3)))

    outbox.put_back(Pending(NOW, people("1", "2", "3", happy=1)))

    assert outbox.take() == [
        Pending(NOW, people("3", happy=1)),
        Pending(LATER, people("2", happy=2)),
        Pending(LATEST, people("1", happy=3)),
    ]


@untimed
@given(batches=st.lists(st.dictionaries(st.sampled_from("abcd"), cumulatives), max_size=8))
def test_nobodys_newest_entry_is_ever_lost(batches: list[People]) -> None:
    outbox = outbox_with(*[Pending(NOW + timedelta(seconds=n), batch) for n, batch in enumerate(batches)])

    taken = outbox.take()

    newest: People = {}
    for batch in batches:
        newest.update(batch)
    assert {person_id: seconds for batch in taken for person_id, seconds in batch.people.items()} == newest
    assert [batch.timestamp for batch in taken] == sorted(batch.timestamp for batch in taken)


def test_whoever_is_too_large_is_not_named() -> None:
    assert "anna" not in str(BatchTooLarge(person_id="anna", size=200, limit=150))


@untimed
@given(batch=peoples, limit=st.integers(min_value=0, max_value=3_000))
def test_every_part_is_below_the_limit_and_everyone_is_in_one_or_refused(batch: People, limit: int) -> None:
    messages, refused = split("jetson_1", Pending(NOW, batch), limit=limit)

    assert all(len(message.payload) <= limit for message in messages)
    assert {message.timestamp for message in messages} <= {NOW}
    sent = [person_id for message in messages for person_id in message.people or ()]
    left_out = [error.person_id for error in refused if error.person_id is not None]
    assert sorted(sent + left_out) == sorted(batch)


@untimed
@given(batch=peoples)
def test_a_batch_within_the_limit_stays_whole(batch: People) -> None:
    messages, refused = split("jetson_1", Pending(NOW, batch), limit=1_000_000)

    assert len(messages) == 1
    assert refused == []


def test_parts_are_filled_before_another_is_begun() -> None:
    batch = Pending(NOW, people(*(f"{number:03}" for number in range(100))))
    whole = len(split("jetson_1", batch, limit=1_000_000)[0][0].payload)

    messages, _ = split("jetson_1", batch, limit=whole // 2 + 100)

    assert len(messages) == 2


def test_a_person_who_fits_into_no_packet_is_named_with_the_sizes() -> None:
    batch = Pending(NOW, {"1": {"happy": 1.0}, "x" * 120: {"happy": 1.0}})

    messages, refused = split("jetson_1", batch, limit=150)

    assert [message.people for message in messages] == [{"1": {"happy": 1.0}}]
    assert [(error.person_id, error.limit) for error in refused] == [("x" * 120, 150)]
    assert refused[0].size > 150
    assert "max_packet_size" in str(refused[0])


def test_a_batch_without_people_that_does_not_fit_is_refused_too() -> None:
    messages, refused = split("jetson_1", Pending(NOW, {}), limit=20)

    assert messages == []
    assert [error.person_id for error in refused] == [None]


def test_the_reply_topic_and_correlation_data_count_against_the_limit() -> None:
    plain = payload_limit(1_000, topic="emotions/jetson_1/batch", response_topic=None)
    with_reply = payload_limit(1_000, topic="emotions/jetson_1/batch", response_topic="emotions/jetson_1/reply")

    assert plain - with_reply >= len("emotions/jetson_1/reply") + len(correlation_data(NOW))
