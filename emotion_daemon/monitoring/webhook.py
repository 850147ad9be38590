"""Post alerts to a webhook, signed as the Standard Webhooks specification says (standardwebhooks.com)."""

import base64
import hashlib
import hmac
import time
from http.client import HTTPException, HTTPMessage
from typing import IO
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

import msgspec

from emotion_daemon.rules.alerts import Alert
from shared.settings import PREFIX, SettingsError

TIMEOUT_SECONDS = 5.0

SECRET_PREFIX = "whsec_"
_MIN_SECRET = 16

_encode = msgspec.json.Encoder().encode


class WebhookError(Exception):
    """Raised when the receiver did not accept an alert. Its text names no part of the address, which may be secret."""


class Webhook:
    """The receiver at `url`. With a `secret` its requests are signed."""

    def __init__(self, url: str, secret: str | None = None) -> None:
        self._url = url
        self._key = None if secret is None else signing_key(secret)
        self._opener = build_opener(_NoRedirect)

    def post(self, alert: Alert) -> None:
        """Post one alert. Raises WebhookError unless the answer's status is 2xx."""
        body = _encode(alert)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "emotion-daemon",
            "Webhook-Id": message_id(alert),
            "Webhook-Timestamp": str(int(time.time())),  # of this attempt: receivers refuse an old one
        }
        if self._key is not None:
            headers["Webhook-Signature"] = signature(
                self._key, headers["Webhook-Id"], headers["Webhook-Timestamp"], body
            )
        try:
            with self._opener.open(Request(self._url, body, headers), timeout=TIMEOUT_SECONDS):
                pass
        except HTTPError as error:
            with error:
                raise WebhookError(f"it answered {error.code} {error.reason}") from error
        except (OSError, HTTPException, ValueError) as error:
            raise WebhookError(str(getattr(error, "reason", error))) from error


def message_id(alert: Alert) -> str:
    """The id of an alert: the same at each attempt, and for a silence also after a restart of the daemon."""
    parts = (alert.event, alert.device_id or "", alert.rule or "", alert.since.isoformat())
    return f"msg_{hashlib.blake2b('|'.join(parts).encode(), digest_size=16).hexdigest()}"


def signature(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    """HMAC-SHA256 of id, timestamp and body, in base64, after the version."""
    digest = hmac.digest(key, b".".join((message_id.encode(), timestamp.encode(), body)), "sha256")
    return f"v1,{base64.b64encode(digest).decode()}"


def signing_key(secret: str) -> bytes:
    """The bytes of a secret like whsec_… in base64; any other text is the key itself. Raises SettingsError."""
    key = secret.encode()
    if secret.startswith(SECRET_PREFIX):
        try:
            key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
        except ValueError as error:
            raise SettingsError(f"{PREFIX}WEBHOOK_SECRET", "begins with whsec_, but the rest is not base64") from error
    if len(key) < _MIN_SECRET:
        raise SettingsError(
            f"{PREFIX}WEBHOOK_SECRET", f"is shorter than {_MIN_SECRET} bytes: `openssl rand -hex 32` makes a good one"
        )
    return key


class _NoRedirect(HTTPRedirectHandler):
    """A redirected POST becomes a GET without the alert, so a redirect counts as an error."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        return None
