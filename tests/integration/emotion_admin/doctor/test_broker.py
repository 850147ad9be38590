"""Faults between daemon and broker, really done to a broker."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from emotion_admin.doctor import broker as broker_checks
from emotion_admin.doctor.broker import (
    ADDRESS,
    ANONYMOUS,
    judge_anonymous,
)
from emotion_admin.doctor.connack import LIMITS, LOGIN, SESSION, ProbeResult, judge, judge_running
from emotion_admin.doctor.finding import Finding
from emotion_admin.doctor.listen_addresses import is_on_loopback_alone
from emotion_admin.doctor.tls import DEVICES_TLS, TLS, examine_devices_port, judge_certificate
from emotion_admin.roles import DAEMON
from emotion_daemon.mqtt.subscriber import broker_limits
from tests.brokers import HANG_UP, Broker, ScriptedBroker, logins, shipped_rules
from tests.certificates import Authority, make_certificate
from tests.faults.intruders import Intruder
from tests.integration.emotion_admin.doctor.examining import answering, examined
from tests.processes import Daemon
from tests.waiting import free_port, wait_until

StartBroker = Callable[[str], Broker]
DAY = 86_400
NOW = 1_800_000_000.0


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[tuple[Broker, dict[str, str]]]:
    """A broker as shipped, and the daemon's login."""
    password = logins(tmp_path).renew(DAEMON)
    broker = Broker(tmp_path, shipped_rules(tmp_path))
    broker.start()
    yield broker, {"EMOTION_MQTT_USERNAME": DAEMON, "EMOTION_MQTT_PASSWORD": password}
    broker.kill()


@contextmanager
def rival(broker: Broker, client_id: str) -> Iterator[None]:
    """A program that comes back a second after it was pushed out."""
    connected = threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id, protocol=mqtt.MQTTv5)
    client.on_connect = lambda *_: connected.set()
    client.reconnect_delay_set(1, 1)
    client.connect(broker.host, broker.port)
    client.loop_start()
    wait_until(connected.is_set, what="the rival is connected")
    try:
        yield
    finally:
        client.disconnect()
        client.loop_stop()


class TestAddress:
    def test_a_name_that_nobody_knows(self, sqlite_url: str) -> None:
        found = examined(None, sqlite_url, {"EMOTION_MQTT_HOST": "broker.invalid"})[ADDRESS]

        assert found.level == "problem"
        assert "no address for the name broker.invalid" in found.found

    def test_a_port_where_nothing_listens(self, sqlite_url: str) -> None:
        assert examined(None, sqlite_url)[ADDRESS].found == "nothing listens at 127.0.0.1:1"

    def test_a_broker_that_takes_no_further_connection(
        self, start_broker: StartBroker, sqlite_url: str, tmp_path: Path
    ) -> None:
        port = free_port()  # no test may have connected to it before: Mosquitto 2.0.11 takes one more for that
        broker = start_broker(f"listener {port} 127.0.0.1\nmax_connections 1")
        settings = {"EMOTION_MQTT_PORT": str(port), "EMOTION_DAEMON_HTTP_ADDRESS": f"127.0.0.1:{free_port()}"}
        with Daemon(broker, sqlite_url, tmp_path / "log", **settings) as daemon:
            daemon.wait_for_log("subscribed to emotions/+/batch")
            found = examined(broker, sqlite_url, settings)[ADDRESS]

        assert found.level == "warning"
        assert "has the running daemon connected" in found.found
        assert "max_connections" in found.advice


