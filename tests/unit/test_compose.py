"""docker-compose.yml, as far as it can be tried without Docker."""

from __future__ import annotations

import json
import os
import re
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from mlaudit.settings import Settings
from mlaudit.stack.cache import cache_dir
from mlaudit.stack.collector_build import BINARY, build_key, collector_version, config_dir, toolchain
from mlaudit.stack.collector_process import FEATURE_GATES

TOP = Path(__file__).parents[2]
DOCKERFILE = TOP / "examples/service/Dockerfile"
JOBS = {"certificates", "users", "install", "train"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file with its anchors resolved."""
    loaded: dict[str, Any] = yaml.safe_load((TOP / "docker-compose.yml").read_text())
    return loaded


@pytest.fixture(scope="module")
def services(compose) -> dict[str, Any]:
    """Its services."""
    found: dict[str, Any] = compose["services"]
    return found


def test_file_follows_the_compose_specification(compose):
    """Valid against the specification's own schema, which check-jsonschema carries."""
    vendored = resources.files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json")
    jsonschema.validate(compose, json.loads(vendored.read_text()))


def test_schema_finds_a_fault(compose):
    """The schema is one that can fail."""
    vendored = resources.files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json")
    broken = compose | {"services": {"x": {"imagee": "y"}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, json.loads(vendored.read_text()))


def test_every_port_is_published_on_loopback_only(services):
    """Nothing is reachable from another machine unless somebody decides it."""
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert len(published) == 4
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in published)


def test_no_secret_has_a_value_or_a_default(compose):
    """Secrets come from .env, required: no default password, none in the file."""
    text = (TOP / "docker-compose.yml").read_text()
    variables = re.findall(r"(?<!\$)\$\{(\w+)([^}]*)\}", text)
    assert {name for name, _ in variables} == {"KIBANA_PASSWORD", "KIBANA_ENCRYPTION_KEY"}
    assert all(condition.startswith(":?") for _, condition in variables)
    required = {name for name, _ in variables} | {
        secret["environment"] for secret in compose["secrets"].values()
    }
    listed = re.findall(r"^(\w+)=(.*)$", (TOP / ".env.example").read_text(), re.MULTILINE)
    assert {name for name, _ in listed} == required
    assert not [name for name, value in listed if value]


def test_documented_one_liner_makes_every_secret(tmp_path):
    """The line in .env.example fills each empty line with its own random value, readable by the owner only."""
    text = (TOP / ".env.example").read_text()
    (tmp_path / ".env.example").write_text(text)
    line = re.search(r"^#\s+(\(umask .*)$", text, re.MULTILINE)
    assert line is not None
    subprocess.run(["sh", "-c", line[1]], cwd=tmp_path, check=True, timeout=30)
    made = dict(re.findall(r"^(\w+)=(.*)$", (tmp_path / ".env").read_text(), re.MULTILINE))
    assert len(made) == 7
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in made.values())
    assert len(set(made.values())) == 7
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600


def test_secrets_are_mounted_for_one_user_only(compose, services):
    """Each secret that a service gets is declared, and readable by that service's user alone."""
    mounted = [entry for service in services.values() for entry in service.get("secrets", [])]
    assert {entry["source"] for entry in mounted} == set(compose["secrets"])
    assert all(entry["mode"] == 0o400 and entry["uid"] in ("1000", "10001", "10002") for entry in mounted)


def test_services_are_limited_hardened_and_watched(services):
    """Each has a memory limit; whatever runs on has a health check and comes back; jobs do not."""
    for name, service in services.items():
        assert service["mem_limit"], name
        if name in JOBS:
            assert service["restart"] == "no", name
        else:
            assert service["restart"] == "unless-stopped", name
            assert "healthcheck" in service, name
        if name != "certificates":
            assert service["cap_drop"] == ["ALL"], name
            assert service["security_opt"] == ["no-new-privileges:true"], name
    assert services["certificates"]["network_mode"] == "none"


def test_images_are_pinned_to_the_versions_that_were_tried(services):
    """Elasticsearch and Kibana 9.2, and the collector of the same version as the one that is built here."""
    assert services["elasticsearch"]["image"] == "elasticsearch:9.2.0"
    assert services["kibana"]["image"] == "kibana:9.2.0"
    version = collector_version(config_dir())
    assert services["collector"]["image"] == f"otel/opentelemetry-collector-contrib:{version}"


def test_everything_waits_for_what_it_needs(services):
    """Every condition names a service that can meet it: a job completes, a server becomes healthy."""
    for service in services.values():
        for needed, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_completed_successfully":
                assert needed in JOBS
            elif how["condition"] == "service_healthy":
                assert not services[needed]["healthcheck"].get("disable")
    collector = services["collector"]["depends_on"]
    assert collector["install"] == {"condition": "service_completed_successfully"}


def test_named_volumes_are_declared_and_used(compose, services):
    """Nothing durable lives in a container; nothing is declared in vain."""
    used = {
        volume.split(":")[0]
        for service in services.values()
        for volume in service.get("volumes", [])
        if not volume.startswith("./")
    }
    assert used == set(compose["volumes"])


