"""The generated parts of the documents, and the files that repeat the settings."""

import re

import pytest
import yaml

from shared.settings import PREFIX, SECRETS
from tests.documents.configuration import all_settings, example_lines, readers
from tests.documents.generate import PARTS, documents
from tests.documents.markdown import part_names, with_parts
from tests.processes import ROOT

SETTINGS = {each.variable: each for each in all_settings()}
SYSTEMD = ("settings", "emotion-daemon.service", "emotion-api.service")
VARIABLES = {*SETTINGS, *(f"{PREFIX}{name}_FILE" for name in SECRETS)}

NOT_IN_COMPOSE = {
    "EMOTION_MQTT_PORT": "the broker's container listens on the default",
    "EMOTION_MQTT_TLS_CA": "the daemon reaches the broker in a network of this machine",
    "EMOTION_MQTT_CLIENT_ID": "the roles and the queued messages belong to the default",
    "EMOTION_MQTT_TOPIC_PREFIX": "the roles in the broker belong to the default",
    **dict.fromkeys(
        ("EMOTION_WEBHOOK_URL", "EMOTION_WEBHOOK_SECRET", "EMOTION_ALERT_RULES"), "deploy/webhook.yml sets them"
    ),
    "EMOTION_RABBITMQ_URL": "deploy/rabbitmq/docker-compose.yml sets it",
}
"""The settings that docker-compose.yml leaves out, with the reason."""

NOT_IN_SYSTEMD = {
    "EMOTION_MQTT_CLIENT_ID": "the roles and the queued messages belong to the default",
    "EMOTION_MQTT_TOPIC_PREFIX": "the roles in the broker belong to the default",
}
"""The settings that deploy/systemd leaves out, with the reason."""


@pytest.mark.parametrize("document", documents().items(), ids=lambda each: str(each[0].relative_to(ROOT)))
def test_a_document_has_what_scripts_docs_writes(document: tuple[object, str]) -> None:
    _, text = document

    assert with_parts(text, PARTS) == text, "run scripts/docs"


def test_every_part_stands_in_one_document() -> None:
    assert sorted(name for text in documents().values() for name in part_names(text)) == sorted(PARTS)


def test_every_setting_has_a_meaning_and_a_reader() -> None:
    assert len(PARTS["settings"]().splitlines()[2:]) == len(SETTINGS)
    assert [name for name, each in SETTINGS.items() if not each.meaning.strip() or not list(readers(each))] == []


def test_env_example_has_the_defaults_of_the_settings() -> None:
    lines = [line for line in example_lines() if line.name.startswith(PREFIX)]

    assert lines
    for line in lines:
        assert f"`{line.value}`" == SETTINGS[line.name].default or (
            not line.value and SETTINGS[line.name].default in ("none", "never")
        ), line.name


def test_every_variable_of_env_example_has_a_comment() -> None:
    assert [line.name for line in example_lines() if not line.comment] == []


def test_docker_compose_reads_exactly_the_variables_of_env_example() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    read = set(re.findall(r"(?<!\$)\$\{(\w+)", text))

    listed = {line.name for line in example_lines()}
    # Docker sets the project's name itself; a token in .env ends the API with a sentence.
    assert read - {"COMPOSE_PROJECT_NAME", "EMOTION_API_TOKEN"} == listed - {"COMPOSE_PROFILES", "COMPOSE_FILE"}


def test_docker_compose_sets_every_setting_and_nothing_else() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    names = {name for each in services.values() for name in each.get("environment", {}) if name.startswith(PREFIX)}

    assert names
    assert names <= VARIABLES
    assert SETTINGS.keys() - without_file(names) == NOT_IN_COMPOSE.keys()


def test_systemd_names_every_setting() -> None:
    texts = [(ROOT / "deploy" / "systemd" / file).read_text(encoding="utf-8") for file in SYSTEMD]
    names = {name for text in texts for name in re.findall(rf"({PREFIX}\w+)=", text)}

    assert SETTINGS.keys() - without_file(names) == NOT_IN_SYSTEMD.keys()


def without_file(names: set[str]) -> set[str]:
    """Return the settings of these variables: NAME_FILE is the file of NAME."""
    return {name.removesuffix("_FILE") for name in names}


@pytest.mark.parametrize("file", SYSTEMD)
def test_the_files_of_systemd_name_only_settings(file: str) -> None:
    text = (ROOT / "deploy" / "systemd" / file).read_text(encoding="utf-8")
    names = set(re.findall(rf"{PREFIX}\w+", text))

    assert names
    assert names <= VARIABLES