class TestLogin:
    @pytest.mark.program
    def test_the_right_password(self, closed: tuple[Broker, dict[str, str]], sqlite_url: str) -> None:
        found = examined(closed[0], sqlite_url, closed[1])

        assert [found.level(subject) for subject in (ANONYMOUS, LOGIN, SESSION, LIMITS)] == ["ok"] * 4
        assert "packets up to 327,680 bytes" in found[LIMITS].found

    @pytest.mark.program
    def test_a_wrong_password(self, closed: tuple[Broker, dict[str, str]], sqlite_url: str) -> None:
        found = examined(closed[0], sqlite_url, closed[1] | {"EMOTION_MQTT_PASSWORD": "wrong"})[LOGIN]

        assert found.level == "problem"
        assert found.found == "as emotion-daemon: the broker refused it: Not authorized"
        assert "EMOTION_MQTT_PASSWORD" in found.advice

    @pytest.mark.program
    def test_no_login_where_one_is_wanted(self, closed: tuple[Broker, dict[str, str]], sqlite_url: str) -> None:
        found = examined(closed[0], sqlite_url)[LOGIN]

        assert found.level == "problem"
        assert "The broker wants a login" in found.advice

    def test_a_broker_without_mqtt_5(self, sqlite_url: str) -> None:
        with ScriptedBroker(b"\x20\x02\x00\x01") as broker:
            found = examined(broker, sqlite_url)[LOGIN]  # type: ignore[arg-type]

        assert found.level == "problem"
        assert "needs MQTT 5" in found.advice

    def test_a_port_that_speaks_something_else(self, sqlite_url: str) -> None:
        with ScriptedBroker(HANG_UP) as broker:
            found = examined(broker, sqlite_url)[LOGIN]  # type: ignore[arg-type]

        assert found.level == "problem"
        assert "EMOTION_MQTT_TLS_CA" in found.advice

    @pytest.mark.parametrize(
        ("code", "advice"),
        [(0x85, "client id"), (0x86, "password"), (0x89, "a minute"), (0x80, "log")],
    )
    def test_each_refusal_has_its_advice(self, code: int, advice: str) -> None:
        (found,) = judge(ProbeResult(reason_code=code), client_id="x", username="x")

        assert found.level == "problem"
        assert advice in found.advice

    def test_a_daemon_that_runs_is_asked_instead(self, broker: Broker, sqlite_url: str) -> None:
        metrics = "emotion_broker_connected 1\nemotion_broker_reconnects_total 7\n"
        with answering(200, "ok", metrics) as address:
            found = examined(broker, sqlite_url, {"EMOTION_DAEMON_HTTP_ADDRESS": address})[LOGIN]

        assert found.level == "ok"
        assert "the running daemon says: subscribed; reconnects since its start: 7" in found.found
        assert "as emotion-daemon" not in broker.log()

    @pytest.mark.program
    def test_a_daemon_that_is_refused_has_the_advice_that_doctors_own_login_would_have(
        self, closed: tuple[Broker, dict[str, str]], sqlite_url: str, tmp_path: Path
    ) -> None:
        broker, login = closed
        settings = login | {
            "EMOTION_MQTT_PASSWORD": "wrong",
            "EMOTION_DAEMON_HTTP_ADDRESS": f"127.0.0.1:{free_port()}",
        }
        alone = examined(broker, sqlite_url, settings)[LOGIN]
        with Daemon(broker, sqlite_url, tmp_path / "log", **settings) as daemon:
            daemon.wait_for_log("the broker refused the connection: Not authorized")
            found = examined(broker, sqlite_url, settings)[LOGIN]

        assert found.level == "problem"
        assert found.found == "the running daemon says: the broker refuses it: Not authorized"
        assert "EMOTION_MQTT_PASSWORD" in found.advice
        assert found.advice == alone.advice

    @pytest.mark.parametrize(
        ("limit", "reason"), [("max_qos 0", "QoS not supported"), ("retain_available false", "Retain not supported")]
    )
    def test_a_daemon_that_is_refused_for_a_limit_of_the_broker_is_shown_that(
        self, limit: str, reason: str, start_broker: StartBroker, sqlite_url: str, tmp_path: Path
    ) -> None:
        broker = start_broker(limit)
        settings = {"EMOTION_DAEMON_HTTP_ADDRESS": f"127.0.0.1:{free_port()}"}
        with Daemon(broker, sqlite_url, tmp_path / "log", **settings) as daemon:
            daemon.wait_for_log(f"the broker refused the connection: {reason}")
            found = examined(broker, sqlite_url, settings)

        assert limit.partition(" ")[0] in found[LOGIN].advice
        assert found.level(LIMITS) == "problem"
        assert limit.partition(" ")[0] in found[LIMITS].advice

    def test_a_daemon_that_is_refused_has_the_limits_of_an_earlier_connection(
        self, start_broker: StartBroker, sqlite_url: str
    ) -> None:
        metrics = "emotion_broker_connected 0\nemotion_broker_maximum_qos 2\n"
        with answering(503, "the broker refused the connection: QoS not supported", metrics) as address:
            found = examined(start_broker("max_qos 0"), sqlite_url, {"EMOTION_DAEMON_HTTP_ADDRESS": address})

        assert found.level(LIMITS) == "problem"

    def test_a_refusal_that_nobody_knows_is_for_the_brokers_log(self, broker: Broker, sqlite_url: str) -> None:
        word = "the broker refused the connection: No fun"
        with answering(503, word, "emotion_broker_connected 0\n") as address:
            found = examined(broker, sqlite_url, {"EMOTION_DAEMON_HTTP_ADDRESS": address})[LOGIN]

        assert found.advice == "See the broker's log."

    def test_a_daemon_that_runs_and_is_not_connected(self, broker: Broker, sqlite_url: str) -> None:
        with answering(503, "lost the broker", "emotion_broker_connected 0\n") as address:
            found = examined(broker, sqlite_url, {"EMOTION_DAEMON_HTTP_ADDRESS": address})

        assert found.level(LOGIN) == "problem"

    def test_somebody_who_is_online_as_the_daemon_is_not_pushed_out(self, broker: Broker, sqlite_url: str) -> None:
        with Intruder(broker, client_id="emotion-daemon") as elsewhere:
            elsewhere.publish("emotions/emotion-daemon/status", b"online", retain=True)
            found = examined(broker, sqlite_url)[LOGIN]

            assert found.level == "warning"
            assert "no daemon runs here, but a client is online at this broker as 'emotion-daemon'" in found.found
            assert not elsewhere.ended
            assert examined(broker, sqlite_url, log_in=True)[LOGIN].level == "ok"
            wait_until(lambda: elsewhere.ended, what="told to log in, doctor does")

    def test_one_that_is_online_and_may_be_the_one_here_is_no_second_one(self, broker: Broker) -> None:
        with Intruder(broker, client_id="emotion-daemon") as here_perhaps:
            here_perhaps.publish("emotions/emotion-daemon/status", b"online", retain=True)
            found = examined(broker, "postgresql+psycopg://reader@127.0.0.1:1/none")[LOGIN]

            assert found.level == "ok"
            assert "perhaps the daemon here" in found.found
            assert "no daemon runs here" not in found.found
            assert not here_perhaps.ended


