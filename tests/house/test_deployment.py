"""What is deployed, checked as far as it goes without a container engine: by the compose schema, the command's own
parser, and the metrics that the service really has.
"""

from __future__ import annotations

import ipaddress
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("ruamel.yaml", reason="check-jsonschema brings it")
jsonschema = pytest.importorskip("jsonschema", reason="check-jsonschema brings it")
pytest.importorskip("check_jsonschema", reason="brings the compose schema")
pytest.importorskip("prometheus_client", reason="needs the extra service")

from prometheus_client.parser import text_string_to_metric_families
from typer.main import get_command

from leti.cli.main import app
from leti.service.app import create_app
from leti.service.configuration import load_settings
from leti.service.settings import Settings
from leti.service.store import Store
from leti.service.store.metrics import JOB_STATES, TASK_STATES

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
ONE_SHOT = {"migrate"}
OURS = {"web-1", "web-2", "worker", "migrate", "agent"}
BUILT_IN = {"up", "process_resident_memory_bytes"}


def load(path: Path) -> Any:
    return yaml.YAML(typ="safe").load(path.read_text(encoding="utf-8"))


def test_the_compose_file_follows_the_schema(compose: dict[str, Any]) -> None:
    vendored = resources.files("check_jsonschema.builtin_schemas.vendor") / "compose-spec.json"
    schema = json.loads(vendored.read_text(encoding="utf-8"))
    jsonschema.validators.validator_for(schema)(schema).validate(compose)
    assert set(compose["services"]) == OURS | {"postgres", "proxy", "prometheus", "grafana"}


def test_every_service_is_watched_and_has_few_rights(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"]), f"{name} runs as root"
        assert re.search(r":v?\d+\.\d+(\.\d+)?(-|$)", service["image"]), f"{name}: the image has no version"
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name
        assert bool(service["healthcheck"].get("test")) == (name not in ONE_SHOT), name
        assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped"), name
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), f"{name} is open to other machines without TLS"


def test_what_a_service_refers_to_is_there(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert set(service.get("networks", ())) <= set(compose["networks"]), name
        assert set(service.get("secrets", ())) <= set(compose["secrets"]), name
        for needed, how in service.get("depends_on", {}).items():
            check = compose["services"][needed]["healthcheck"]
            assert (how["condition"] == "service_healthy") == bool(check.get("test")), (name, needed)
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (ROOT / source).exists(), (name, source)


def test_replicas_believe_the_proxy_alone_whose_request_it_is(compose: dict[str, Any]) -> None:
    """Wrong tokens are counted by the client's address: by the proxy's, one client would lock the others out."""
    (subnet,) = compose["networks"]["inside"]["ipam"]["config"]
    address = compose["services"]["proxy"]["networks"]["inside"]["ipv4_address"]
    assert ipaddress.ip_address(address) in ipaddress.ip_network(subnet["subnet"])
    assert ipaddress.ip_address(address) not in ipaddress.ip_network(subnet["ip_range"]), "another one may get it first"
    for name, service in compose["services"].items():
        if name.startswith("web-"):
            assert service["environment"]["LETI_TRUSTED_PROXIES"] == address


def test_no_secret_is_written_down(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for key, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|TOKEN|DATABASE_URL", key):
                assert key.endswith("_FILE"), f"{name}: {key} holds a secret in plain text"
                assert Path(value).name in service["secrets"], f"{name}: {value} is not handed in"
    for secret in compose["secrets"].values():
        assert Path(secret["file"]).parent == Path("deploy/secrets")
    ignored = (DEPLOY / "secrets" / ".gitignore").read_text(encoding="utf-8").split()
    assert ignored == ["*", "!.gitignore"]
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "docker-compose.yml", *DEPLOY.rglob("*.*ml"))]
    assert not re.search(r"://[^\s/:]+:[^\s/@]+@", "\n".join(texts)), "a password stands in an address"


def parse(words: list[str]) -> None:
    """Have the command's own parser read ``words``; it raises where they are wrong."""
    command: Any = get_command(app)
    name, parent, left = "leti", None, list(words)
    while True:
        context = command.make_context(name, left, parent=parent)
        if not hasattr(command, "resolve_command"):
            return
        name, command, left = command.resolve_command(context, [*context._protected_args, *context.args])
        parent = context


