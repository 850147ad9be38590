"""emotion_device, which runs without `shared`, and the daemon agree on topics, limits and payload."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotion_device import wire
from emotion_device.checks import check
from emotion_device.errors import InvalidBatch
from emotion_device.outbox import split
from shared import batch
from shared.batch import decode
from tests.unit.emotion_device.test_outbox import peoples

NOW = datetime(2025, 11, 14, 12, 34, 56, tzinfo=UTC)

untimed = settings(deadline=None)  # the machine may be busy


def test_the_limits_are_the_daemons() -> None:
    for name in ("EMOTIONS", "EARLIEST_TIMESTAMP", "DEVICE_ID", "MAX_PERSON_ID", "MAX_PEOPLE"):
        assert getattr(wire, name) == getattr(batch, name)


def test_the_topics_are_the_daemons() -> None:
    topics = batch.Topics("a/b")

    for last in ("batch", "reply", "status", "info"):
        assert wire.topic("a/b", "jetson_1", last) == getattr(topics, last)("jetson_1")


@pytest.mark.parametrize("prefix", ["emotions", "a/b", "", "a//b", "/a", "$SYS", "a+", "#", "a\n", "a$"])
def test_the_prefixes_are_the_daemons(prefix: str) -> None:
    assert wire.is_topic_prefix(prefix) == batch.is_topic_prefix(prefix)


@untimed
@given(people=peoples)
def test_the_daemon_accepts_whatever_is_accepted_here(people: wire.People) -> None:
    pending, _ = check(people, NOW)

    for message in split("jetson_1", pending, limit=1_000_000)[0]:
        decoded = decode(message.payload, device_id="jetson_1", received_at=NOW)
        assert decoded.people.keys() == people.keys()
        assert decoded.timestamp == NOW
        assert decoded.ignored is None


@untimed
@given(person_id=st.text(max_size=130) | st.sampled_from(["\ud800", "a\x9fb", "\x00"]))
def test_an_id_is_valid_here_if_it_is_valid_for_the_daemon(person_id: str) -> None:
    try:
        check({person_id: {}}, NOW)
    except InvalidBatch:
        assert not batch.is_person_id(person_id)
    else:
        assert batch.is_person_id(person_id)
