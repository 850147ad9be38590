"""TLS: what the handshake with the broker says, and when its certificates end."""

import socket
import ssl
import time
from pathlib import Path

from emotion_admin.doctor.finding import Finding, ok, problem, warning

TLS = "broker tls"
DEVICES_TLS = "broker tls, devices"
EXPIRY_DAYS = 30

_DAY = 86_400.0


def examine(connection: socket.socket, host: str, ca: Path) -> Finding:
    """Speak TLS on a connection that is open, as the daemon would: `ca` has to have signed a certificate of `host`."""
    try:
        context = ssl.create_default_context(cafile=ca)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # from Python 3.13 on; the daemon is not so strict
        with context.wrap_socket(connection, server_hostname=host) as secured:
            certificate = secured.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        return problem(TLS, f"the broker's certificate is not believed: {error.verify_message}", _advice(error))
    except OSError as error:  # ssl.SSLError is one, too
        why = getattr(error, "reason", None) or error.strerror or str(error)
        return problem(
            TLS, f"no TLS with this port: {why}", "Does it speak TLS (8883)? Without, leave EMOTION_MQTT_TLS_CA empty."
        )
    return judge_certificate(TLS, str(certificate["notAfter"]), now=time.time())


def judge_devices_port(not_after: str, *, now: float) -> Finding:
    """Of the port that devices use: `not_after` as below, "" where that port did not answer with TLS."""
    if not_after:
        return judge_certificate(DEVICES_TLS, not_after, now=now)
    return warning(
        DEVICES_TLS,
        "TLS is on for devices, and their port does not answer with it",
        "Does the broker run? Its log says what is wrong with the certificate; scripts/tls on puts another there.",
    )


def judge_certificate(subject: str, not_after: str, *, now: float) -> Finding:
    """When the certificate ends that TLS or DEVICES_TLS is about.

    `not_after` as in `SSLSocket.getpeercert`; `now` is unix time.
    """
    left = (ssl.cert_time_to_seconds(not_after) - now) / _DAY
    if left >= EXPIRY_DAYS:
        return ok(subject, f"the broker's certificate ends in {left:.0f} days")
    ends = f"ends in {left:.0f} days" if left > 0 else f"ended {-left:.0f} days ago"
    return warning(
        subject,
        f"the broker's certificate {ends} ({not_after}): from then on nobody connects",
        "Put its successor in place: scripts/tls on server.crt server.key.",
    )


def _advice(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code == 10:  # X509_V_ERR_CERT_HAS_EXPIRED
        return "Put its successor in place: scripts/tls on server.crt server.key. Or this machine's clock is ahead."
    if error.verify_code == 9:  # X509_V_ERR_CERT_NOT_YET_VALID
        return "This machine's clock is behind, or the certificate is for later."
    if error.verify_code in (62, 64):  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
        return "Set EMOTION_MQTT_HOST to a name that is in the certificate, or make one with this name."
    return (
        "EMOTION_MQTT_TLS_CA has to be the CA that signed it; a broker with a public certificate has to send the chain."
    )
