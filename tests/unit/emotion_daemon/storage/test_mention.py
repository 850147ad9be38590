"""Which records of rejected messages are about a person."""

import json
from datetime import UTC, datetime

import pytest

from emotion_daemon.rules.tombstones import Forgotten, Tombstone, by_device, digest
from emotion_daemon.storage.mention import Record, may_mention_forgotten, mentions
from shared.batch import Topics
from tests.examples import payload

TOPICS = Topics("emotions")
OWN, ELSEWHERE = TOPICS.batch("jetson_1"), TOPICS.batch("jetson_2")


def mentioned(content: bytes = b"", person_id: str = "anna-4711", *, topic: str = OWN, reason: str = "") -> bool:
    return mentions(Record(topic, reason, content), TOPICS, device_id="jetson_1", person_id=person_id)


@pytest.mark.parametrize(
    "content",
    [
        payload(person_id='"anna-4711"', cumulative='{"happy": -1}'),
        b'{"person_id": "anna-4711',
        b"\xff anna-4711",
        payload(person_id=json.dumps("anna-4711").replace("a", "\\u0061")),
        payload(person_id='"\\u0061\\u006E\\u006ea-4711"'),
        json.dumps(payload(person_id='"\\u0061nna-4711"').decode()).encode(),
        payload(person_id='"anna-4711"').decode().encode("utf-16"),
        payload(person_id='"anna-4711"').decode().encode("utf-16-be"),
        b"?" + payload(person_id='"anna-4711"').decode().encode("utf-16-le"),
        payload(person_id='"\\u0061nna-4711"').decode().encode("utf-16-le"),
        payload(person_id='"anna-4711"').decode().encode("utf-32"),
    ],
)
def test_the_id_is_found_however_it_is_written(content: bytes) -> None:
    assert mentioned(content)


@pytest.mark.parametrize("person_id", ["Žofie/3", 'say "hi"', "back\\slash", "\U0001f600", "é", "王"])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_any_id_is_found_in_json(person_id: str, ascii_only: bool) -> None:
    content = json.dumps({"person_id": person_id, "happy": -1}, ensure_ascii=ascii_only)

    assert mentioned(content.encode(), person_id)
    assert mentioned(content.encode("utf-16"), person_id)


def test_an_escaped_slash_is_a_slash() -> None:
    assert mentioned(b'{"person_id": "a\\/b"}', "a/b")


def test_latin_1_which_is_why_it_was_rejected_is_read() -> None:
    assert mentioned('{"person_id": "Zoé"}'.encode("latin-1"), "Zoé")


def test_an_integer_is_an_id_too() -> None:
    assert mentioned(payload(person_id="4711", cumulative='{"happy": -1}'), "4711")


@pytest.mark.parametrize("content", [b"", b"{", payload(person_id='"anna-471"'), payload(person_id='"Anna-4711"')])
def test_others_are_not_found(content: bytes) -> None:
    assert not mentioned(content)


def test_a_short_id_is_found_in_almost_everything_of_its_device() -> None:
    assert mentioned(payload(timestamp='"2025-11-14T12:34:56Z"', person_id='"bert"'), "1")


class TestTopic:
    @pytest.mark.parametrize("topic", [OWN, TOPICS.status("jetson_1")])
    def test_on_the_devices_own_the_persons_id_is_enough(self, topic: str) -> None:
        assert mentioned(b'{"x": "anna-4711"}', topic=topic)

    @pytest.mark.parametrize("topic", [ELSEWHERE, "emotions/jetson 1/batch", TOPICS.reply("jetson_1")[:-1]])
    def test_elsewhere_it_has_to_have_the_devices_too(self, topic: str) -> None:
        assert not mentioned(payload(device_id='"jetson_3"', person_id='"anna-4711"'), topic=topic.replace("_1", "_9"))
        assert mentioned(payload(device_id='"jetson_1"', person_id='"anna-4711"'), topic=topic)

    def test_it_may_be_in_the_topic_itself_or_in_the_reason(self) -> None:
        assert mentioned(topic="emotions/jetson_1 anna-4711/batch")
        assert mentioned(reason="person_id 'anna-4711' has a control character")


