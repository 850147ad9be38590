"""python -m emotion_device simulate: cameras without hardware. Composition root of the simulation.

One thread lives the lives of all devices in the order of their due times, and one more (`Network`) carries all their
connections: 3 devices and 500 run the same way.
"""

import argparse
import heapq
import logging
import math
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import TextIO

from emotion_device.command_line import PROGRAM, Parser
from emotion_device.publisher import FaultyPublisher, Network, Reply
from emotion_device.workbench.simulator import SimulatedDevice, Troubles
from shared.batch import DEVICE_ID, EMOTIONS
from shared.settings import Settings, SettingsError

_MAX_DEVICES = 5_000
_MAX_RATE = 100.0
_MAX_CLOCK_DRIFT = timedelta(seconds=2)
_CLOSE_SECONDS = 5.0


class UsageError(ValueError):
    """Raised when what the command line asks for cannot work. Its text is one sentence for the operator."""


@dataclass(slots=True)
class Tally:
    """Counts of the daemon's replies. Only the network's thread writes them."""

    ok: int = 0
    errors: int = 0
    last_error: str = ""

    def count(self, reply: Reply) -> None:
        if reply.status == "ok":
            self.ok += 1
        else:
            self.errors += 1
            self.last_error = reply.error or "no reason given"


class Progress:
    """One line, rewritten in place on a terminal and written every 10 seconds elsewhere; notices go above it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._every = 0.5 if self._terminal else 10.0
        self._next = 0.0
        self._shown = ""

    def show(self, line: Callable[[], str], now: float) -> None:
        """Show what `line` returns, if it is time to; `now` is monotonic seconds."""
        if now < self._next:
            return
        self._next = now + self._every
        if self._terminal:
            self._shown = line()[: shutil.get_terminal_size().columns - 1]
            self._write(f"\r{self._shown}\x1b[K")
        else:
            self._write(line() + "\n")

    def notice(self, text: str) -> None:
        """Write a line of its own and the progress line, if there is one, below it."""
        self._write(f"\r{text}\x1b[K\n{self._shown}" if self._terminal else text + "\n")

    def end(self) -> None:
        """Erase the progress line."""
        if self._terminal:
            self._write("\r\x1b[K")
        self._shown = ""

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class Notices(logging.Handler):
    """Log lines above the progress line. What many devices say at once is said by the first of them."""

    QUIET_SECONDS = 5.0

    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.INFO)
        self._progress = progress
        self._said: dict[object, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        arguments = record.args[1:] if isinstance(record.args, tuple) else ()
        key = (record.msg, arguments)
        if record.created - self._said.get(key, -math.inf) >= self.QUIET_SECONDS:
            self._said[key] = record.created
            self._progress.notice(self.format(record))


class Simulation:
    """Devices with their publishers, each due once a period and all spread evenly over it."""

    def __init__(self, devices: Sequence[tuple[SimulatedDevice, FaultyPublisher]], *, rate: float) -> None:
        self._devices = devices
        self._period = timedelta(seconds=1 / rate)
        self._began = time.monotonic()
        self._clock = datetime.now(UTC) - timedelta(seconds=self._began)
        seconds = self._period.total_seconds()
        self._due = [(self._began + seconds * (1 + i / len(devices)), i) for i in range(len(devices))]

    def run_due(self, now: float) -> float:
        """Step every device that is due at `now` (monotonic seconds) and return when the next one is."""
        while self._due[0][0] <= now:
            due, i = self._due[0]
            device, publisher = self._devices[i]
            batch = device.step(self._period, now=self._stamp(due))
            publisher.publish(batch.people, batch.timestamp)
            if batch.malformed is not None:
                publisher.publish_raw(batch.malformed, batch.timestamp)
            # A device that is late by more than a period omits steps: no life is lived faster to catch up.
            following = due + self._period.total_seconds()
            heapq.heapreplace(self._due, (following if following > now - self._period.total_seconds() else now, i))
        return self._due[0][0]

    def progress(self, tally: Tally) -> str:
        sent, acknowledged = self._sent_acknowledged()
        connected = sum(publisher.connected for _, publisher in self._devices)
        in_view = sum(device.people_in_view for device, _ in self._devices)
        return (
            f"{time.monotonic() - self._began:.0f} s: {connected} of {len(self._devices)} connected, {sent} sent, "
            f"{acknowledged} acknowledged, replies: {tally.ok} ok, {tally.errors} errors, {in_view} people in view"
        )

    def summary(self, tally: Tally) -> str:
        sent, acknowledged = self._sent_acknowledged()
        truth = {emotion: sum(device.truth[emotion] for device, _ in self._devices) for emotion in EMOTIONS}
        shown = ", ".join(f"{emotion} {seconds:.0f}" for emotion, seconds in truth.items())
        last_error = f" (the last: {tally.last_error})" if tally.last_error else ""
        return (
            f"{len(self._devices)} devices in {time.monotonic() - self._began:.0f} s: {sent} messages sent, "
            f"{acknowledged} acknowledged, replies: {tally.ok} ok, {tally.errors} errors{last_error}; "
            f"seconds shown: {shown}"
        )

    def acknowledged_any(self) -> bool:
        return self._sent_acknowledged()[1] > 0

    def _sent_acknowledged(self) -> tuple[int, int]:
        publishers = [publisher for _, publisher in self._devices]
        return sum(p.sent for p in publishers), sum(p.acknowledged for p in publishers)

    def _stamp(self, due: float) -> datetime:
        """The time of day of `due`. The clock is read again if the computer slept or its clock was set."""
        clock = datetime.now(UTC) - timedelta(seconds=time.monotonic())
        if abs(clock - self._clock) > _MAX_CLOCK_DRIFT:
            self._clock = clock
        return self._clock + timedelta(seconds=due)


class Stop:
    """Set by the first SIGINT or SIGTERM; the second one ends the process at once."""

    def __init__(self) -> None:
        self.requested = False
        signal.signal(signal.SIGINT, self._request)
        signal.signal(signal.SIGTERM, self._request)

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Simulate. Returns the exit code: 0, 1 if a limited run reached no broker, 2 for wrong arguments."""
    try:
        settings = Settings.from_environ(environ)
    except SettingsError as error:
        return _refuse(error)
    for sentence in settings.unknown:
        print(f"{PROGRAM}: {sentence}", file=sys.stderr)
    arguments = command_parser(settings).parse_args(argv)
    network, tally = Network(), Tally()
    try:
        simulation = Simulation(_devices(arguments, network, tally), rate=arguments.rate)
    except UsageError as error:
        network.close(0)
        return _refuse(error)
    return _simulate(simulation, network, tally, duration=arguments.duration)


