"""The table of the API's operations for the OpenAPI document. A new operation gets a view, and an entry here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from emotion_api.devices import Devices
from emotion_api.history import MOST_POINTS, History
from emotion_api.overview import Overview
from emotion_api.summary import Summary
from shared.batch import DEVICE_ID, MAX_PERSON_ID

JSON = "application/json"

DEFAULT_DEVICE_ID = "jetson_1"

MOST_LISTED = 10_000
"""The largest `limit`."""


class Health(msgspec.Struct, frozen=True):
    """The API runs; for /readyz: and it can read its database."""

    status: Annotated[str, msgspec.Meta(examples=["ok"])]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """A GET request at `path`, which Flask's view of the name `view` handles.

    `content` is the type and an example of the response, by media type. `bad_request` says what is invalid for a 400.
    `unlisted` are the names of parameters that change the response's schema: the document leaves them out.
    Every operation may answer 200, 400, 405 and 414; `statuses` are those that it may answer, too.
    """

    path: str
    view: str
    title: str
    description: str
    success: str
    content: Mapping[str, tuple[type, object]]
    parameters: tuple[dict[str, Any], ...] = ()
    unlisted: tuple[str, ...] = ()
    bad_request: str = ""
    statuses: tuple[int, ...] = ()

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """The names of all parameters."""
        return (*(parameter["name"] for parameter in self.parameters), *self.unlisted)


_DATA = (304, 421, 500, 503)
"""The further statuses of an operation that reads data."""


def _parameter(name: str, description: str, **schema: object) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


_DEVICE = _parameter(
    "device_id",
    "the device, given once",
    type="string",
    pattern=f"^{DEVICE_ID.pattern}$",
    minLength=1,
    maxLength=64,
    default=DEFAULT_DEVICE_ID,
)

OPERATIONS = (
    Operation(
        path="/",
        view="health",
        title="Health",
        description="Answers while the API runs, even if its database cannot be read. Asks for no token.",
        success="The API runs",
        content={JSON: (Health, {"status": "ok"})},
    ),
    Operation(
        path="/healthz",
        view="healthz",
        title="Health",
        description="The same as /. The daemon has this address, too.",
        success="The API runs",
        content={JSON: (Health, {"status": "ok"})},
    ),
    Operation(
        path="/readyz",
        view="ready",
        title="Readiness",
        description="Answers 200 if this worker can read its database. Asks for no token.",
        success="The database can be read",
        content={JSON: (Health, {"status": "ok"})},
        statuses=(500, 503),
    ),
    Operation(
        path="/metrics",
        view="metrics",
        title="Metrics",
        description=(
            "For Prometheus: request durations of all workers, and whether this worker can read its database. "
            "Asks for no token and tells nothing of the data."
        ),
        success="The metrics, as Prometheus reads them",
        content={
            "text/plain": (
                str,
                "# HELP emotion_api_database_up 1 while the database can be read\n"
                "# TYPE emotion_api_database_up gauge\n"
                "emotion_api_database_up 1.0\n",
            )
        },
        statuses=(500,),
    ),
    Operation(
        path="/api/dashboard/summary",
        view="summary",
        title="Summary of one device",
        description=(
            "How long each of its people has shown each emotion. An unknown device has no people. The parameter "
            "fields=totals leaves out current_people. This document does not list it, so that a generated client need "
            "not ask whether there are people."
        ),
        unlisted=("fields",),
        parameters=(
            _DEVICE,
            _parameter(
                "seen_within",
                "seconds: list only people whose last_seen is not longer ago",
                type="number",
                exclusiveMinimum=0,
            ),
            _parameter(
                "active_within",
                "seconds: list only people whose seconds grew not longer ago, also if the device's clock is wrong",
                type="number",
                exclusiveMinimum=0,
            ),
            _parameter("limit", "list at most so many people", type="integer", minimum=1, maximum=MOST_LISTED),
            _parameter(
                "after",
                "a person_id: list the people who come after this person",
                type="string",
                minLength=1,
                maxLength=MAX_PERSON_ID,
            ),
        ),
        success="The summary",
        content={
            JSON: (
                Summary,
                {
                    "device_id": "jetson_1",
                    "device_name": "Entrance Camera",
                    "updated_at": "2025-11-14T15:30:00Z",
                    "emotion_totals": {"happy": 14523.0, "sad": 3421.0, "angry": 1205.0, "neutral": 0.0},
                    "history_totals": {"happy": 14498.0, "sad": 3409.0, "angry": 1199.0, "neutral": 0.0},
                    "now": {"people": 3, "seconds": {"happy": 21.2, "sad": 0.0, "angry": 3.1, "neutral": 5.0}},
                    "current_people": [
                        {
                            "person_id": "1",
                            "current_emotion": "happy",
                            "time_happy": 145.2,
                            "time_sad": 23.1,
                            "time_angry": 5.3,
                            "time_neutral": 0.0,
                            "last_seen": "2025-11-14T15:29:55Z",
                            "active_at": "2025-11-14T15:29:54Z",
                            "emotion_now": "happy",
                        }
                    ],
                },
            )
        },
        bad_request=(
            "A parameter is invalid, misspelt, empty or given more than once, or after names a person who is not in "
            "the list"
        ),
        statuses=_DATA,
    ),
    Operation(
        path="/api/dashboard/history",
        view="history",
        title="History of one device",
        description=(
            "How long each emotion was shown, in steps of a minute or more; as CSV with format=csv, or if Accept "
            "prefers text/csv. "
            "An unknown device has zeros."
        ),
        parameters=(
            _DEVICE,
            _parameter(
                "start",
                "ISO 8601, without an offset in tz; a day before end if it is left out",
                type="string",
                format="date-time",
            ),
            _parameter(
                "end", "ISO 8601, without an offset in tz; now if it is left out", type="string", format="date-time"
            ),
            _parameter(
                "step",
                f"seconds that each point stands for, at most {MOST_POINTS:,} points; if it is left out, as short as "
                "500 points allow. Or day or week, which begin at midnight and on Monday in tz",
                anyOf=[{"type": "integer", "minimum": 60, "multipleOf": 60}, {"enum": ["day", "week"]}],
            ),
            _parameter(
                "tz",
                "an IANA time zone, in which steps are parts of a day or whole days. If it is left out: UTC, or the "
                "site's zone if step is day or week",
                type="string",
                examples=["Europe/Berlin"],
            ),
            _parameter("format", "json or csv; as Accept prefers if it is left out", enum=["json", "csv"]),
        ),
        success="The history",
        content={
            JSON: (
                History,
                {
                    "device_id": "jetson_1",
                    "device_name": "Entrance Camera",
                    "start": "2025-11-14T12:30:00Z",
                    "end": "2025-11-14T12:35:00Z",
                    "step": 300,
                    "time_zone": "UTC",
                    "points": [
                        {
                            "start": "2025-11-14T12:30:00Z",
                            "happy": 12.0,
                            "sad": 0.0,
                            "angry": 0.0,
                            "neutral": 3.5,
                            "most_people": 2,
                            "covered": 298.5,
                        }
                    ],
                },
            ),
            "text/csv": (
                str,
                "start,happy,sad,angry,neutral,most_people,covered\r\n"
                "2025-11-14T12:30:00Z,12.0,0.0,0.0,3.5,2,298.5\r\n",
            ),
        },
        bad_request="A parameter is invalid, misspelt or given more than once, or the history has too many points",
        statuses=_DATA,
    ),
    Operation(
        path="/api/devices",
        view="devices",
        title="All devices",
        description="Whether each device is online, when it published last, and how many of its messages were invalid.",
        success="All devices",
        content={
            JSON: (
                Devices,
                {
                    "silent_after": 30.0,
                    "time_zone": "Europe/Berlin",
                    "devices": [
                        {
                            "device_id": "jetson_1",
                            "device_name": "Entrance Camera",
                            "online": True,
                            "status": "online",
                            "status_at": "2025-11-14T08:00:00Z",
                            "last_batch": "2025-11-14T15:30:00Z",
                            "received_at": "2025-11-14T15:30:00.100000Z",
                            "people_now": 3,
                            "clock_skew": -0.1,
                            "clock_offset": 0.0,
                            "rejected_last_hour": 0,
                            "info": {
                                "version": "0.1.0",
                                "fps": 24.8,
                                "queue_age": 0.0,
                                "last_ack": "2025-11-14T15:29:59Z",
                                "reconnects": 0,
                            },
                        }
                    ],
                },
            )
        },
        statuses=_DATA,
    ),
    Operation(
        path="/api/dashboard/overview",
        view="overview",
        title="Overview of all devices",
        description=(
            "Each device's state, the people in view, its day so far, the same weekday a week before until the same "
            "time of day, and its last 24 hours."
        ),
        success="The overview",
        content={
            JSON: (
                Overview,
                {
                    "time_zone": "UTC",
                    "silent_after": 30.0,
                    "today": "2025-11-14T00:00:00Z",
                    "until": "2025-11-14T15:31:00Z",
                    "before": "2025-11-07T00:00:00Z",
                    "cameras": [
                        {
                            "device_id": "jetson_1",
                            "device_name": "Entrance Camera",
                            "online": True,
                            "status": "online",
                            "status_at": "2025-11-14T08:00:00Z",
                            "last_batch": "2025-11-14T15:30:00Z",
                            "received_at": "2025-11-14T15:30:00.100000Z",
                            "clock_skew": -0.1,
                            "rejected_last_hour": 0,
                            "now": {
                                "people": 3,
                                "seconds": {"happy": 21.5, "sad": 0.0, "angry": 1.5, "neutral": 7.0},
                            },
                            "today": {
                                "seconds": {"happy": 5210.5, "sad": 310.0, "angry": 95.5, "neutral": 2100.0},
                                "most_people": 4,
                                "covered": 55_800.0,
                            },
                            "before": {
                                "seconds": {"happy": 4800.0, "sad": 290.5, "angry": 120.0, "neutral": 1985.5},
                                "most_people": 5,
                                "covered": None,
                            },
                            "hours": [0] * 16 + [310, 1204, 955, 1480, 1302, 1012, 905, 548],
                        }
                    ],
                },
            )
        },
        statuses=_DATA,
    ),
)