class TestDevice:
    """Elsewhere than on its own topics it has to be named."""

    @pytest.mark.parametrize("name", ["jetson_10", "jetson_1a", "xjetson_1"])
    def test_another_whose_name_is_longer_names_itself(self, name: str) -> None:
        itself = payload(device_id=f'"{name}"', person_id='"anna-4711"')

        assert not mentioned(itself, topic=TOPICS.batch(name))
        assert mentioned(itself + b"jetson_1", topic=TOPICS.batch(name))

    @pytest.mark.parametrize(
        "text", ["of jetson_1.", "jetson_1:anna", "emotions%2Fjetson_1%2Fbatch", "\\x08jetson_1", "hjetson_1fperson"]
    )
    @pytest.mark.parametrize("topic", [ELSEWHERE, "emotions/x y/batch"])
    def test_it_is_found_whatever_stands_around_it(self, text: str, topic: str) -> None:
        assert mentioned(f"{text} anna-4711".encode(), topic=topic)

    def test_a_shorter_name_takes_nothing_from_it(self) -> None:
        assert mentioned(b"jetson_1 anna-4711", topic=TOPICS.batch("jetson"))


class TestCut:
    @pytest.mark.parametrize("end", [b'"anna-471', b'"an', b'"anna\\u002', b'"anna\\'])
    def test_a_payload_that_ends_within_the_id_counts(self, end: bytes) -> None:
        assert mentioned(b'{"person_id": ' + end)

    @pytest.mark.parametrize("person_id", ["Иван Петров", "Jürgen", "a\U0001f600b"])
    @pytest.mark.parametrize("ascii_only", [True, False])
    def test_also_one_that_ends_within_a_character(self, person_id: str, ascii_only: bool) -> None:
        content = json.dumps({"person_id": person_id}, ensure_ascii=ascii_only).encode()
        begin = content.index(b": ") + len(': "')
        two = len(json.dumps(person_id[:2], ensure_ascii=ascii_only).encode()) - len('""')

        for end in range(begin + two, len(content)):
            assert mentioned(content[:end], person_id), content[:end]

    @pytest.mark.parametrize("end", [b'"a', b'"anne'])
    def test_one_letter_or_another_beginning_does_not(self, end: bytes) -> None:
        assert not mentioned(b'{"person_id": ' + end)


class TestForgotten:
    """Of whom only a digest is left."""

    def forgotten(self) -> Forgotten:
        salt = b"s" * 16
        return by_device([Tombstone("jetson_1", salt, digest("anna-4711", salt), datetime(2025, 11, 14, tzinfo=UTC))])

    @pytest.mark.parametrize("content", [b"", b"anything", payload(person_id='"anna-4711"')])
    def test_whatever_is_rejected_of_a_device_of_whom_somebody_was_erased_may_mention_them(
        self, content: bytes
    ) -> None:
        assert may_mention_forgotten(OWN, content, TOPICS, self.forgotten())
        assert may_mention_forgotten(TOPICS.status("jetson_1"), content, TOPICS, self.forgotten())

    def test_so_may_what_mentions_the_device_elsewhere(self) -> None:
        other = payload(device_id='"jetson_2"', person_id='"anna-4711"')

        assert not may_mention_forgotten(ELSEWHERE, other, TOPICS, self.forgotten())
        assert may_mention_forgotten(ELSEWHERE, payload(), TOPICS, self.forgotten())
        assert may_mention_forgotten(ELSEWHERE, payload().decode().encode("utf-16"), TOPICS, self.forgotten())

    def test_what_mentions_another_device_whose_name_begins_so_does_not(self) -> None:
        assert not may_mention_forgotten(
            TOPICS.batch("jetson_10"), payload(device_id='"jetson_10"'), TOPICS, self.forgotten()
        )

    def test_so_may_what_came_on_no_devices_topic(self) -> None:
        assert may_mention_forgotten("emotions/anna 4711/batch", b"", TOPICS, self.forgotten())

    def test_the_time_that_it_takes_grows_with_the_length_only(self) -> None:
        """A search that began anew at each quotation mark would take a minute for so much."""
        for content in (b"jetson_" * 9_000, b'"\\' * 32_000, json.dumps(json.dumps("x" * 60_000)).encode()[:-2]):
            assert not may_mention_forgotten(ELSEWHERE, content, TOPICS, self.forgotten())