def test_mounted_and_copied_files_exist(services):
    """Each file that compose mounts or the image copies is in the checkout and not kept from the build."""
    mounts = [
        volume.split(":")[0]
        for service in services.values()
        for volume in service.get("volumes", [])
        if volume.startswith("./")
    ]
    assert len(mounts) == 2
    ignored = (TOP / "examples/service/Dockerfile.dockerignore").read_text().splitlines()
    copied = [
        source
        for line in re.findall(r"^COPY (?!--|<<)(.+)$", DOCKERFILE.read_text(), re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert "examples/service/app.py" in copied
    for name in (*mounts, *copied):
        assert (TOP / name).exists(), name
    assert all(f"!{name}" in ignored for name in copied)
    assert "*" in ignored


def test_job_scripts_are_valid_shell(services):
    """The shell that would run them accepts them."""
    scripts = [services[name]["command"][0].replace("$$", "$") for name in ("certificates", "users")]
    for script in scripts:
        subprocess.run(["bash", "-n", "-c", script], check=True, timeout=30)


def test_users_job_sends_the_passwords_of_the_secrets(services, tmp_path):
    """The script, run with a stand-in for curl, sets three passwords and gives two users their roles."""
    script = services["users"]["command"][0].replace("$$", "$").replace("/run/secrets", str(tmp_path))
    for name in ("elastic", "kibana", "writer", "telemetry"):
        (tmp_path / f"{name}_password").write_text(f"{name}-secret\n")
    curl = tmp_path / "bin/curl"
    curl.parent.mkdir()
    curl.write_text(
        "#!/bin/bash\n"
        f'for a; do [[ $a == /dev/fd/* ]] && cat "$a" >> {tmp_path}/login; done\n'
        f'echo "${{@: -1}} $(cat)" >> {tmp_path}/calls\n'
        f'echo "$@" >> {tmp_path}/arguments\n'
    )
    curl.chmod(0o755)
    environment = {"PATH": f"{curl.parent}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], check=True, env=environment, timeout=30)
    base = "https://elasticsearch:9200/_security/user"
    assert (tmp_path / "calls").read_text().splitlines() == [
        f'{base}/kibana_system/_password {{"password":"kibana-secret"}}',
        f'{base}/mlaudit-writer {{"password":"writer-secret","roles":["mlaudit_writer"]}}',
        f'{base}/mlaudit-telemetry {{"password":"telemetry-secret","roles":["mlaudit_telemetry"]}}',
    ]
    assert set((tmp_path / "login").read_text().splitlines()) == {'user = "elastic:elastic-secret"'}
    assert "secret" not in (tmp_path / "arguments").read_text().replace("/secrets", "")


def test_prepare_script_of_the_image_makes_what_the_service_reads(tmp_path):
    """Users can log in with the secret; an existing configuration is left alone."""
    script = re.search(r'<<"PREPARE" \S+\n(.*?)\nPREPARE\n', DOCKERFILE.read_text(), re.DOTALL)
    assert script is not None
    (tmp_path / "password").write_text("secret\n")
    environment = {"EXAMPLE_PASSWORD_FILE": str(tmp_path / "password")}
    command = [os.sys.executable, "-c", script[1], str(tmp_path)]
    subprocess.run(command, check=True, env=environment, timeout=30)
    users = json.loads((tmp_path / "users.json").read_text())
    assert {name: user["role"] for name, user in users.items()} == {"analyst": "analyst", "admin": "admin"}
    (tmp_path / "config.json").write_text("{}")
    subprocess.run(command, check=True, env=environment, timeout=30)
    assert (tmp_path / "config.json").read_text() == "{}"


@pytest.mark.stack
def test_collector_accepts_the_configuration_in_the_environment_of_compose(services, stack, tmp_path):
    """The real collector validates the very files and variables that compose gives its container."""
    binary = cache_dir() / "collector" / build_key(config_dir(), toolchain.go_version(Path("go"))) / BINARY
    collector = services["collector"]
    inside = {"/run/secrets": tmp_path, "/certificates": tmp_path, "/var/lib/otelcol": tmp_path}
    environment = {}
    for name, value in collector["environment"].items():
        for container, here in inside.items():
            if value.startswith(container):
                value = str(here / Path(value).name)
                Path(value).mkdir() if name.endswith("_DIR") else Path(value).write_text("secret")
        environment[name] = value
    assert FEATURE_GATES in collector["command"]
    mounts = dict(volume.removesuffix(":ro").split(":") for volume in collector["volumes"] if "./" in volume)
    files = {inside: TOP / outside for outside, inside in mounts.items()}
    configs = [
        f"--config={files[item.partition('=')[2]]}" for item in collector["command"] if "--config=" in item
    ]
    assert len(configs) == 2
    command = [str(binary), "validate", FEATURE_GATES, *configs]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    del environment["MLAUDIT_TOKENS_FILE"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "no bearer token provided" in done.stderr


@pytest.mark.parametrize("name", ["train", "service"])
def test_audited_services_have_settings_that_mlaudit_accepts(services, name):
    """The variables of compose are settings of mlaudit: none is unknown, none is wrong."""
    environment = {key: value for key, value in services[name]["environment"].items() if key != "<<"}
    environment["MLAUDIT_POLICY"] = str(TOP / "examples/service/audit-policy.yaml")
    settings = Settings.from_env(environment)
    assert settings.enabled
    assert settings.endpoint == "https://collector:4318/v1/logs"
    assert str(settings.token_file) == "/run/secrets/otlp_token"
    assert str(settings.ca_file) == "/certificates/ca/ca.crt"
