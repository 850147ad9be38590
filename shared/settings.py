"""The settings of all processes: read from the environment once, checked, and passed down as one frozen object."""

import difflib
import ipaddress
import math
import os
import re
import ssl
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from shared.batch import DEVICE_ID, is_topic_prefix
from shared.tokens import Token
from shared.zones import zone

if TYPE_CHECKING:
    from sqlalchemy import URL

PREFIX = "EMOTION_"

SECRETS = ("DATABASE_URL", "MQTT_USERNAME", "MQTT_PASSWORD", "API_TOKEN", "WEBHOOK_URL", "WEBHOOK_SECRET")
"""The settings that may stand in a file, whose path is in the variable with _FILE behind its name."""
_BACKENDS = ("sqlite", "postgresql+psycopg")
_SESSIONS = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")
_HOST_AND_PORT = re.compile(r"\[|[^:]*:[0-9]+$")  # in a list of libpq, in which ports are a list of their own
_SEVERAL_HOSTS = (
    "has to name its servers like postgresql+psycopg://user:password@host:5432/emotion, or several of them like "
    "postgresql+psycopg://user:password@/emotion?host=A:5432&host=B:5432&target_session_attrs=read-write"
)
_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
_MAX_DEVICE_NAME = 200
_MAX_DAYS = 36_500
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.(?!-)[A-Za-z0-9_-]{1,63})*")
_NUMBER_LAST = re.compile(r"(^|\.)([0-9]+|0x[0-9a-f]*)\.?$")  # a browser takes such a host for an IPv4 address
_ORIGIN = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[^][:]+)(?::([0-9]{0,5}))?", re.IGNORECASE)
_WEB_PORTS = {"http": 80, "https": 443}


