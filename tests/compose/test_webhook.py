"""deploy/webhook.yml gives the daemon, and no other service, a way to the receiver of alerts."""

import json

import pytest

from tests.compose.project import Project


def test_only_the_daemon_gets_a_way_out(site: Project) -> None:
    files = ("-f", "docker-compose.yml", "-f", "deploy/webhook.yml")
    configured = json.loads(site.run("docker", "compose", *files, "config", "--format", "json"))

    services, networks = configured["services"], configured["networks"]
    with_webhook = [name for name, service in services.items() if "webhook" in (service.get("networks") or {})]
    assert with_webhook == ["daemon"]
    assert not networks["webhook"].get("internal")
    assert services["daemon"]["environment"]["EMOTION_WEBHOOK_URL_FILE"] == "/alerts/url"
    assert services["daemon"]["environment"]["EMOTION_ALERT_RULES"] == "/alerts/rules.toml"
    assert any(volume["target"] == "/alerts" and volume["read_only"] for volume in services["daemon"]["volumes"])


@pytest.mark.parametrize("path", ["/alerts/url", "/alerts/secret", "/alerts/rules.toml"])
def test_the_document_names_each_file(path: str, site: Project) -> None:
    assert path.removeprefix("/") in (site.folder / "docs" / "operate" / "alerts.md").read_text()
