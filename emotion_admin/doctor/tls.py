"""The TLS handshake with the broker, and when its certificates end."""

import socket
import ssl
import time
from dataclasses import replace
from pathlib import Path

from emotion_admin import certificates
from emotion_admin.doctor.finding import Finding, ok, problem, warning
from emotion_admin.errors import OperatorError

TLS = "broker tls"
DEVICES_TLS = "broker tls, devices"
EXPIRY_DAYS = 30

_DAY = 86_400.0


def examine(connection: socket.socket, host: str, ca: Path) -> Finding:
    """Start TLS on an open connection, as the daemon does: `ca` must have signed the certificate of `host`."""
    try:
        context = ssl.create_default_context(cafile=ca)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # default from Python 3.13 on, but not in the daemon
        with context.wrap_socket(connection, server_hostname=host) as secured:
            certificate = secured.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        return problem(TLS, f"the broker's certificate is not valid: {error.verify_message}", _advice(error))
    except OSError as error:  # ssl.SSLError is one, too
        why = getattr(error, "reason", None) or error.strerror or str(error)
        return problem(
            TLS,
            f"the port does not speak TLS: {why}",
            "Use the port with TLS (8883), or leave EMOTION_MQTT_TLS_CA empty.",
        )
    return judge_certificate(TLS, str(certificate["notAfter"]), now=time.time())


def examine_devices_port(pem: str) -> Finding:
    """Check the certificates that devices see: names, dates and chain. `pem` is "" if the port sent none."""
    if not pem:
        return problem(
            DEVICES_TLS,
            "TLS is on for devices, but their port does not answer with TLS",
            "Check that the broker runs and, with Docker Compose, the gate. See the broker's log on the certificate; "
            "scripts/tls on installs another one.",
        )
    try:
        checked = certificates.check(certificates.split(pem))
    except OperatorError as error:
        return problem(
            DEVICES_TLS,
            str(error),
            "Check this machine's clock. If it is right, install another certificate: scripts/tls on server.crt "
            "server.key.",
        )
    found = judge_certificate(DEVICES_TLS, checked.not_after, now=time.time())
    found = replace(found, found=f"{found.found}; its names are {', '.join(checked.names)}")
    if not checked.missing_issuer:
        return found
    return warning(
        DEVICES_TLS,
        f"{found.found}; the broker does not send the certificate of its issuer, {checked.missing_issuer}, and this "
        "machine does not know it",
        f"{found.advice} If that is an intermediate CA, devices refuse the certificate. Install it again with the CA "
        "certificate that devices have, which checks this: scripts/tls on server.crt server.key ca.crt.".lstrip(),
    )


def judge_certificate(subject: str, not_after: str, *, now: float) -> Finding:
    """Judge when a valid certificate ends: `not_after` is as in `SSLSocket.getpeercert`, `now` is Unix time."""
    left = (ssl.cert_time_to_seconds(not_after) - now) / _DAY
    if left >= EXPIRY_DAYS:
        return ok(subject, f"the broker's certificate ends in {left:.0f} days")
    return warning(
        subject,
        f"the broker's certificate ends in {left:.0f} days ({not_after}): after that no client connects",
        "Install its successor: scripts/tls on server.crt server.key.",
    )


def _advice(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code == 10:  # X509_V_ERR_CERT_HAS_EXPIRED
        return (
            "Install its successor: scripts/tls on server.crt server.key. Or set this machine's clock, if it is ahead."
        )
    if error.verify_code == 9:  # X509_V_ERR_CERT_NOT_YET_VALID
        return "Set this machine's clock, if it is behind. Or install a certificate that is valid already."
    if error.verify_code in (62, 64):  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
        return "Set EMOTION_MQTT_HOST to a name in the certificate, or make a certificate with this name."
    return "Set EMOTION_MQTT_TLS_CA to the CA that signed it. A broker with a public certificate must send the chain."