class SettingsError(ValueError):
    """Raised when a setting has a value that cannot work. Its text is one sentence for the operator."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name} {problem}")
        self.name = name


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting, with its default. The line below each setting is its row in docs/reference/configuration.md."""

    database_url: str = field(default="sqlite:///emotion.db", repr=False)
    """The database: `sqlite:///relative/path`, `sqlite:////absolute/path` or
    `postgresql+psycopg://user:password@host/name`. Daemon and API need the same one. See
    [several PostgreSQL servers](#several-postgresql-servers).
    """
    mqtt_host: str = "localhost"
    """The broker's name or address, without scheme and port."""
    mqtt_port: int = 1883
    """The broker's port."""
    mqtt_username: str | None = None
    """The daemon's login at the broker."""
    mqtt_password: str | None = field(default=None, repr=False)
    """The password of that login."""
    mqtt_client_id: str = "emotion-daemon"
    """Names the daemon's session at the broker. The daemon finds queued messages again only under the same id."""
    mqtt_topic_prefix: str = "emotions"
    """The first levels of every topic. If you change it, also change `EMOTION_MQTT_CLIENT_ID`. The roles in the
    broker follow at the next `scripts/run` or `scripts/install`.
    """
    mqtt_tls_ca: Path | None = None
    """The path of a CA certificate in PEM. It turns TLS on."""
    rabbitmq_url: str | None = None
    """The management API of a RabbitMQ cluster, like `http://rabbitmq-1:15672`, if RabbitMQ is the broker. Then
    `scripts/device` manages the logins there, and doctor checks the cluster.
    """
    api_tokens: tuple[str, ...] = field(default=(), repr=False)
    """Bearer tokens that may read the API: 16 to 4,096 characters each, separated by commas or white space. If
    there is none, the API asks for no token. With docker compose and systemd use `scripts/token`. A token may be
    [limited](../web-dashboard.md#limited-tokens) to devices and views.
    """
    cors_origins: tuple[str, ...] = ("http://localhost:3000", "http://127.0.0.1:3000")
    """Origins of web pages that may read the API from a browser, like `https://dash.example.com`, separated by
    commas.
    """
    frame_ancestors: tuple[str, ...] = ()
    """Origins of web pages that may show the live page in a frame, like `https://intranet.example.com`, separated by
    commas. By default no page may.
    """
    allowed_hosts: tuple[str, ...] = ()
    """Names under which browsers reach the API, in addition to `localhost` and IP addresses, separated by commas. The
    API answers 421 for other names. If tokens are set, it answers for every name.
    """
    device_names: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({"jetson_1": "Entrance Camera"}))
    """Names on the dashboard of devices that `scripts/device` has not named, separated by commas."""
    silent_after: float = 30.0
    """Seconds without a batch until a device is not online for the API, and silent for doctor."""
    time_zone: str = "UTC"
    """The site's time zone, an IANA name like `Europe/Berlin`: the days, hours and weeks of the live page, and of
    histories with `step=day` and `step=week`.
    """
    log_level: str = "INFO"
    """The least severe level that is logged: DEBUG, INFO, WARNING or ERROR."""
    sql_echo: bool = False
    """`true` logs each SQL statement, without its values."""
    daemon_http_address: tuple[str, int] | None = None
    """Address and port on which the daemon answers `/metrics`, `/healthz` and `/readyz`. It asks for no token."""
    totals_only: bool = False
    """`true` stores no person, only totals and history. The daemon's next start then deletes all stored people for
    good.
    """
    device_messages_per_second: float = 20.0
    """Messages a second, averaged over 10 s, above which the daemon's log and metrics name a device. The daemon stores
    the messages all the same. 0: no limit.
    """
    device_bytes_per_second: float = 65_536.0
    """The same for bytes a second. On a server it has to be below `DEVICE_BYTES_PER_SECOND`: the gate of Docker
    Compose, and port 8883 with systemd, slow a device down to that. 0: no limit.
    """
    people_retention_days: float | None = None
    """Days after which the daemon deletes people that no batch has contained since, and dead letters. Empty:
    never.
    """
    history_retention_days: float | None = None
    """Days until the daemon deletes an hour of the history. Empty: never."""
    webhook_url: str | None = field(default=None, repr=False)
    """The address to which the daemon posts [alerts](../operate/alerts.md), like `https://example.com/hook`. Empty: no
    alerts.
    """
    webhook_secret: str | None = field(default=None, repr=False)
    """Signs the alerts: `whsec_` and base64, or another text of at least 16 bytes. Empty: they are not signed."""
    alert_rules: Path | None = None
    """The path of a TOML file with [rules](../operate/alerts.md#rules) for alerts about people and emotions."""
    unknown: tuple[str, ...] = ()
    """Sentences for the log about variables that start with EMOTION_ and are not settings."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Settings":
        """Build the settings from `environ`; an empty value counts as not set. Raises SettingsError."""
        default = cls()
        read = _Reader(environ)
        settings = cls(
            database_url=read.text("DATABASE_URL", default.database_url),
            mqtt_host=read.text("MQTT_HOST", default.mqtt_host),
            mqtt_port=read.port("MQTT_PORT", default.mqtt_port),
            mqtt_username=read.text("MQTT_USERNAME", "") or None,
            mqtt_password=read.text("MQTT_PASSWORD", "") or None,
            mqtt_client_id=read.text("MQTT_CLIENT_ID", default.mqtt_client_id),
            mqtt_topic_prefix=read.text("MQTT_TOPIC_PREFIX", default.mqtt_topic_prefix),
            mqtt_tls_ca=read.file("MQTT_TLS_CA"),
            rabbitmq_url=read.url("RABBITMQ_URL"),
            api_tokens=read.tokens("API_TOKEN"),
            cors_origins=read.origins("CORS_ORIGINS", default.cors_origins),
            frame_ancestors=read.origins("FRAME_ANCESTORS", default.frame_ancestors),
            allowed_hosts=read.hosts("ALLOWED_HOSTS"),
            device_names=read.names("DEVICE_NAMES", default.device_names),
            silent_after=read.seconds("SILENT_AFTER_SECONDS", default.silent_after),
            time_zone=read.zone("TIME_ZONE", default.time_zone),
            log_level=read.text("LOG_LEVEL", default.log_level).upper(),
            sql_echo=read.flag("SQL_ECHO", default.sql_echo),
            daemon_http_address=read.address("DAEMON_HTTP_ADDRESS"),
            totals_only=read.flag("TOTALS_ONLY", default.totals_only),
            device_messages_per_second=read.limit("DEVICE_MESSAGES_PER_SECOND", default.device_messages_per_second),
            device_bytes_per_second=read.limit("DEVICE_BYTES_PER_SECOND", default.device_bytes_per_second),
            people_retention_days=read.days("PEOPLE_RETENTION_DAYS"),
            history_retention_days=read.days("HISTORY_RETENTION_DAYS"),
            webhook_url=read.web_address("WEBHOOK_URL"),
            webhook_secret=read.text("WEBHOOK_SECRET", "") or None,
            alert_rules=read.file("ALERT_RULES"),
            unknown=read.unknown(),
        )
        _check(settings)
        return settings


class _Reader:
    """Takes typed values out of an environment and remembers which names there are."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._known: set[str] = set()

    def text(self, name: str, default: str) -> str:
        return self._value(name) or self._secret_file(name) or default

    def port(self, name: str, default: int) -> int:
        value = self.text(name, str(default))
        if not value.isdecimal() or len(value) > 5 or not 1 <= int(value) <= 65535:
            raise SettingsError(PREFIX + name, f"is {value!r}, but a port is a number from 1 to 65535")
        return int(value)

    def seconds(self, name: str, default: float) -> float:
        value = self.text(name, str(default))
        seconds = _number(value)
        if not 0 < seconds < math.inf:
            raise SettingsError(PREFIX + name, f"is {value!r}, but it is a number of seconds greater than 0")
        return seconds

    def limit(self, name: str, default: float) -> float:
        value = self.text(name, str(default))
        limit = _number(value)
        if not 0 <= limit < math.inf:
            raise SettingsError(PREFIX + name, f"is {value!r}, but it is a number greater than 0, or 0 for no limit")
        return limit

    def days(self, name: str) -> float | None:
        """Return the number of days, None if it is not set: for ever."""
        value = self.text(name, "")
        if not value:
            return None
        days = _number(value)
        if not 0 < days <= _MAX_DAYS:
            raise SettingsError(
                PREFIX + name,
                f"is {value!r}, but it is a number of days greater than 0, up to {_MAX_DAYS:,}; leave it empty to keep "
                "for ever",
            )
        return days

    def address(self, name: str) -> tuple[str, int] | None:
        """HOST:PORT; an IPv6 address stands in brackets."""
        value = self.text(name, "")
        if not value:
            return None
        host, colon, port = value.rpartition(":")
        host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        is_port = port.isdecimal() and len(port) <= 5 and 1 <= int(port) <= 65535
        if not colon or not host or not is_port or any(c in "/@?#[]" or c.isspace() for c in host):
            raise SettingsError(PREFIX + name, f"is {value!r}, but it is an address and a port, like 127.0.0.1:9464")
        return host, int(port)

    def flag(self, name: str, default: bool) -> bool:
        value = self.text(name, str(default)).lower()
        if value not in _TRUE + _FALSE:
            raise SettingsError(PREFIX + name, f"is {value!r}, but it is either true or false")
        return value in _TRUE

    def file(self, name: str) -> Path | None:
        value = self.text(name, "")
        if not value:
            return None
        try:
            is_file = stat.S_ISREG(os.stat(value).st_mode)
        except OSError as error:
            raise SettingsError(PREFIX + name, f"is {value!r}, but that cannot be used: {error.strerror}") from error
        if not is_file:
            raise SettingsError(PREFIX + name, f"is {value!r}, but that is no file")
        return Path(value)

    def url(self, name: str) -> str | None:
        """http:// or https:// with a host, perhaps a port, and nothing else."""
        value = self.text(name, "")
        if not value:
            return None
        found = _ORIGIN.fullmatch(value.removesuffix("/"))
        if not found or not is_host(found[2].strip("[]")) or not 1 <= int(found[3] or 80) <= 65535:
            raise SettingsError(PREFIX + name, f"is {value!r}, but it is an address like http://rabbitmq-1:15672")
        return value.removesuffix("/")

    def web_address(self, name: str) -> str | None:
        """Return an http:// or https:// address with any path. An error does not show it: it may be secret."""
        value = self.text(name, "")
        if not value:
            return None
        found = re.fullmatch(r"(https?://(?:\[[0-9a-fA-F:.]+\]|[^][:/?#@\s]+)(?::[0-9]{1,5})?)([/?][!-~]*)?", value)
        if not found:
            raise SettingsError(PREFIX + name, "is not an address like https://example.com/hook in ASCII, without user")
        return value

    def listed(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        value = self.text(name, "")
        return tuple(part.strip() for part in value.split(",") if part.strip()) if value else default

    def hosts(self, name: str) -> tuple[str, ...]:
        """Names as the API compares them: in lower case, without a dot at the end."""
        hosts = []
        for text in self.listed(name, ()):
            try:
                hosts.append(_web_host(text.lower()).removesuffix("."))
            except ValueError as error:
                raise SettingsError(
                    PREFIX + name, f"has {text!r}, but it is a list of names like dashboard.example.com,server"
                ) from error
        return tuple(hosts)

    def origins(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """Origins as browsers send them, each once."""
        origins = []
        for text in self.listed(name, default):
            try:
                origins.append(_origin(text))
            except ValueError as error:
                raise SettingsError(
                    PREFIX + name,
                    f"has {text!r}, but an origin is http:// or https://, a name in ASCII or an address, and perhaps a "
                    "port, without a path and without *: list each one",
                ) from error
        return tuple(dict.fromkeys(origins))

    def tokens(self, name: str) -> tuple[str, ...]:
        """Bearer tokens, commas or white space between them; in a file, lines that start with # are comments."""
        variable, text = PREFIX + name, self._value(name)
        if not text:
            variable = f"{PREFIX}{name}_FILE"
            lines = self._secret_file(name).splitlines()
            text = "\n".join(line for line in lines if not line.lstrip().startswith("#")).strip()
        tokens = tuple(text.replace(",", " ").split())
        if text and not tokens:
            raise SettingsError(variable, "has commas and no token: put one in, or leave it empty to ask for none")
        for number, token in enumerate(tokens, 1):
            try:
                Token.parse(token)
            except ValueError as error:
                problem = f"has a token (number {number} of {len(tokens)}) that {error}"
                raise SettingsError(variable, problem) from error
        return tokens

    def zone(self, name: str, default: str) -> str:
        value = self.text(name, default)
        try:
            return zone(value).key
        except ValueError as error:
            raise SettingsError(PREFIX + name, str(error)) from error

    def names(self, name: str, default: Mapping[str, str]) -> Mapping[str, str]:
        if not self.text(name, ""):
            return default
        names: dict[str, str] = {}
        for pair in self.listed(name, ()):
            device_id, equals, device_name = (part.strip() for part in pair.partition("="))
            if not equals or not device_name or not DEVICE_ID.fullmatch(device_id):
                raise SettingsError(
                    PREFIX + name,
                    f"has {pair!r}, but it is a list like jetson_1=Entrance Camera,jetson_2=Hall",
                )
            if len(device_name) > _MAX_DEVICE_NAME or not device_name.isprintable():
                raise SettingsError(
                    PREFIX + name, f"names {device_id} with more than {_MAX_DEVICE_NAME} printable characters"
                )
            if names.setdefault(device_id, device_name) != device_name:
                raise SettingsError(PREFIX + name, f"gives {device_id} two names: keep one of them")
        if not names:
            raise SettingsError(PREFIX + name, "has commas and no name: put one in, or leave it empty")
        return MappingProxyType(names)

    def unknown(self) -> tuple[str, ...]:
        """A sentence for every EMOTION_ variable that does nothing. Call it last."""
        secrets = [name for name in SECRETS if self._value(f"{name}_FILE") and self._value(name)]
        names = sorted(name for name in self._environ if name.startswith(PREFIX) and name not in self._known)
        hidden = (f"{PREFIX}{name}_FILE does nothing, because {PREFIX}{name} is set" for name in secrets)
        return (*(_unknown(name, self._known) for name in names), *hidden)

    def _value(self, name: str) -> str:
        self._known.add(PREFIX + name)
        return self._environ.get(PREFIX + name, "").strip()

    def _secret_file(self, name: str) -> str:
        if name not in SECRETS:
            return ""
        variable = f"{PREFIX}{name}_FILE"
        self._known.add(variable)
        path = self._environ.get(variable, "").strip()
        if not path:
            return ""
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise SettingsError(variable, f"is {path!r}, but the file cannot be read: {reason}") from error


def _number(text: str) -> float:
    """The number, or NaN if the text is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _unknown(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    return f"{name} is not a setting and does nothing" + (f"; did you mean {close[0]}?" if close else "")


def _check(settings: Settings) -> None:
    check_database_url(settings.database_url)
    if not is_host(settings.mqtt_host):
        raise SettingsError(
            "EMOTION_MQTT_HOST", f"is {settings.mqtt_host!r}, but it is a name or an address, without scheme and port"
        )
    if not DEVICE_ID.fullmatch(settings.mqtt_client_id):
        raise SettingsError("EMOTION_MQTT_CLIENT_ID", "has to be 1 to 64 of A-Z a-z 0-9 . _ : -")
    if not is_topic_prefix(settings.mqtt_topic_prefix):
        raise SettingsError(
            "EMOTION_MQTT_TOPIC_PREFIX",
            f"is {settings.mqtt_topic_prefix!r}, but it is topic levels without + # or a leading $, like emotions or "
            "site/emotions",
        )
    if settings.mqtt_password and not settings.mqtt_username:
        raise SettingsError("EMOTION_MQTT_PASSWORD", "is set, but EMOTION_MQTT_USERNAME is not: set both")
    if settings.mqtt_tls_ca is not None:
        _check_ca(settings.mqtt_tls_ca)
    if settings.log_level not in _LOG_LEVELS:
        raise SettingsError(
            "EMOTION_LOG_LEVEL", f"is {settings.log_level!r}, but it is one of {', '.join(_LOG_LEVELS)}"
        )


def check_database_url(text: str, *, name: str = "EMOTION_DATABASE_URL") -> None:
    """Check that the programs can use the database that `text` names. Raises SettingsError about `name`."""
    try:
        from sqlalchemy import make_url
        from sqlalchemy.exc import ArgumentError
    except ImportError:  # a device's installation: it has no database to speak of
        return
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        is_list = text.startswith("postgresql") and "," in text.partition("://")[2].partition("/")[0].rpartition("@")[2]
        right = _SEVERAL_HOSTS if is_list else "is not a database URL, like sqlite:///emotion.db"
        raise SettingsError(name, right) from error
    if url.drivername not in _BACKENDS:
        raise SettingsError(name, f"starts with {url.drivername!r}, but it is sqlite:///… or postgresql+psycopg://…")
    if url.get_backend_name() != "sqlite":
        _check_servers(url, name)
        return
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise SettingsError(name, "has to name a plain file, like sqlite:////data/emotion.db: daemon and API share it")
    if url.query:
        raise SettingsError(name, "has options behind the file name, but the daemon and the API choose their own")
    if os.path.isdir(url.database):  # False if this user may not look, which the error of opening the file says
        raise SettingsError(name, f"names {url.database!r}, which is a folder: name a file in it")


def _check_servers(url: "URL", name: str) -> None:
    """Check that libpq gets every host and port that `url` names."""
    from sqlalchemy.exc import ArgumentError

    try:
        arguments = url.get_dialect()().create_connect_args(url)[1]
    except (ArgumentError, ValueError) as error:
        raise SettingsError(name, _SEVERAL_HOSTS) from error
    hosts = str(arguments.get("host", "")).split(",")
    is_twofold = url.host is not None and ("," in url.host or "host" in url.query)
    if is_twofold or any(_HOST_AND_PORT.match(host) for host in hosts):
        raise SettingsError(name, _SEVERAL_HOSTS)
    wanted = url.query.get("target_session_attrs", "any")
    if wanted not in _SESSIONS:
        raise SettingsError(name, f"has target_session_attrs={wanted}, but it is one of {', '.join(_SESSIONS)}")


def _check_ca(path: Path) -> None:
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:  # ssl.SSLError is one, too
        raise SettingsError(
            "EMOTION_MQTT_TLS_CA", f"is {str(path)!r}, but no CA certificate in PEM can be read from it"
        ) from error


def _origin(text: str) -> str:
    """The origin as a browser sends it: in lower case, without its scheme's own port. Raises ValueError."""
    found = _ORIGIN.fullmatch(text)
    if not found:
        raise ValueError(text)
    scheme, host, digits = found[1].lower(), found[2].lower(), found[3]
    port = int(digits) if digits else _WEB_PORTS[scheme]
    if not 1 <= port <= 65535:
        raise ValueError(text)
    return f"{scheme}://{_web_host(host)}" + ("" if port == _WEB_PORTS[scheme] else f":{port}")


def _web_host(host: str) -> str:
    """A name, or an address as browsers write it. Raises ValueError."""
    if host.startswith("[") and host.endswith("]"):
        return f"[{ipaddress.IPv6Address(host[1:-1])}]"
    if _NUMBER_LAST.search(host):
        return str(ipaddress.IPv4Address(host))
    if not _HOST_NAME.fullmatch(host.removesuffix(".")):
        raise ValueError(host)
    return host


def is_host(text: str) -> bool:
    """Return True if the MQTT client could look up `text`: a colon is part of an IPv6 address alone."""
    if ":" not in text:
        return not any(c in "/@?#[]" or c.isspace() or not c.isprintable() for c in text)
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