def _refuse(error: Exception) -> int:
    print(f"{PROGRAM}: {error}", file=sys.stderr)
    return 2


def _simulate(simulation: Simulation, network: Network, tally: Tally, *, duration: float | None) -> int:
    stop = Stop()
    progress = Progress(sys.stderr)
    logging.basicConfig(level=logging.INFO, handlers=[Notices(progress)], format="%(levelname)s %(message)s")
    now = time.monotonic()
    end = math.inf if duration is None else now + duration
    while not stop.requested and now < end:
        due = simulation.run_due(now)
        progress.show(lambda: simulation.progress(tally), now)
        # In slices, because a signal only sets a flag and does not cut the sleep short.
        time.sleep(min(max(due - time.monotonic(), 0), max(end - time.monotonic(), 0), 0.1))
        now = time.monotonic()
    progress.end()
    network.close(_CLOSE_SECONDS)
    print(simulation.summary(tally))
    if not stop.requested and not simulation.acknowledged_any():
        print(f"{PROGRAM}: the broker took nothing in all this time", file=sys.stderr)
        return 1
    return 0


def _devices(
    arguments: argparse.Namespace, network: Network, tally: Tally
) -> list[tuple[SimulatedDevice, FaultyPublisher]]:
    device_ids = [f"{arguments.device_prefix}{number}" for number in range(1, arguments.devices + 1)]
    skewed, skew = arguments.clock_skew
    if skewed is not None and skewed not in device_ids:
        raise UsageError(f"--clock-skew names {skewed!r}, but the devices are {device_ids[0]} to {device_ids[-1]}")
    passwords = _passwords(arguments.password_file, device_ids)
    _allow_open_files(len(device_ids))
    devices = []
    for index, device_id in enumerate(device_ids):
        troubles = Troubles(
            restart_every=arguments.restart_every,
            clock_skew=skew if skewed in (None, device_id) else timedelta(0),
            malformed=arguments.malformed,
        )
        device = SimulatedDevice(
            device_id, seed=arguments.seed, index=index, most_people=arguments.people, troubles=troubles
        )
        try:
            publisher = FaultyPublisher(
                device_id,
                host=arguments.host,
                port=arguments.port,
                username=arguments.username,
                password=passwords.get(device_id),
                tls_ca=arguments.tls_ca,
                topic_prefix=arguments.prefix,
                on_reply=tally.count,
                network=network,
            )
        except ValueError as error:
            raise UsageError(str(error)) from error
        devices.append((device, publisher))
    return devices


