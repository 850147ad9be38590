"""Judge what Docker or systemd says about each service: whether it runs, or starts again and again. Pure."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from emotion_admin.doctor.finding import Finding, ok, problem

SUBJECT = "services"
MANY_RESTARTS = 3


class Service(NamedTuple):
    """One service. `state` is Docker's state and health, or systemd's active and sub state, separated by a slash.

    A service of systemd has a name that ends in `.service`.
    """

    name: str
    state: str
    restarts: int
    exit_code: int

    @classmethod
    def parse(cls, text: str) -> "Service":
        """Parse `NAME STATE RESTARTS EXIT_CODE`, as scripts/doctor passes it. Raises ValueError."""
        name, state, restarts, exit_code = text.split()
        return cls(name, state, int(restarts), int(exit_code))

    @property
    def loops(self) -> bool:
        """Return True if it ends soon after each start. Between two ends it is starting."""
        if self.state.startswith("restarting") or self.state == "activating/auto-restart":
            return True
        is_starting = self.state.startswith("activating/") or self.state.endswith("/starting")
        return is_starting and self.restarts >= MANY_RESTARTS

    @property
    def is_faulty(self) -> bool:
        return self.state == "running/unhealthy" or self.state.startswith(("paused", "dead", "failed/"))

    @property
    def is_stopped(self) -> bool:
        return self.state.startswith(("exited", "created", "inactive/"))


def judge(services: Sequence[Service]) -> Iterator[Finding]:
    """Judge all services of a system."""
    for service in sorted(services, key=lambda service: not service.loops):  # an unhealthy one may follow from a loop
        if service.loops:
            yield problem(
                SUBJECT,
                f"{service.name} ends and starts again and again: {service.restarts} restarts, exit code "
                f"{service.exit_code}",
                f"Read the last lines before a restart: {_log(service)}. Lines below may follow from this.",
            )
        elif service.is_faulty:
            yield problem(
                SUBJECT,
                f"{service.name} is {service.state.replace('/', ' and ')}",
                f"Read its log: {_log(service)}. Lines below may follow from this.",
            )
    stopped = [service.name for service in services if service.is_stopped and service.name != "secrets"]
    if stopped:
        yield ok(SUBJECT, f"stopped: {', '.join(stopped)}")
    elif not any(service.loops or service.is_faulty for service in services):
        yield ok(SUBJECT, "all run")


def _log(service: Service) -> str:
    command = "journalctl -n 50 -u" if service.name.endswith(".service") else "docker compose logs --tail 50"
    return f"{command} {service.name}"
