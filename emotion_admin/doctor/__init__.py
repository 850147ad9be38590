"""`python -m emotion_admin doctor`: what is wrong, and what to do about it. It only looks.

finding        what a check found, and how it is shown. Pure
running        does a daemon run here, and what does it say of itself?
broker         name, connection, who gets in; the daemon's own login only where no daemon runs
               mqtt_probe: one connection, imports paho; connack: what its answer means, listening: where. Pure
asked          what a running daemon says of its connection, in the place of that login
tls            what the handshake says, and when certificates end
sqlite_files   rights, disk, file system, -wal; rights and mounts: the pure parts of it
database       what is in it: schema, journal, a server's version and rights
clock          synchronised, plausible, and as stored times and the server have it
devices        silent ones, those whose clock is off, and those whose messages are rejected
api            does it answer?
"""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from emotion_admin.doctor import api, broker, clock, daemon_status, database, tls
from emotion_admin.doctor.finding import Finding, ok, warning
from emotion_admin.doctor.permissions import User
from shared.settings import Settings


def examine(
    settings: Settings,
    *,
    api_user: User | None = None,
    api_url: str | None = None,
    devices_certificate: str | None = None,
    unread: Sequence[str] = (),
    thorough: bool = False,
    log_in: bool = False,
) -> Iterator[Finding]:
    """Every check, in the order in which one thing rests on the other; each finding as soon as it is there.

    `api_user` is whom the API runs as, None for the daemon's user; `api_url` is where it can be asked, and
    `devices_certificate` when the certificate ends that devices see (see `tls.judge_devices_port`): None, and it is not
    looked at. `unread` are the names in docker compose's .env that it hands to nobody. `thorough` reads an SQLite file
    from end to end; `log_in` says that no daemon runs, where that cannot be told.
    """
    yield from _settings(settings, unread)
    yield clock.judge(datetime.now(UTC), clock.synchronised())
    daemon = daemon_status.ask(settings)
    yield from daemon_status.judge(daemon, settings)
    yield from broker.examine(settings, daemon, log_in=log_in)
    if devices_certificate is not None:
        yield tls.judge_devices_port(devices_certificate, now=time.time())
    yield from database.examine(settings, daemon, api_user=api_user, thorough=thorough)
    if api_url is not None:
        yield api.examine(api_url)


def _settings(settings: Settings, unread: Sequence[str]) -> Iterator[Finding]:
    for sentence in settings.unknown:
        yield warning("settings", sentence, "Correct its name, or take it away.")
    for name in unread:
        yield warning(
            "settings",
            f"{name} in .env does nothing: docker-compose.yml has no such name",
            "Correct its name, or take it away: .env.example has all that there are.",
        )
    if not settings.unknown and not unread:
        yield ok("settings", "all of them can work")
