"""Whether the API answers, where doctor was told its address: the daemon does not know it."""

from emotion_admin import health
from emotion_admin.doctor.finding import Finding, ok, problem

SUBJECT = "api"


def examine(url: str) -> Finding:
    """`url` is the API's, as `emotion_admin.health.parse` takes it."""
    place = health.parse(url)
    assert place is not None
    host, port, path = place
    is_well, said = health.check(host, port, f"{path.rstrip('/')}/readyz")
    if is_well:
        return ok(SUBJECT, f"it answers at {url}, and can read the database")
    return problem(
        SUBJECT,
        said,
        "If it does not run, start it: its log says why it ended. If it cannot read the database: it needs the "
        "daemon's EMOTION_DATABASE_URL, and the right to use these files.",
    )
