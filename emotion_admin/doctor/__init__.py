"""`python -m emotion_admin doctor`: find faults and give advice. It changes nothing.

finding            what a check found, and how it is printed. Pure
services           what Docker or systemd says about each service. Pure
daemon_status      does a daemon run here, and what does it answer?
broker             address, anonymous access, login
mqtt_probe         one connection to the broker; imports paho
connack            what the broker's answer means. Pure
rabbitmq           a RabbitMQ cluster, by its management API
daemon_connection  what a running daemon says about its connection, instead of a login
listen_addresses   the addresses at which a port listens. Pure
tls                the TLS handshake, and when certificates end
sqlite_files       permissions, disk, file system and -wal of an SQLite file
permissions        the rights of users on files. Pure
mounts             the file system of a file. Pure
database_servers   does exactly one of several servers accept writes?
server_errors      why PostgreSQL refuses a connection. Pure
database           schema, journal and content; a server's version and privileges
clock              this machine's clock, and whether something like NTP sets it
devices            silent devices, wrong clocks, invalid messages
api                does the API answer?
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from emotion_admin.doctor import api, broker, clock, daemon_status, database, rabbitmq, tls
from emotion_admin.doctor.finding import Finding, ok, warning
from emotion_admin.doctor.permissions import User
from emotion_admin.doctor.services import Service
from emotion_admin.doctor.services import judge as judge_services
from shared.settings import Settings


def examine(
    settings: Settings,
    *,
    api_user: User | None = None,
    api_urls: Sequence[str] = (),
    devices_certificate: str | None = None,
    services: Sequence[Service] = (),
    logins: str | None = None,
    unread: Sequence[str] = (),
    set_aside: Sequence[str] = (),
    thorough: bool = False,
    log_in: bool = False,
) -> Iterator[Finding]:
    """Run every check, and yield each finding at once. Checks come after those that they depend on.

    `api_user` is the API's user, None for the daemon's. `api_urls` are the API's addresses (see `api.examine`).
    `devices_certificate` are the certificates on the devices' port (see `tls.examine_devices_port`); None skips the
    check. `services` are those of docker compose or systemd, `unread` are names in .env that docker compose gives to no
    service, and `set_aside` damaged files of the broker, or "?". `logins` are the devices that have a login, separated
    by white space, or "?"; None skips the comparison. `thorough` reads the whole SQLite file. `log_in` says that no
    daemon runs, if doctor cannot tell.
    """
    yield from _settings(settings, unread)
    yield clock.judge(datetime.now(UTC), clock.synchronised())
    if services:
        yield from judge_services(services)
    daemon = daemon_status.query(settings)
    yield from daemon_status.judge(daemon, settings)
    yield from broker.examine(settings, daemon, log_in=log_in)
    if settings.rabbitmq_url is not None:
        yield from rabbitmq.examine(settings, settings.rabbitmq_url)
    yield from map(broker.judge_set_aside, set_aside)
    if devices_certificate is not None:
        yield tls.examine_devices_port(devices_certificate)
    yield from database.examine(settings, daemon, api_user=api_user, thorough=thorough, logins=logins)
    yield from map(api.examine, api_urls)


def _settings(settings: Settings, unread: Sequence[str]) -> Iterator[Finding]:
    for sentence in settings.unknown:
        yield warning("settings", sentence, "Correct the name, or remove the setting.")
    for name in unread:
        yield warning(
            "settings",
            f"{name} in .env does nothing: docker-compose.yml does not use this name",
            "Correct the name, or remove the line. .env.example lists all names.",
        )
    if not settings.unknown and not unread:
        yield ok("settings", "all are valid")
