"""Alerts are posted, signed, and posted again until the receiver accepts them."""

import base64
import hashlib
import hmac
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from emotion_admin.__main__ import main
from emotion_daemon.monitoring.alerting import MOST_QUEUED, Queue, read_rules
from emotion_daemon.monitoring.heartbeat import Heartbeat
from emotion_daemon.monitoring.metrics import Metrics
from emotion_daemon.monitoring.webhook import Webhook, WebhookError, message_id
from emotion_daemon.rules.alerts import Alert
from shared.settings import Settings, SettingsError
from tests.fakes import Clock
from tests.receivers import Receiver
from tests.waiting import free_port

SINCE = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW = datetime(2026, 3, 1, 12, 1, tzinfo=UTC)


def alert(device_id: str = "jetson_1", *, at: datetime = NOW) -> Alert:
    return Alert(event="device_silent", text=f"{device_id} is silent", at=at, since=SINCE, device_id=device_id)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.mark.parametrize(
    ("secret", "key"),
    [("a secret of some length", b"a secret of some length"), ("whsec_MDEyMzQ1Njc4OTAxMjM0NQ==", b"0123456789012345")],
)
def test_a_post_is_signed_as_standard_webhooks_says(receiver: Receiver, secret: str, key: bytes) -> None:
    Webhook(receiver.url, secret).post(alert())

    ((headers, body),) = receiver.posts
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 120  # of the attempt, not of the alert
    assert receiver.alerts == [
        {
            "event": "device_silent",
            "text": "jetson_1 is silent",
            "at": "2026-03-01T12:01:00Z",
            "since": "2026-03-01T12:00:00Z",
            "device_id": "jetson_1",
        }
    ]


def test_without_a_secret_it_is_not_signed(receiver: Receiver) -> None:
    Webhook(receiver.url).post(alert())

    assert "webhook-signature" not in receiver.posts[0].headers


def test_a_repeated_alert_has_the_same_id() -> None:
    assert message_id(alert()) == message_id(alert(at=SINCE)) != message_id(alert("jetson_2"))


@pytest.mark.parametrize("status", [307, 404, 500])
def test_any_other_answer_is_an_error(receiver: Receiver, status: int) -> None:
    receiver.status = status

    with pytest.raises(WebhookError, match=str(status)):
        Webhook(receiver.url).post(alert())
    assert len(receiver.posts) == 1


def test_a_receiver_that_is_down_is_an_error_without_the_address() -> None:
    with pytest.raises(WebhookError, match="refused") as caught:
        Webhook(f"http://127.0.0.1:{free_port()}/secret-path").post(alert())

    assert "secret-path" not in str(caught.value)


@pytest.mark.parametrize(("secret", "sentence"), [("short", "shorter"), ("whsec_?", "not base64")])
def test_a_secret_that_cannot_work_is_refused(secret: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        Webhook("http://127.0.0.1/", secret)


class TestQueue:
    def test_alerts_wait_in_their_order_until_the_receiver_accepts_them(self, receiver: Receiver) -> None:
        clock, metrics = Clock(), Metrics(Heartbeat())
        queue = Queue(Webhook(receiver.url), metrics, monotonic=clock)
        receiver.status = 503
        for device_id in ("jetson_1", "jetson_2"):
            queue.add(alert(device_id))
        for _ in range(3):
            queue.post()
        assert len(receiver.posts) == 1  # the others would come within its pause

        clock.seconds += 1.0
        queue.post()
        receiver.status = 204
        clock.seconds += 1.9
        queue.post()
        assert len(receiver.posts) == 2  # each pause is twice as long
        clock.seconds += 0.1
        queue.post()

        assert [each["device_id"] for each in receiver.alerts] == ["jetson_1"] * 3 + ["jetson_2"]
        assert posts(metrics) == {"accepted": 2, "failed": 2, "dropped": 0}

    def test_the_oldest_of_too_many_is_dropped(self, receiver: Receiver) -> None:
        metrics = Metrics(Heartbeat())
        queue = Queue(Webhook(receiver.url), metrics, monotonic=Clock())
        for number in range(MOST_QUEUED + 1):
            queue.add(alert(f"jetson_{number}"))
        queue.post()

        assert len(receiver.posts) == MOST_QUEUED
        assert receiver.alerts[0]["device_id"] == "jetson_1"
        assert posts(metrics)["dropped"] == 1


def posts(metrics: Metrics) -> dict[str, float]:
    results = ("accepted", "failed", "dropped")
    return {
        each: metrics.registry.get_sample_value("emotion_webhook_posts_total", {"result": each}) or 0
        for each in results
    }


class TestSettings:
    def test_a_wrong_file_of_rules_is_refused_with_the_place(self, tmp_path: Path) -> None:
        path = tmp_path / "rules.toml"
        path.write_text("[[rule]]\nname = 'Q'\n")

        with pytest.raises(SettingsError, match=r"EMOTION_ALERT_RULES is .* `\$.rule\[0\]`"):
            read_rules(Settings(webhook_url="http://127.0.0.1/", alert_rules=path))

    def test_rules_without_a_webhook_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="EMOTION_WEBHOOK_URL is not: set both"):
            read_rules(Settings(alert_rules=tmp_path))

    @pytest.mark.parametrize(
        "url", ["ftp://host/", "host/x", "https:///", "https://user:password@host/", "https://h/ä"]
    )
    def test_an_address_that_cannot_work_is_refused_and_not_shown(self, url: str) -> None:
        with pytest.raises(SettingsError) as caught:
            Settings.from_environ({"EMOTION_WEBHOOK_URL": url})

        assert url not in str(caught.value)


class TestCommand:
    def test_a_test_alert_is_posted(
        self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("EMOTION_WEBHOOK_URL", receiver.url)

        assert main(["test-webhook"]) == 0
        assert receiver.alerts[0]["event"] == "test"
        assert capsys.readouterr().out == "the webhook accepted the alert\n"

    def test_a_refused_alert_is_exit_code_1(
        self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("EMOTION_WEBHOOK_URL", receiver.url)
        receiver.status = 410

        assert main(["test-webhook"]) == 1
        assert "did not accept the alert: it answered 410 Gone" in capsys.readouterr().err
