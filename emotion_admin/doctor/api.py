"""Check the API, if doctor was told its address: the daemon does not know it."""

from emotion_admin import health
from emotion_admin.doctor.finding import Finding, ok, problem

SUBJECT = "api"


def examine(url: str) -> Finding:
    """Ask the API at `url`, like http://127.0.0.1:8000, whether it can read the database.

    `url` is "" if the API has no address that scripts/doctor can tell.
    """
    if not health.is_url(url):
        return problem(
            SUBJECT,
            f"not checked: {url!r} is no address at which it can be asked"
            if url
            else "not checked: its address cannot be told",
            "Correct GUNICORN_CMD_ARGS, like --bind=127.0.0.1:8000. The API's log says if gunicorn cannot start.",
        )
    is_healthy, line = health.check(f"{url.rstrip('/')}/readyz")
    if is_healthy:
        return ok(SUBJECT, f"it answers at {url} and can read the database")
    return problem(
        SUBJECT,
        line,
        "If the API does not run, start it; its log says why it ended. If it cannot read the database, give it the "
        "daemon's EMOTION_DATABASE_URL and the right to use the database's files.",
    )
