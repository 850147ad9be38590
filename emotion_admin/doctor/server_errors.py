"""Interpret why PostgreSQL, or a program in front of it, refuses a connection. Pure."""

_ADVICE = {
    "password authentication failed": "Correct user and password in EMOTION_DATABASE_URL.",
    "no password supplied": "Add the password to EMOTION_DATABASE_URL.",
    "no pg_hba.conf entry": "Allow this machine, user and database in the server's pg_hba.conf, and reload the server.",
    "Connection refused": "Start the server, or correct host and port in EMOTION_DATABASE_URL. The server must listen "
    "on that address (listen_addresses).",
    "timeout expired": "Check whether the host is up, then firewalls on the way.",
    "too many clients": "Close connections of other programs, or raise max_connections of the server.",
    "remaining connection slots": "Close connections of other programs, or raise max_connections of the server.",
    "starting up": "Run doctor again in a minute. If it stays so, see the server's log.",
    "shutting down": "Start the server again.",
    "resolve host": "Correct the host in EMOTION_DATABASE_URL. In containers it is the database's service.",
    "translate host name": "Correct the host in EMOTION_DATABASE_URL. In containers it is the database's service.",
    "does not exist": "Create it, or correct user and database name in EMOTION_DATABASE_URL.",
}
_OTHERWISE = "Check that the server runs, and check host, name, user and password in EMOTION_DATABASE_URL."


def advice(reason: str) -> str:
    """Say what to do about a connection that failed for this reason."""
    return next((sentence for words, sentence in _ADVICE.items() if words in reason), _OTHERWISE)