def _passwords(path: Path | None, device_ids: Sequence[str]) -> Mapping[str, str]:
    """Return the password of each device: one line is for all, several are device_id:password."""
    if path is None:
        return {}
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--password-file {str(path)!r} cannot be read: {error}") from error
    if not lines:
        raise UsageError(f"--password-file {str(path)!r} is empty")
    if len(lines) == 1:
        return dict.fromkeys(device_ids, lines[0].strip())
    passwords = {name.strip(): password.strip() for name, _, password in (line.partition(":") for line in lines)}
    for device_id in device_ids:
        if not passwords.get(device_id):
            raise UsageError(f"--password-file {str(path)!r} has no line {device_id}:password")
    return passwords


def _allow_open_files(devices: int) -> None:
    """Raise this process's limit of open files if there are more devices than it allows."""
    with suppress(ImportError):  # Windows has neither the module nor the limit
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        needed = devices + 50
        if soft != resource.RLIM_INFINITY and soft < needed:
            if hard != resource.RLIM_INFINITY and hard < needed:
                raise UsageError(f"{devices} devices need {needed} open files, but the limit is {hard}: ulimit -Hn")
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def command_parser(settings: Settings) -> argparse.ArgumentParser:
    """Return the parser of `simulate`; the settings are the defaults of its options."""
    parser = Parser(
        prog=f"{PROGRAM} simulate",
        description="Play cameras that publish to a broker, until Ctrl-C or for --duration.",
    )
    add = parser.add_argument
    add("--devices", type=_whole(1, _MAX_DEVICES), default=3, help="how many cameras (%(default)s)")
    add("--people", type=_whole(0, 1_000), default=8, help="how many people each sees at most (%(default)s)")
    add("--rate", type=_number(0.001, _MAX_RATE), default=1.0, help="batches a second and camera (%(default)g)")
    add("--seed", type=_whole(0, 2**63), default=1, help="the same seed plays the same lives (%(default)s)")
    add(
        "--duration",
        type=_number(0.1, 1e9),
        metavar="SECONDS",
        help="end after this time; without it, play until Ctrl-C",
    )
    add("--host", default=settings.mqtt_host, help="the broker (EMOTION_MQTT_HOST, now %(default)s)")
    add(
        "--port",
        type=_whole(1, 65535),
        default=settings.mqtt_port,
        help="its port (EMOTION_MQTT_PORT, now %(default)s)",
    )
    add(
        "--username",
        help="one login for all cameras; without it, each uses its device id. EMOTION_MQTT_USERNAME does not count "
        "here, because a second client with the daemon's login would end the daemon's connection",
    )
    add(
        "--password-file",
        type=Path,
        metavar="FILE",
        help="the password in one line, or a line device_id:password for each camera; without it, no login",
    )
    add(
        "--tls-ca",
        default=settings.mqtt_tls_ca,
        metavar="FILE",
        help="CA certificate: turns TLS on (EMOTION_MQTT_TLS_CA)",
    )
    add(
        "--prefix",
        default=settings.mqtt_topic_prefix,
        help="first topic level (EMOTION_MQTT_TOPIC_PREFIX, now %(default)s)",
    )
    add(
        "--device-prefix",
        type=_device_prefix,
        default="jetson_",
        help="device ids are this and 1, 2, 3, … (%(default)s)",
    )
    add(
        "--restart-every",
        type=_seconds(0.1),
        metavar="SECONDS",
        help="restart the program of each camera after this time: counters and person ids start anew",
    )
    add(
        "--clock-skew",
        type=_clock_skew,
        default=(None, timedelta(0)),
        metavar="[DEVICE=]SECONDS",
        help="seconds that the clock of all cameras, or of one, is ahead; negative: behind",
    )
    add(
        "--malformed",
        type=_number(0.0, 1.0),
        default=0.0,
        metavar="SHARE",
        help="after this share of the batches, 0 to 1, also send a malformed message",
    )
    return parser


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"is {text!r}, but it is a whole number from {least} to {most}")
        return int(text)

    return parse


def _number(least: float, most: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"is {text!r}, but it is a number from {least:g} to {most:g}")
        return value

    return parse


def _seconds(least: float) -> Callable[[str], timedelta]:
    number = _number(least, 1e9)
    return lambda text: timedelta(seconds=number(text))


def _clock_skew(text: str) -> tuple[str | None, timedelta]:
    device_id, equals, seconds = text.rpartition("=")
    return device_id if equals else None, timedelta(seconds=_number(-1e9, 1e9)(seconds))


def _device_prefix(text: str) -> str:
    if not DEVICE_ID.fullmatch(f"{text}{_MAX_DEVICES}"):
        raise argparse.ArgumentTypeError(f"is {text!r}, but a device id is 1 to 64 of A-Z a-z 0-9 . _ : -")
    return text
