"""Run each command and print its result. The modules of the same names do the work.

A command returns an exit code, or None for 0. It raises OperatorError, SettingsError and OutputError.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from click import progressbar
from sqlalchemy import Engine, make_url
from sqlalchemy.exc import DBAPIError

from emotion_admin import backup, certificates, dead_letters, devices, doctor, documents, person
from emotion_admin import copy_database as copying
from emotion_admin.device_logins import DeviceLogins, MosquittoLogins
from emotion_admin.doctor import finding
from emotion_admin.errors import OperatorError
from emotion_admin.rabbitmq import ManagementApi, RabbitMqLogins
from emotion_admin.roles import ADMIN
from emotion_admin.secrets import Secrets
from emotion_admin.snippet import Address, snippet
from emotion_admin.tokens import Tokens
from emotion_daemon.monitoring.alerting import read_rules
from emotion_daemon.monitoring.log_handler import configure_logging
from emotion_daemon.monitoring.webhook import Webhook, WebhookError
from emotion_daemon.rules.alerts import Alert
from emotion_daemon.storage.dialects import dialect_of
from emotion_daemon.storage.errors import outage_kind, reason
from emotion_daemon.storage.purge import NotPurgedError
from shared.batch import Topics, is_topic_prefix
from shared.database import check_location, reader_engine, sqlite_path, writer_engine
from shared.printing import echo, echo_bytes
from shared.settings import PREFIX, Settings, SettingsError, check_database_url


def make_secrets(options: argparse.Namespace) -> None:
    secrets = _secrets(options)
    made = secrets.make_missing()
    if os.environ.get(f"{PREFIX}RABBITMQ_URL"):
        made += secrets.make_rabbitmq()
    for path in made:
        echo(f"made {path}")
    if options.open_copy is not None:
        secrets.logins.write_open_copy(options.open_copy)


def add_device(options: argparse.Namespace) -> None:
    logins = _device_logins(options)
    logins.check(options.device_id, new=not options.renew)
    if options.name is not None:
        with _database(_settings(), writing=True) as engine:
            devices.set_name(engine, options.device_id, options.name)
    added = logins.add(options.device_id, new=not options.renew)
    echo(snippet(options.device_id, added.password, Address(options.host, options.port, options.tls)))
    _warn(added.warnings)


def list_devices(options: argparse.Namespace) -> None:
    settings = _settings()
    with _database(settings) as engine:
        rows = devices.listed(engine, _device_logins(options).devices())
    if not rows:
        echo("no device has a login, a name or a batch yet")
    for row in rows:
        last = f"{row.last_batch:%Y-%m-%dT%H:%M:%SZ}" if row.last_batch else "no batch yet"
        name = row.name or settings.device_names.get(row.device_id, "")
        echo(f"{row.device_id:<24} {'login' if row.has_login else 'no login':<9} {last:<21} {name}".rstrip())


def remove_device(options: argparse.Namespace) -> None:
    removed = _device_logins(options).remove(options.device_id)
    for sentence in removed.sentences:
        echo(sentence)
    _warn(removed.warnings)


def rename_device(options: argparse.Namespace) -> None:
    with _database(_settings(), writing=True) as engine:
        devices.set_name(engine, options.device_id, options.name)
    echo(f"the dashboard now shows {options.device_id} as {options.name}")


def add_token(options: argparse.Namespace) -> None:
    echo(_tokens_in_use(options).add(options.name, devices=options.devices, views=options.views))


def list_tokens(options: argparse.Namespace) -> None:
    for name, limits in Tokens(_secrets(options).tokens).limits().items():
        echo(f"{name} ({limits})" if limits else name)
    _warn_if_public(options)


def remove_token(options: argparse.Namespace) -> None:
    _tokens_in_use(options).remove(options.name, last=options.last)
    _warn_if_public(options)


def _tokens_in_use(options: argparse.Namespace) -> Tokens:
    if os.environ.get("EMOTION_API_TOKEN", "").strip():
        raise OperatorError("EMOTION_API_TOKEN is set, so the API ignores all other tokens: remove that setting first")
    return Tokens(_secrets(options).tokens)


def _warn_if_public(options: argparse.Namespace) -> None:
    if not Tokens(_secrets(options).tokens).names():
        print("there is no token: every client that reaches the API can read it", file=sys.stderr)


def install_certificate(options: argparse.Namespace) -> None:
    checked = certificates.install(_secrets(options), sys.stdin.buffer.read().decode(errors="replace"))
    echo(f"the certificate is valid until {checked.not_after}; devices set HOST to {' or '.join(checked.names)}")
    if checked.missing_issuer:
        print(
            f"warning: the file lacks the certificate of its issuer, {checked.missing_issuer}. If that is the CA whose "
            "ca.crt the devices have, all is well. If it is an intermediate CA, devices refuse the certificate: "
            "install the full chain. With ca.crt as third argument, scripts/tls on checks it",
            file=sys.stderr,
        )


def remove_certificate(options: argparse.Namespace) -> None:
    certificates.remove(_secrets(options))


def save_backup(options: argparse.Namespace) -> None:
    database = sqlite_path(_settings().database_url)
    backup.save(sys.stdout.buffer, _secrets(options), database)
    if database is None:
        print("this backup does not contain the PostgreSQL database: back it up with pg_dump", file=sys.stderr)


def check_backup(options: argparse.Namespace) -> None:
    for name in backup.check(sys.stdin.buffer, sqlite_path(_settings().database_url)).names():
        echo(name)


def restore_backup(options: argparse.Namespace) -> None:
    database = sqlite_path(_settings().database_url)
    secrets = _secrets(options)
    restored = backup.restore(sys.stdin.buffer, secrets, database)
    for name in restored.names():
        echo(f"restored {name}")
    if restored.certificate_fault:
        print(
            f"certificate and key are left as they are, because the backup's do not work: {restored.certificate_fault}",
            file=sys.stderr,
        )
    for path in secrets.make_missing():  # a backup of an earlier version has its logins in another file
        echo(f"made {path}")
    _warn_if_public(options)


def copy_database(options: argparse.Namespace) -> None:
    """Copy table by table, with a bar for each on standard error."""
    settings = _settings()
    check_database_url(options.to, name="--to")
    path = sqlite_path(options.to)
    if path is not None:
        check_location(path, writing=True, name="--to")
    with (
        _database(settings) as source,
        copying.prepared(source, settings.database_url, options.to, echo=settings.sql_echo) as copy,
    ):
        for table in copy.tables():
            with progressbar(length=table.rows, label=f"{table.name:<16}", file=sys.stderr) as bar:
                bar.update(table.copied)
                for rows in table.chunks:
                    bar.update(rows)
        rows = copy.finish()
    echo(f"copied {rows:,} rows; counts and sums are the same in both databases")
    echo("now set EMOTION_DATABASE_URL of daemon and API to the new database, and start them")


def list_dead_letters(options: argparse.Namespace) -> None:
    settings = _settings()
    with _database(settings) as engine:
        rows = dead_letters.newest(engine, limit=options.limit)
    for row in rows:
        echo(f"{row.id}  {row.received_at:%Y-%m-%dT%H:%M:%SZ}  {row.topic}  {row.payload_size} bytes")
        echo(f"    {row.reason}")
        echo(f"    {row.payload[: options.bytes]!r}" if row.has_payload else "    payload not stored")
    if not rows:
        echo(f"no rejected messages in {_shown(settings)}")


def show_dead_letter(options: argparse.Namespace) -> None:
    """Print the payload alone, so that it can be redirected into a file."""
    with _database(_settings()) as engine:
        row = dead_letters.record(engine, options.id)
    if row is None:
        raise OperatorError(f"there is no invalid message {options.id}: scripts/dead-letters list shows the numbers")
    if not row.has_payload:
        raise OperatorError(f"the payload of {options.id} was not stored: {row.reason}")
    echo_bytes(row.payload)
    if row.payload_size > len(row.payload):
        print(f"only {len(row.payload)} of its {row.payload_size} bytes were stored", file=sys.stderr)


def replay_dead_letters(options: argparse.Namespace) -> None:
    settings = _settings()
    topics = Topics(settings.mqtt_topic_prefix)
    stored = rejected = 0
    with _database(settings, writing=True) as engine:
        for each in dead_letters.replay(engine, topics, totals_only=settings.totals_only):
            stored += each.reason is None
            rejected += each.reason is not None
            echo(f"{each.id}  {each.topic}  {f'still rejected: {each.reason}' if each.reason else 'stored'}")
    echo(f"{stored} stored, {rejected} still rejected")


def delete_dead_letters(options: argparse.Namespace) -> None:
    settings = _settings()
    with _database(settings, writing=True) as engine:
        number = dead_letters.delete_of(engine, Topics(settings.mqtt_topic_prefix), options.device_id)
    echo(f"deleted {number} invalid messages of {options.device_id}")


def forget_person(options: argparse.Namespace) -> int:
    """Erase the person. The id is never printed: the output may end up in a log."""
    settings = _settings()
    who = person.Person(options.device, options.person)
    not_purged = None
    with _database(settings, writing=True) as engine:
        erased = person.forget(
            engine, Topics(settings.mqtt_topic_prefix), who, hours=options.hours, now=datetime.now(UTC)
        )
        try:
            dialect_of(engine).purge(engine)
        except (NotPurgedError, KeyboardInterrupt) as error:
            not_purged = (
                f"the person is deleted from the tables, but the files of {_shown(settings)} may still contain the "
                f"bytes: {str(error) or 'interrupted'}; run the same command again"
            )
    failures = [sentence for sentence in (erased.mistake, not_purged) if sentence]
    for sentence in failures:
        print(f"emotion_admin: {sentence}", file=sys.stderr)
    people = "deleted 1 person, and" if erased.people else "no person of this id is stored; deleted"
    echo(f"{who.device_id}: {people} the payloads of {erased.dead_letters} dead letters")
    if erased.behind:
        hours = erased.behind.total_seconds() / 3600
        echo(f"this machine's clock is {hours:.1f} h behind the newest batch of {who.device_id}: check both clocks")
    echo(f"the daemon omits this person from batches with timestamps up to {erased.until:%Y-%m-%dT%H:%M:%SZ}")
    if not failures:
        echo("docker compose: once the daemon has stored the queued messages, restart the broker;")
        echo("until then its files contain the person's data")
        echo("backups contain the person, too: see docs/privacy.md#erase-a-person")
    return 1 if failures else 0


def export_person(options: argparse.Namespace) -> None:
    settings = _settings()
    who = person.Person(options.device, options.person)
    with _database(settings) as engine:
        found = person.export(engine, Topics(settings.mqtt_topic_prefix), who)
    echo(json.dumps(found, indent=2, ensure_ascii=False))
    if found["person_emotion"] is None:
        print(f"no person of that id is stored for {who.device_id} in {_shown(settings)}", file=sys.stderr)


def list_documents(options: argparse.Namespace) -> None:
    echo(str(documents.FOLDER))
    for path, title in documents.pages():
        echo(f"  {path:<44} {title}")


def test_webhook(options: argparse.Namespace) -> None:
    """Post a test alert, so that an operator sees whether the receiver accepts it."""
    settings = _settings()
    if settings.webhook_url is None:
        raise SettingsError("EMOTION_WEBHOOK_URL", "is not set: set it to the address of the receiver")
    read_rules(settings)
    now = datetime.now(UTC)
    alert = Alert(event="test", text="A test of the webhook", at=now, since=now)
    try:
        Webhook(settings.webhook_url, settings.webhook_secret).post(alert)
    except WebhookError as error:
        raise OperatorError(f"the webhook did not accept the alert: {error}") from error
    echo("the webhook accepted the alert")


def run_doctor(options: argparse.Namespace) -> int:
    """Print each finding as soon as it is there, or all of them as JSON."""
    findings = []
    for found in doctor.examine(
        _settings(),
        api_user=options.api_user,
        api_urls=options.api,
        devices_certificate=options.devices_certificate,
        services=options.service,
        logins=options.logins,
        unread=options.unread,
        set_aside=options.set_aside,
        thorough=options.thorough,
        log_in=options.log_in,
    ):
        findings.append(found)
        if not options.json:
            echo(finding.as_text(found))
    echo(finding.as_json(findings) if options.json else finding.count(findings))
    return finding.exit_code(findings)


def _secrets(options: argparse.Namespace) -> Secrets:
    prefix = os.environ.get("EMOTION_MQTT_TOPIC_PREFIX", "")
    return Secrets(options.secrets, Topics(prefix if is_topic_prefix(prefix) else "emotions"))


def _device_logins(options: argparse.Namespace) -> DeviceLogins:
    """Return the logins at the kind of broker that the settings name. Raises OperatorError and SettingsError."""
    secrets = _secrets(options)
    settings = _settings()
    if settings.rabbitmq_url is None:
        return MosquittoLogins(secrets, options.broker)
    password = secrets.admin_password.read_text(encoding="utf-8").strip()
    return RabbitMqLogins(ManagementApi(settings.rabbitmq_url, ADMIN, password), secrets.topics)


def _warn(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        print(sentence, file=sys.stderr)


def _settings() -> Settings:
    """Read the settings, for commands that need them: a wrong one must not stop the command that makes the secrets."""
    return Settings.from_environ(os.environ)


_ADVICE = {
    "locked": "close the program that holds its lock, and run the same command again",
    "full": "make room on its disk, and run the same command again",
    "unreadable": "run this command as the daemon's user, which needs to write the file and its folder",
    "unreachable": "check that PostgreSQL runs and accepts the login in EMOTION_DATABASE_URL",
}
_OTHER_ADVICE = "check that EMOTION_DATABASE_URL is the daemon's, and start the daemon once"


@contextmanager
def _database(settings: Settings, *, writing: bool = False) -> Iterator[Engine]:
    """An engine on the daemon's database. Raises OperatorError for what the database refuses during the block.

    Without `writing` it also works while the database is locked, and as a user who can only read it.
    """
    path = sqlite_path(settings.database_url)
    if path is not None:
        check_location(path, writing=writing)
        if not path.exists():  # a writer would create an empty one
            raise OperatorError(f"cannot use {_shown(settings)}: there is no such file; {_OTHER_ADVICE}")
    configure_logging(settings)
    engine = (writer_engine if writing else reader_engine)(settings.database_url, echo=settings.sql_echo)
    try:
        yield engine
    except DBAPIError as error:
        advice = _ADVICE.get(outage_kind(error, engine), _OTHER_ADVICE)
        raise OperatorError(f"cannot use {_shown(settings)}: {reason(error)}; {advice}") from error
    finally:
        engine.dispose()


def _shown(settings: Settings) -> str:
    return make_url(settings.database_url).render_as_string(hide_password=True)
