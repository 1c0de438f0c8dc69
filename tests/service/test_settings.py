"""Settings: where they come from, which one wins, and that every one of them is documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from leti.core.errors import InvalidInput
from leti.service.configuration import BY_FILE, FIELDS, OTHERS, configure, environment_name, load_settings, page
from leti.service.settings import Settings

ROOT = Path(__file__).parents[2]


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "leti.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_page_is_what_the_class_says() -> None:
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == page(), (
        "leti settings --markdown > docs/settings.md"
    )
    for name, field in FIELDS.items():
        assert re.fullmatch(r"[A-Z`].+[.]", field.metadata["doc"]), f"{name} has no line of documentation"
        assert f"`{environment_name(name)}`" in page()


def test_the_later_one_wins(tmp_path: Path) -> None:
    file = written(tmp_path, '[service]\nlease_s = 90\nmax_deaths = 4\nhome = "from-file"\nmetrics_public = true\n')
    environment = {"LETI_MAX_DEATHS": "5", "LETI_HOME": "/from/environment", "LETI_URL": "http://x", "PATH": "/bin"}
    found = configure(file, environment, home=tmp_path, database_url=None)
    settings = found.settings
    assert (settings.lease_s, settings.max_deaths, settings.home) == (90.0, 5, tmp_path)
    assert settings.metrics_public is True
    assert settings == Settings(tmp_path, lease_s=90.0, max_deaths=5, metrics_public=True)
    assert found.origins == {
        "lease_s": f"{file}, [service] lease_s",
        "metrics_public": f"{file}, [service] metrics_public",
        "max_deaths": "LETI_MAX_DEATHS",
        "home": "the command line",
    }
    assert load_settings() == Settings()


def test_a_secret_comes_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "database_url"
    secret.write_text("postgresql://leti:horse@db/leti\n", encoding="utf-8")
    found = configure(None, {"LETI_DATABASE_URL_FILE": str(secret)})
    assert found.settings.database_url == "postgresql://leti:horse@db/leti"
    assert found.origins == {"database_url": "LETI_DATABASE_URL_FILE"}
    with pytest.raises(InvalidInput, match="both set"):
        load_settings(None, {"LETI_DATABASE_URL_FILE": str(secret), "LETI_DATABASE_URL": "postgresql://db/x"})
    with pytest.raises(InvalidInput, match=r"LETI_DATABASE_URL_FILE names .*No such file"):
        load_settings(None, {"LETI_DATABASE_URL_FILE": str(tmp_path / "nowhere")})
    with pytest.raises(InvalidInput, match="LETI_LEASE_S_FILE"):  # only secrets may be files
        load_settings(None, {"LETI_LEASE_S_FILE": str(secret)})


@pytest.mark.parametrize(
    ("text", "environment", "said"),
    [
        ("[service]\nleases_s = 3", {}, r"leases_s: is no setting \(from .*leti.toml\) \(is lease_s meant\?"),
        ("[services]\nlease_s = 3", {}, r"services: is no setting .*is service meant"),
        ("service = 3", {}, r"service: .*is not a table"),
        ("[service", {}, r"--config: .*leti.toml: is not TOML"),
        ('[service]\nlease_s = "90"', {}, r"lease_s: '90' is not a number .*lease_s\) \(give a number of seconds\)"),
        ("[service]\nlease_s = true", {}, "lease_s: True is not a number"),
        ("[service]\nlease_s = inf", {}, "lease_s: inf is not a number"),
        ("[service]\nlease_s = 0", {}, r"lease_s: must be above 0, not 0.0 \(from .*\[service\] lease_s"),
        ("[service]\nmax_deaths = 2.5", {}, "max_deaths: 2.5 is not a whole number"),
        ("[service]\nhome = 3", {}, "home: 3 is not a path"),
        ("[service]\ndatabase_url = 77123", {}, "database_url: what was given is not a text"),
        ("", {"LETI_LEASE_S": "a minute"}, r"lease_s: 'a minute' is not a number \(from LETI_LEASE_S\)"),
        ("", {"LETI_MAX_BODY_BYTES": "32M"}, r"max_body_bytes: '32M' is not a whole number .*\(give .* of bytes\)"),
        ("", {"LETI_METRICS_PUBLIC": "perhaps"}, "metrics_public: 'perhaps' is not true or false"),
        ("", {"LETI_LOG_LEVEL": "loud"}, "log_level: must be one of debug, info, warning, error, not 'loud'"),
        ("", {"LETI_LEASE": "60"}, r"LETI_LEASE: is no setting \(from the environment\) \(is LETI_LEASE_S meant\?"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, environment: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidInput) as error:
        load_settings(written(tmp_path, text), environment)
    assert re.match(said, str(error.value)), str(error.value)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="No such file"):
        load_settings(tmp_path / "leti.toml")


def test_values_given_in_code_are_checked_as_well(tmp_path: Path) -> None:
    for given in ({"lease_s": 0.0}, {"min_networks": 19}, {"log_level": "loud"}, {"max_batch": -1}):
        with pytest.raises(InvalidInput) as error:
            Settings(tmp_path, **given)  # type: ignore[arg-type]
        assert error.value.field in given


def test_the_environment_knows_every_name_that_other_commands_read() -> None:
    rooms = ("cli", "device_agents", "client")
    sources = "\n".join(path.read_text(encoding="utf-8") for room in rooms for path in (ROOT / room).rglob("*.py"))
    read = set(re.findall(r'"(LETI_[A-Z_]+)"', sources))
    settings = {environment_name(name) + ending for name in FIELDS for ending in ("", BY_FILE)}
    assert read <= OTHERS | settings, "add it to configuration.OTHERS"