class TestSession:
    def test_another_client_with_the_daemons_id(
        self, broker: Broker, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(broker_checks, "CLASH_SECONDS", 4.0)
        with rival(broker, "emotion-daemon"):
            found = examined(broker, sqlite_url)[SESSION]

        assert found.level == "problem"
        assert "another client uses the daemon's client id 'emotion-daemon'" in found.found
        assert "a second doctor" in found.advice

    def test_a_broker_that_ends_sessions(self) -> None:
        found = {one.subject: one for one in judged({"session_expiry_seconds": 3600})}

        assert found[SESSION].level == "warning"
        assert "3600 s" in found[SESSION].found

    def test_another_end_of_the_connection_is_named(self) -> None:
        found = {one.subject: one for one in judged(ended=True, end_code=0x8B)}

        assert found[SESSION].found == "the broker closed the connection with code 0x8B"


def judged(limits: dict[str, int] | None = None, **result: Any) -> list[Finding]:
    named = {**broker_limits(None), **(limits or {})}
    return list(judge(ProbeResult(reason_code=0, limits=named, **result), client_id="x", username=None))


class TestLimits:
    def test_a_small_maximum_packet_size(self, start_broker: StartBroker, sqlite_url: str) -> None:
        found = examined(start_broker("max_packet_size 20000"), sqlite_url)[LIMITS]

        assert found.level == "warning"
        assert "no packet above 20,000 bytes" in found.found

    def test_no_qos_1(self, start_broker: StartBroker, sqlite_url: str) -> None:
        assert examined(start_broker("max_qos 0"), sqlite_url).level(LIMITS) == "problem"

    def test_no_retained_messages(self, start_broker: StartBroker, sqlite_url: str) -> None:
        assert examined(start_broker("retain_available false"), sqlite_url).level(LIMITS) == "problem"

    def test_beside_a_daemon_they_are_those_that_its_broker_told_it(
        self, start_broker: StartBroker, sqlite_url: str, tmp_path: Path
    ) -> None:
        broker = start_broker("max_packet_size 20000")
        address = {"EMOTION_DAEMON_HTTP_ADDRESS": f"127.0.0.1:{free_port()}"}
        with Daemon(broker, sqlite_url, tmp_path / "log", **address) as daemon:
            daemon.wait_for_log("subscribed to emotions/+/batch")
            found = examined(broker, sqlite_url, address)[LIMITS]

        assert found.level == "warning"
        assert "no packet above 20,000 bytes" in found.found

    def test_of_a_daemon_that_does_not_tell_them_they_are_seen_where_anybody_is_let_in(
        self, closed: tuple[Broker, dict[str, str]], start_broker: StartBroker, sqlite_url: str
    ) -> None:
        small = start_broker("max_packet_size 20000")
        with answering(200, "ok", "emotion_broker_connected 1\n") as address:
            seen, unseen = (
                examined(broker, sqlite_url, {"EMOTION_DAEMON_HTTP_ADDRESS": address})[LIMITS]
                for broker in (small, closed[0])
            )

        assert seen.level == "warning"
        assert (unseen.level, unseen.found) == ("ok", "not checked: the running daemon does not tell them")

    def test_the_session_of_a_running_daemon_has_to_last(self) -> None:
        levels = {
            one.subject: one.level for one in judge_running({**broker_limits(None), "session_expiry_seconds": 3600})
        }

        assert levels == {SESSION: "warning", LIMITS: "ok"}


class TestAnonymous:
    def test_an_open_one_that_only_this_machine_reaches_is_ok(self, broker: Broker, sqlite_url: str) -> None:
        found = examined(broker, sqlite_url)[ANONYMOUS]

        assert found.level == "ok"
        assert "only this machine can reach it" in found.found

    def test_one_that_may_listen_elsewhere_is_a_warning(
        self, broker: Broker, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(broker_checks, "_LISTENERS", ())

        assert examined(broker, sqlite_url).level(ANONYMOUS) == "warning"

    @pytest.mark.parametrize(
        ("lines", "alone"),
        [
            (["0100007F:075B 00000000:0000 0A"], True),
            (["0100007F:075B 00000000:0000 0A", "00000000000000000000000001000000:075B 0:0 0A"], True),
            (["0000000000000000FFFF00000100007F:075B 0:0 0A"], True),
            (["00000000:075B 00000000:0000 0A"], False),
            (["0100007F:075B 00000000:0000 0A", "00000000000000000000000000000000:075B 0:0 0A"], False),
            (["0100A8C0:075B 00000000:0000 0A"], False),
            (["0100007F:075B 0100007F:1F90 01"], False),
            (["0100007F:075C 00000000:0000 0A"], False),
            ([], False),
        ],
    )
    def test_the_kernels_tables_tell_where_a_port_listens(self, lines: list[str], alone: bool) -> None:
        head = "  sl  local_address rem_address   st tx_queue"
        texts = (f"{head}\n   {number}: {line} 00000000:00000000" for number, line in enumerate(lines))

        assert is_on_loopback_alone(1883, *texts) is alone

    def test_an_open_one_on_another_machine_is_a_warning(self) -> None:
        found = judge_anonymous(ProbeResult(reason_code=0), is_local=False)

        assert found.level == "warning"
        assert "allow_anonymous false" in found.advice

    def test_of_a_broker_that_does_not_answer_nothing_is_said(self, sqlite_url: str) -> None:
        with ScriptedBroker(HANG_UP) as broker:
            found = examined(broker, sqlite_url)  # type: ignore[arg-type]

        assert ANONYMOUS not in found
        assert found.level(ADDRESS) == "warning"
        assert "no MQTT answer" in found[ADDRESS].found

    def test_a_closed_one_is_ok_anywhere(self) -> None:
        for code in (0x86, 0x87):
            found = judge_anonymous(ProbeResult(reason_code=code), is_local=False)

            assert (found.level, found.found) == ("ok", "the broker accepts only clients with a login")

    @pytest.mark.parametrize("code", [0x84, 0x88, 0x89, 0x95, 0x97])
    def test_one_that_refuses_for_another_reason_may_be_open(self, code: int) -> None:
        found = judge_anonymous(ProbeResult(reason_code=code, reason="Server busy"), is_local=False)

        assert (found.level, found.found) == (
            "ok",
            "cannot tell whether the broker accepts clients without a login: the broker refused it: Server busy",
        )


class TestTls:
    @pytest.fixture
    def secured(self, start_broker: StartBroker, tmp_path: Path) -> Callable[[str], dict[str, str]]:
        def start(host: str) -> dict[str, str]:
            made = make_certificate(tmp_path, host)
            port = free_port()
            start_broker(f"listener {port} 127.0.0.1\ncertfile {made.certificate}\nkeyfile {made.key}\n")
            return {
                "EMOTION_MQTT_HOST": "localhost",
                "EMOTION_MQTT_PORT": str(port),
                "EMOTION_MQTT_TLS_CA": str(made.ca),
            }

        return start

    def test_a_certificate_that_ends_soon(self, secured: Callable[[str], dict[str, str]], sqlite_url: str) -> None:
        found = examined(None, sqlite_url, secured("localhost"))

        assert found.level(TLS) == "warning"
        assert "ends in 1 days" in found[TLS].found
        assert found.level(LOGIN) == "ok"

    def test_a_certificate_for_another_name(self, secured: Callable[[str], dict[str, str]], sqlite_url: str) -> None:
        found = examined(None, sqlite_url, secured("other.example.com"))

        assert found.level(TLS) == "problem"
        assert "ostname mismatch" in found[TLS].found
        assert "EMOTION_MQTT_HOST" in found[TLS].advice
        assert LOGIN not in found

    def test_a_certificate_of_somebody_else(
        self, secured: Callable[[str], dict[str, str]], sqlite_url: str, tmp_path: Path
    ) -> None:
        other = tmp_path / "other"
        other.mkdir()
        settings = secured("localhost") | {"EMOTION_MQTT_TLS_CA": str(make_certificate(other).ca)}
        found = examined(None, sqlite_url, settings)[TLS]

        assert found.level == "problem"
        assert "the CA that signed it" in found.advice

    def test_a_port_without_tls(self, broker: Broker, sqlite_url: str, tmp_path: Path) -> None:
        found = examined(broker, sqlite_url, {"EMOTION_MQTT_TLS_CA": str(make_certificate(tmp_path).ca)})[TLS]

        assert found.level == "problem"
        assert "8883" in found.advice

    def test_a_certificate_that_lasts_is_ok(self) -> None:
        ends = "Jan  1 00:00:00 2027 GMT"
        now = ssl.cert_time_to_seconds(ends) - 31 * DAY

        assert judge_certificate(TLS, ends, now=now).level == "ok"
        assert judge_certificate(TLS, ends, now=now + 2 * DAY).level == "warning"

    @pytest.mark.parametrize(
        ("begins", "ends", "level", "said"),
        [
            (0, 32, "ok", "in 32 days; its names are localhost"),
            (0, 2, "warning", "ends in 2 days"),
            (-4, -3, "problem", "has expired"),
            (1, 2, "problem", "not valid before"),
        ],
    )
    def test_the_dates_of_the_devices_port_are_judged(
        self, begins: float, ends: float, level: str, said: str, tmp_path: Path
    ) -> None:
        authority = Authority(tmp_path / "ca", ends=99)
        made = authority.sign(begins=begins, ends=ends)
        sent = made.certificate.read_text() + authority.certificate.read_text()
        found = examine_devices_port(sent.replace("\n", " "))

        assert found.level == level
        assert said in found.found

    def test_a_devices_port_that_does_not_send_an_unknown_issuer_is_a_warning(self, tmp_path: Path) -> None:
        """It may be an intermediate CA."""
        found = examine_devices_port(Authority(tmp_path / "ca").sign().certificate.read_text())

        assert found.level == "warning"
        assert "does not send the certificate of its issuer, CN=Test CA ca, and this machine" in found.found
        assert found.advice.startswith("I")
        assert "scripts/tls on server.crt server.key ca.crt" in found.advice

    def test_a_devices_port_without_a_name_or_with_a_wrong_chain_is_a_problem(self, tmp_path: Path) -> None:
        authority, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other")
        nameless = authority.sign("keyUsage=digitalSignature").certificate.read_text()
        chain = authority.sign().certificate.read_text() + other.certificate.read_text()

        for pem, said in ((nameless, "subjectAltName"), (chain, "unable to get local issuer"), ("?", "no certificate")):
            found = examine_devices_port(pem)
            assert (found.level, said in found.found) == ("problem", True)

    def test_a_devices_port_that_sends_none_is_a_problem(self, sqlite_url: str) -> None:
        assert examined(None, sqlite_url, devices_certificate="").level(DEVICES_TLS) == "problem"