def commands(compose: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    for name in sorted(OURS):
        service = compose["services"][name]
        yield name, service["command"]
        test = service["healthcheck"].get("test", ["CMD"])
        if test[1:2] == ["leti"]:
            yield f"{name}'s health", test[2:]
    for line in re.findall(r"(?m)^CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(encoding="utf-8")):
        yield "Dockerfile", json.loads(line)


def test_the_command_knows_every_word_that_it_is_started_with(compose: dict[str, Any], tmp_path: Path) -> None:
    found = list(commands(compose))
    assert len(found) == len(OURS) + 1 + 2
    for _, words in found:
        parse(words)
    with pytest.raises(Exception, match="No such option"):
        parse(["serve", "--replicas", "2"])


def test_the_service_takes_every_setting_that_it_is_given(compose: dict[str, Any], tmp_path: Path) -> None:
    secret = tmp_path / "database_url"
    secret.write_text("postgresql://leti:horse@postgres/leti\n", encoding="utf-8")
    for name in OURS - {"agent"}:
        environment = {key: str(value) for key, value in compose["services"][name]["environment"].items()}
        settings = load_settings(None, {**environment, "LETI_DATABASE_URL_FILE": str(secret)})
        assert not settings.migrate_on_start, "replicas must not race to migrate"
        assert settings.database_url.startswith("postgresql://")
        grace_s = int(compose["services"][name].get("stop_grace_period", "10s").removesuffix("s"))
        assert name == "migrate" or grace_s > settings.drain_s + settings.stop_s, f"{name} is killed before it ends"


def test_images_run_as_a_user_of_their_own_and_say_how_they_are() -> None:
    stages = re.split(r"(?m)^FROM ", (ROOT / "Dockerfile").read_text(encoding="utf-8"))[1:]
    by_name: Mapping[str, str] = {stage.split()[2]: stage for stage in stages}
    assert "USER 10001:10001" in by_name["base"]
    for name in ("service", "agent"):
        assert by_name[name].startswith("base AS")
        assert "HEALTHCHECK" in by_name[name]
        assert "USER" not in by_name[name]
    for image in re.findall(r"(?m)^FROM (\S+:\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8")):
        assert re.search(r":\d+\.\d+\.\d+", image), f"{image} has no version"
    copied = set(re.findall(r"(?m)^COPY (\w+) \1$", (ROOT / "Dockerfile").read_text(encoding="utf-8")))
    assert copied == {path.parents[1].name for path in (ROOT).glob("*/leti/*/py.typed") for path in [path.parent]}


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the series that /metrics has."""
    settings = Settings(tmp_path_factory.mktemp("home"), auth=False)
    store = Store.open(settings)
    text = create_app(store, settings).state.parts.metrics.text().decode()
    store.close()
    endings = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}
    return {
        family.name + ending for family in text_string_to_metric_families(text) for ending in endings[family.type]
    } | BUILT_IN


def check_expression(expression: str, series: set[str], where: str) -> None:
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\b(by|on|without) \([^)]*\)|\[\w+\]', " ", expression)
    names = {name for name in re.findall(r"\b[a-z]+(?:_[a-z0-9]+)*\b", bare) if "_" in name or name == "up"}
    names -= {"histogram_quantile"}
    assert names, where
    assert names <= series, f"{where}: {names - series} is not in /metrics"
    assert expression.count("(") == expression.count(")"), where
    for state in re.findall(r'state="(\w+)"', expression):
        assert state in (*JOB_STATES, *TASK_STATES), where
    for route in re.findall(r'route="([^"]+)"', expression):
        assert route == "/v1/predictions", where


def test_alerts_speak_of_metrics_that_are_there(series: set[str]) -> None:
    rules = [rule for group in load(DEPLOY / "alerts.yml")["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 10
    for rule in rules:
        check_expression(rule["expr"], series, rule["alert"])
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        if re.search(r"leti_(jobs|lease|device|task|prediction_error)", rule["expr"]):
            assert rule["expr"].startswith("max by"), f"{rule['alert']}: every replica reports the same farm"


def test_the_board_shows_metrics_that_are_there(series: set[str]) -> None:
    board = json.loads((DEPLOY / "grafana" / "dashboards" / "leti.json").read_text(encoding="utf-8"))
    source = load(DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml")["datasources"][0]["uid"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"]) > 10
    for panel in board["panels"]:
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == source
            check_expression(target["expr"], series, panel["title"])
    shown = json.dumps(board)
    missing = {name for name in series - BUILT_IN if name.startswith("leti_") and name not in shown}
    assert not {
        name for name in missing if not name.endswith(("_count", "_sum", "_info", "_up", "_kept", "_scored"))
    } - {
        "leti_leases",
        "leti_lease_overdue_seconds",
        "leti_task_oldest_age_seconds",
    }, "a metric that nobody looks at"


def test_prometheus_asks_every_replica(compose: dict[str, Any]) -> None:
    (job,) = load(DEPLOY / "prometheus.yml")["scrape_configs"]
    replicas = {f"{name}:8000" for name in compose["services"] if name.startswith("web-")}
    assert set(job["static_configs"][0]["targets"]) == replicas
    assert replicas <= set((DEPLOY / "Caddyfile").read_text(encoding="utf-8").split())
    assert Path(job["authorization"]["credentials_file"]).name in compose["services"]["prometheus"]["secrets"]


def test_what_an_image_is_built_of_is_sent_to_the_builder() -> None:
    left_out, *taken = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert left_out == "*"
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    copied = {word for line in re.findall(r"(?m)^COPY (?!--from)(.*) \S+$", text) for word in line.split()}
    rooms = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    assert copied >= {path.split("/")[0] for path in rooms["targets"]["wheel"]["only-include"]}
    assert {f"!{name}" for name in copied} <= set(taken)
    assert all((ROOT / name).exists() for name in copied)
