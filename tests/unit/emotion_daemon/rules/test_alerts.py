"""Alerts begin and end as the stored state of devices says."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from emotion_daemon.rules.alerts import Alert, Alerts, Rule, Rules, Seen, parse_rules

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
QUEUE = Rule(name="Queue", measure="people", above=10, seconds=60)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def seen(
    received: float,
    *,
    people: int = 0,
    happy: float = 0.0,
    angry: float = 0.0,
    device_id: str = "jetson_1",
    name: str = "Entrance",
) -> Seen:
    return Seen(device_id, name, at(received), people, (happy, 0.0, angry, 0.0))


def alerts_of(rules: Rules | None = None) -> Alerts:
    return Alerts(rules or Rules(), silent_after=30, started=START)


def events(alerts: list[Alert]) -> list[str]:
    return [alert.event for alert in alerts]


class TestSilence:
    def test_a_device_falls_silent_once_and_returns_once(self) -> None:
        alerts = alerts_of()

        assert alerts.look([seen(0)], now=at(30)) == []
        (silent,) = alerts.look([seen(0)], now=at(31))
        assert alerts.look([seen(0)], now=at(60)) == []
        (returned,) = alerts.look([seen(99)], now=at(100))

        assert (silent.event, silent.device_id, silent.since) == ("device_silent", "jetson_1", START)
        assert silent.text == "Entrance (jetson_1) has sent no batch for 31 s"
        assert (returned.event, returned.text) == ("device_returned", "Entrance (jetson_1) is back, after 99 s")

    def test_the_file_s_seconds_override_the_setting(self) -> None:
        alerts = alerts_of(Rules(silent_seconds=300))

        assert alerts.look([seen(0)], now=at(300)) == []
        assert events(alerts.look([seen(0)], now=at(301))) == ["device_silent"]

    def test_a_device_that_fell_silent_while_the_daemon_was_down_is_told(self) -> None:
        alerts = alerts_of()

        assert alerts.look([seen(-3_600)], now=at(2)) == []
        (silent,) = alerts.look([seen(-3_600)], now=at(31))

        assert silent.text.endswith("has sent no batch for 61 minutes")

    def test_a_device_that_is_gone_for_longer_than_a_day_is_told_only_when_it_returns(self) -> None:
        alerts = alerts_of()

        assert alerts.look([seen(-86_401)], now=at(31)) == []
        assert events(alerts.look([seen(40)], now=at(41))) == ["device_returned"]

    def test_a_clock_that_was_set_back_makes_no_device_silent(self) -> None:
        assert alerts_of().look([seen(7_200)], now=at(60)) == []

    def test_a_device_without_a_name_is_named_by_its_id(self) -> None:
        (silent,) = alerts_of().look([seen(0, name="jetson_1")], now=at(31))

        assert silent.text == "jetson_1 has sent no batch for 31 s"

    def test_a_silence_ends_if_another_daemon_receives_the_batches(self) -> None:
        alerts = alerts_of()
        alerts.look([seen(0)], now=at(31))
        (ended,) = alerts.look([], now=at(32))

        assert (ended.event, ended.device_id) == ("device_returned", "jetson_1")
        assert ended.text == "Entrance (jetson_1): this daemon receives its batches no longer"
        assert alerts.look([], now=at(33)) == []


class TestOutage:
    def test_an_outage_is_one_alert_instead_of_one_for_each_device(self) -> None:
        alerts = alerts_of()
        devices = [seen(0, device_id=f"jetson_{number}") for number in range(3)]

        assert alerts.look(devices, now=at(1), outage="no broker") == []
        (began,) = alerts.look(devices, now=at(31), outage="no broker")
        assert alerts.look(devices, now=at(60), outage="no broker") == []
        (ended,) = alerts.look(devices, now=at(90))

        assert (began.event, began.since, began.text) == ("outage_began", at(1), "The daemon stores nothing: no broker")
        assert (ended.event, ended.text) == ("outage_ended", "The daemon stores batches again, after 89 s")
        assert alerts.look(devices, now=at(120)) == []
        assert events(alerts.look(devices, now=at(121))) == ["device_silent"] * 3

    def test_a_short_outage_is_not_told(self) -> None:
        alerts = alerts_of()
        alerts.look([], now=at(1), outage="no broker")

        assert alerts.look([seen(29)], now=at(30)) == []


class TestThresholds:
    def test_a_rule_begins_after_its_seconds_and_ends_after_as_many(self) -> None:
        alerts = alerts_of(Rules(rule=(QUEUE,)))
        told = {
            second: [alert.text for alert in found]
            for second, people in [(0, 11), (30, 12), (60, 12), (61, 12), (90, 10), (120, 11), (130, 3), (190, 4)]
            if (found := alerts.look([seen(second, people=people)], now=at(second)))
        }

        assert told == {
            60: ["Queue at Entrance (jetson_1): 12 people"],
            190: ["Queue is over at Entrance (jetson_1): 4 people"],
        }

    def test_a_share_is_that_of_the_last_seconds(self) -> None:
        alerts = alerts_of(Rules(rule=(Rule(name="Anger", measure="angry", above=0.4, seconds=1),)))
        alerts.look([seen(0, angry=5, happy=5)], now=at(0))
        (anger,) = alerts.look([seen(1, angry=5, happy=5)], now=at(1))

        assert (anger.rule, anger.value, anger.text) == ("Anger", 0.5, "Anger at Entrance (jetson_1): 50% angry")

    def test_a_share_of_nothing_crosses_no_threshold(self) -> None:
        alerts = alerts_of(Rules(rule=(Rule(name="Joyless", measure="happy", below=0.1, seconds=1),)))

        assert [alerts.look([seen(second)], now=at(second)) for second in range(5)] == [[]] * 5

    def test_a_rule_may_name_its_devices(self) -> None:
        rule = Rule(name="Queue", measure="people", above=10, seconds=1, devices=("jetson_2",))
        alerts = alerts_of(Rules(rule=(rule,)))
        devices = [seen(9, people=20, device_id=each) for each in ("jetson_1", "jetson_2")]
        alerts.look(devices, now=at(10))

        assert [alert.device_id for alert in alerts.look(devices, now=at(11))] == ["jetson_2"]

    def test_a_device_that_falls_silent_ends_its_rules(self) -> None:
        alerts = alerts_of(Rules(rule=(QUEUE,)))
        for second in (0, 60):
            alerts.look([seen(second, people=20)], now=at(second))

        assert events(alerts.look([seen(60, people=20)], now=at(91))) == ["device_silent"]
        (ended,) = alerts.look([seen(60, people=20)], now=at(151))
        assert (ended.event, ended.value) == ("rule_ended", None)
        assert ended.text == "Queue is over at Entrance (jetson_1): it sends no batch"

    def test_an_old_batch_begins_no_rule_although_silence_is_told_later(self) -> None:
        alerts = alerts_of(Rules(silent_seconds=600, rule=(QUEUE,)))

        assert [alerts.look([seen(0, people=20)], now=at(second)) for second in (0, 31, 60, 120)] == [[]] * 4

    def test_a_rule_ends_if_its_device_is_gone(self) -> None:
        alerts = alerts_of(Rules(rule=(QUEUE,)))
        for second in (0, 60):
            alerts.look([seen(second, people=20)], now=at(second))

        assert events(alerts.look([], now=at(61))) == ["rule_ended"]
        assert alerts.look([seen(62, people=20)], now=at(62)) == []


class TestFile:
    def test_rules_are_read(self) -> None:
        text = """
            silent_seconds = 120
            [[rule]]
            name = "Queue"
            measure = "people"
            above = 10
        """

        assert parse_rules(text) == Rules(silent_seconds=120, rule=(QUEUE,))

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("silent_second = 1", "unknown field `silent_second`"),
            ("silent_seconds = 0", "Expected `float` > 0.0"),
            ('[[rule]]\nname = "Q"\nmeasure = "peple"\nabove = 1', "'peple' - at `$.rule[0].measure`"),
            ('[[rule]]\nname = "Q"\nmeasure = "people"', "either above or below - at `$.rule[0]`"),
            ('[[rule]]\nname = "Q"\nmeasure = "people"\nabove = 1\nbelow = 1', "either above or below"),
            ('[[rule]]\nname = "Q"\nmeasure = "people"\nabove = 1\n' * 2, "the same name"),
            ('[[rule]]\nname = "Q"\nmeasure = "sad"\nabove = 40', "from 0 to 1"),
            ('[[rule]]\nname = "Q"\nmeasure = "people"\nabove = nan', "from 0 on"),
            ('[[rule]]\nname = "Q"\nmeasure = "people"\nabove = 1\ndevices = ["a b"]', "the id 'a b'"),
            ("silent_seconds = [", "Invalid value"),
        ],
    )
    def test_an_error_says_where_it_is(self, text: str, sentence: str) -> None:
        with pytest.raises(ValueError, match=re.escape(sentence)):
            parse_rules(text)
