"""The thread that looks for alerts and posts them. It reads the database itself, so that it never delays the ingest."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError

from emotion_daemon.monitoring.heartbeat import OK, Heartbeat
from emotion_daemon.monitoring.metrics import Metrics
from emotion_daemon.monitoring.webhook import Webhook, WebhookError
from emotion_daemon.rules.alerts import Alert, Alerts, Rules, Seen, parse_rules
from shared.batch import EMOTIONS
from shared.database import reader_engine
from shared.schema import device, device_state
from shared.settings import Settings, SettingsError

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
MOST_QUEUED = 1_000
"""Alerts that wait for the receiver. The oldest is dropped for a newer one."""

_LONGEST_PAUSE = 300.0


@contextmanager
def alerting(settings: Settings, heartbeat: Heartbeat, metrics: Metrics) -> Iterator[None]:
    """Look for alerts during the block, if there is a webhook. Raises SettingsError."""
    rules = read_rules(settings)
    if settings.webhook_url is None:
        yield
        return
    queue = Queue(Webhook(settings.webhook_url, settings.webhook_secret), metrics)
    alerts = Alerts(rules, silent_after=settings.silent_after, started=datetime.now(UTC))
    stop = threading.Event()
    thread = threading.Thread(
        target=_watch, args=(settings, heartbeat, alerts, queue, stop), name="alerts", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()


def read_rules(settings: Settings) -> Rules:
    """Read the file of rules. Raises SettingsError."""
    name, path = "EMOTION_ALERT_RULES", settings.alert_rules
    if path is None:
        return Rules()
    if settings.webhook_url is None:
        raise SettingsError(name, "is set, but EMOTION_WEBHOOK_URL is not: set both")
    try:
        return parse_rules(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(name, f"is {str(path)!r}, but the file cannot be used: {error}") from error


class Queue:
    """The alerts that the receiver has not accepted yet, oldest first. `monotonic` is the clock of the pauses."""

    def __init__(self, webhook: Webhook, metrics: Metrics, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._webhook = webhook
        self._metrics = metrics
        self._monotonic = monotonic
        self._waiting: deque[Alert] = deque(maxlen=MOST_QUEUED)
        self._pause = 0.0
        self._not_before = 0.0

    def add(self, alert: Alert) -> None:
        """Let the alert wait behind the others."""
        if len(self._waiting) == MOST_QUEUED:
            self._metrics.posted("dropped")
            log.warning("%d alerts wait for the webhook: the oldest is dropped", MOST_QUEUED)
        self._waiting.append(alert)

    def post(self) -> None:
        """Post what waits, for LOOK_SECONDS or until the receiver refuses one; then pause, each time twice as long."""
        until = self._monotonic() + LOOK_SECONDS
        while self._waiting and self._not_before <= self._monotonic() <= until:
            try:
                self._webhook.post(self._waiting[0])
            except WebhookError as error:
                self._metrics.posted("failed")
                if not self._pause:
                    log.warning(
                        "the webhook did not accept an alert: %s; the daemon posts it again until it does", error
                    )
                self._pause = min(max(1.0, self._pause * 2), _LONGEST_PAUSE)
                self._not_before = self._monotonic() + self._pause
                return
            if self._pause:
                log.warning("the webhook accepts alerts again")
                self._pause = 0.0
            self._metrics.posted("accepted")
            self._waiting.popleft()


def _watch(settings: Settings, heartbeat: Heartbeat, alerts: Alerts, queue: Queue, stop: threading.Event) -> None:
    engine = reader_engine(settings.database_url, echo=settings.sql_echo)
    names = settings.device_names

    def look() -> None:
        outage = heartbeat.ready_line
        seen: list[Seen] = []
        if outage == OK:
            try:
                with engine.connect() as connection:
                    seen = stored_devices(connection, settings.mqtt_client_id, names.get)
            except DBAPIError as error:
                outage = f"the database cannot be read: {error.orig}"
        for alert in alerts.look(seen, now=datetime.now(UTC), outage=None if outage == OK else outage):
            log.info("alert: %s", alert.text)
            queue.add(alert)
        queue.post()

    while not stop.wait(LOOK_SECONDS):
        try:
            look()
        except Exception:
            log.exception("the look for alerts failed; the daemon looks again in %g s", LOOK_SECONDS)
    engine.dispose()


_NOW = [device_state.c[f"now_{emotion}"] for emotion in EMOTIONS]
_DEVICES = (
    select(device_state.c.device_id, device.c.device_name, device_state.c.received_at, device_state.c.people, *_NOW)
    .join_from(device_state, device, device.c.device_id == device_state.c.device_id, isouter=True)
    .where(device_state.c.received_at.is_not(None))
)


def stored_devices(connection: Connection, daemon_id: str, name_of: Callable[[str], str | None]) -> list[Seen]:
    """Return the devices whose newest batch this daemon received: others watch theirs."""
    query = _DEVICES.where((device_state.c.received_by == daemon_id) | device_state.c.received_by.is_(None))
    return [
        Seen(
            device_id,
            name or name_of(device_id) or device_id,
            received_at,
            people or 0,
            [seconds or 0.0 for seconds in now],
        )
        for device_id, name, received_at, people, *now in connection.execute(query)
    ]
