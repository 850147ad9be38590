import pytest

from emotion_admin.doctor.services import Service, judge

WELL = ("secrets exited 0 0", "gate running/healthy 0 0", "mosquitto.service active/running 0 0")


def found(*texts: str) -> list[tuple[str, str]]:
    return [(finding.level, finding.found) for finding in judge([Service.parse(text) for text in texts])]


def test_services_that_run_are_ok() -> None:
    assert found(*WELL, "daemon running/starting 0 0", "api running/healthy 7 0") == [("ok", "all run")]


def test_one_that_was_stopped_is_named() -> None:
    assert found(*WELL, "daemon exited 0 0", "emotion-api.service inactive/dead 0 0") == [
        ("ok", "stopped: daemon, emotion-api.service")
    ]


@pytest.mark.parametrize(
    "state", ["restarting", "restarting/unhealthy", "activating/auto-restart", "running/starting", "activating/start"]
)
def test_one_that_starts_again_and_again_is_a_problem_that_names_its_log(state: str) -> None:
    name = "emotion-daemon.service" if state.startswith("activating") else "mosquitto"
    (problem,) = judge([Service.parse(text) for text in (*WELL, f"{name} {state} 12 3")])

    assert problem.level == "problem"
    assert problem.found == f"{name} ends and starts again and again: 12 restarts, exit code 3"
    assert ("journalctl -n 50 -u" if name.endswith(".service") else "docker compose logs --tail 50") in problem.advice


@pytest.mark.parametrize("state", ["running/unhealthy", "paused", "paused/healthy", "dead/unhealthy", "failed/failed"])
def test_one_that_does_not_work_is_a_problem(state: str) -> None:
    assert found(*WELL, f"daemon {state} 0 1") == [("problem", f"daemon is {state.replace('/', ' and ')}")]


def test_a_loop_comes_before_what_may_follow_from_it() -> None:
    levels = found("daemon running/unhealthy 0 0", "gate exited/unhealthy 0 0", "mosquitto restarting/unhealthy 5 3")

    assert [text.split()[0] for _, text in levels] == ["mosquitto", "daemon", "stopped:"]


@pytest.mark.parametrize("text", ["", "mosquitto", "mosquitto running x 0"])
def test_another_text_is_no_state(text: str) -> None:
    with pytest.raises(ValueError, match=r"unpack|literal"):
        Service.parse(text)
