from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from tests.unit.deliver.receiver import PROTOBUF, TAKEN, Receiver, Reply
from tests.unit.health.certificates import Authority
from typer.testing import CliRunner

from mlaudit.cli import app
from mlaudit.deliver.spool import layout
from mlaudit.health import doctor, local_links
from mlaudit.safety import file_lock
from mlaudit.seal import keys

TOKEN = "a-very-secret-token"
Examine = Callable[..., dict[str, Any]]


def closed_port() -> int:
    """A port without a listener."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture
def env(tmp_path: Path, receiver: Receiver) -> dict[str, str]:
    """A working path to the scripted receiver, which requires a token."""
    token = tmp_path / "token"
    token.write_text(TOKEN)

    def script(records: list[Any], headers: dict[str, str]) -> Reply:
        return TAKEN if headers.get("authorization") == f"Bearer {TOKEN}" else (401, {}, b"")

    receiver.script = script
    return {
        "MLAUDIT_ENABLED": "true",
        "MLAUDIT_SERVICE_NAME": "shop",
        "MLAUDIT_STATE_DIR": str(tmp_path / "state"),
        "MLAUDIT_ENDPOINT": receiver.endpoint,
        "MLAUDIT_TOKEN_FILE": str(token),
    }


@pytest.fixture
def examine(env: dict[str, str]) -> Examine:
    """``mlaudit doctor --json`` in that environment, with some of it changed."""

    def run(*arguments: str, **changed: str) -> dict[str, Any]:
        result = CliRunner().invoke(app, ["doctor", "--json", "--wait", "5", *arguments], env=env | changed)
        assert TOKEN not in result.output
        answer: dict[str, Any] = json.loads(result.stdout)
        assert result.exit_code == (0 if answer["ok"] else 1), result.output
        return answer

    return run


def step(answer: dict[str, Any], name: str) -> dict[str, Any]:
    """One check of an answer."""
    (found,) = [one for one in answer["checks"] if one["step"] == name]
    return dict(found)


def assert_broken(answer: dict[str, Any], name: str, found: str) -> dict[str, Any]:
    """Asserts that the link is the first broken one, with its finding, and that nothing after it was reached."""
    assert answer["broken"] == name, answer
    states = [one["state"] for one in answer["checks"]]
    place = [one["step"] for one in answer["checks"]].index(name)
    assert set(states[place + 1 :]) <= {"not reached"}
    assert set(states[:place]) <= {"ok", "warning", "skipped"}
    broken = step(answer, name)
    assert found in broken["found"], broken
    assert broken["expected"]
    assert broken["remedy"]
    return broken


def test_whole_path_sends_a_probe_for_real(examine: Examine, receiver: Receiver, tmp_path: Path) -> None:
    """Begin, probe and end of a short stream of the service arrive; nothing is left behind."""
    answer = examine()
    assert answer["ok"], answer
    names = [record.event_name for record in receiver.taken]
    assert names == ["audit.stream.started", "audit.pipeline.probe", "audit.stream.ended"]
    body = json.loads(receiver.taken[1].body.string_value)
    assert body["service.name"] == "shop"
    assert body["event.dataset"] == "mlaudit.integrity"
    assert body["audit.record.id"] == answer["probe"]["record_id"]
    assert not layout.streams(tmp_path / "state" / "spool")
    assert not list((tmp_path / "state" / "spool").glob(".doctor*"))
    assert step(answer, "probe: arrived")["state"] == "skipped"


def test_text_says_every_check_and_the_verdict(env: dict[str, str]) -> None:
    """A person sees one line per check."""
    result = CliRunner().invoke(app, ["doctor"], env=env | {"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    for name, _ in doctor.CHECKS:
        assert name in result.output
    assert "the path is whole" in result.output


def test_text_names_the_broken_link_and_what_to_do(env: dict[str, str]) -> None:
    """Expected, found and what to do, and the checks that were not reached."""
    port = closed_port()
    result = CliRunner().invoke(app, ["doctor"], env=env | {"MLAUDIT_ENDPOINT": f"http://127.0.0.1:{port}"})
    assert result.exit_code == 1
    assert "the path breaks at collector: connection" in result.output
    for word in ("expected", "found", "do ", "not reached"):
        assert word in result.output


def test_service_without_name_is_the_doctors(
    examine: Examine, env: dict[str, str], receiver: Receiver
) -> None:
    """Without a service name the probe uses the doctor's own, not ``unknown_service``."""
    del env["MLAUDIT_SERVICE_NAME"]
    assert examine()["ok"]
    assert json.loads(receiver.taken[1].body.string_value)["service.name"] == "mlaudit-doctor"


def test_wrong_setting(examine: Examine) -> None:
    """Every wrong variable is named."""
    assert_broken(examine(MLAUDIT_SHUTDOWN_SECONDS="soon"), "settings", "MLAUDIT_SHUTDOWN_SECONDS")


def test_auditing_that_is_off_is_a_warning(examine: Examine) -> None:
    """A service started from this environment would not be audited."""
    answer = examine(MLAUDIT_ENABLED="false")
    assert answer["ok"]
    assert "MLAUDIT_ENABLED" in step(answer, "settings")["warnings"][0]["found"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be in another user's folder")
def test_root_in_a_services_folder_is_refused(examine: Examine, tmp_path: Path) -> None:
    """Root would leave files that the service cannot read; the doctor refuses before it creates any."""
    (tmp_path / "state").mkdir()
    os.chown(tmp_path / "state", 65534, 65534)
    assert_broken(examine(), "settings", "belongs to user 65534")
    assert not list((tmp_path / "state").iterdir())


def test_policy_with_a_fault(examine: Examine, tmp_path: Path) -> None:
    """The fault of the policy file is shown."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\nrulez: []\n")
    assert_broken(examine(MLAUDIT_POLICY=str(policy)), "policy", "rulez")


def test_signing_key_that_others_can_read(examine: Examine, tmp_path: Path) -> None:
    """A key that might have been copied is refused."""
    path = tmp_path / "state" / "keys" / keys.SIGNING_KEY
    keys.create_signing_key(path, "k")
    path.chmod(0o644)
    assert_broken(examine(), "keys", "mode 0644")


def test_verifier_key_of_another(examine: Examine, tmp_path: Path) -> None:
    """The public key next to a signing key must match it."""
    path = tmp_path / "state" / "keys" / keys.SIGNING_KEY
    keys.create_signing_key(path, "k")
    other = keys.create_signing_key(tmp_path / "other.key", "k")
    path.with_suffix(".pub").write_text(other.public_key.encode())
    assert_broken(examine(), "keys", "belongs to another key")


def test_spool_that_is_no_folder(examine: Examine, tmp_path: Path) -> None:
    """A spool path that is not a folder is reported, with the setting."""
    (tmp_path / "file").write_text("")
    broken = assert_broken(examine(MLAUDIT_SPOOL_DIR=str(tmp_path / "file")), "spool", str(tmp_path / "file"))
    assert "MLAUDIT_SPOOL_DIR" in broken["remedy"]


@pytest.mark.skipif(not Path("/proc/sys").is_dir(), reason="needs a folder that nobody can write")
def test_spool_that_cannot_be_written(examine: Examine) -> None:
    """A folder in which no user can create files is a broken link."""
    assert_broken(examine(MLAUDIT_SPOOL_DIR="/proc/sys/spool"), "spool", "/proc/sys")


def test_locks_that_do_not_exclude(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system without working locks a living process cannot be distinguished from a dead one."""
    monkeypatch.setattr(file_lock.fcntl, "flock", lambda *_: None)
    assert_broken(examine(), "spool", "flock")


def test_full_disk_under_the_spool(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    """No room is a broken link; less than the bound a warning."""

    class Usage:
        free = 1 << 20

    monkeypatch.setattr(local_links.shutil, "disk_usage", lambda _: Usage)
    assert_broken(examine(), "spool", "1.0 MiB free")
    Usage.free = 100 << 20
    assert "100 MiB free" in step(examine(), "spool")["warnings"][0]["found"]


def test_unknown_host(examine: Examine) -> None:
    """A name that no name service knows."""
    assert_broken(examine(MLAUDIT_ENDPOINT="https://collector.invalid:4318"), "collector: name", "")


def test_wrong_port(examine: Examine) -> None:
    """A port without a listener is a broken link."""
    answer = examine(MLAUDIT_ENDPOINT=f"http://127.0.0.1:{closed_port()}")
    assert_broken(answer, "collector: connection", "refused")


def test_wrong_token(examine: Examine, tmp_path: Path) -> None:
    """A token that the collector rejects is a broken link, and is not printed."""
    wrong = tmp_path / "wrong"
    wrong.write_text("another-secret-token")
    answer = examine(MLAUDIT_TOKEN_FILE=str(wrong))
    assert_broken(answer, "collector: authentication", "does not know the given one")
    assert "another-secret-token" not in json.dumps(answer)


def test_no_token(examine: Examine, env: dict[str, str]) -> None:
    """A missing token is a broken link when the collector requires one."""
    del env["MLAUDIT_TOKEN_FILE"]
    assert_broken(examine(), "collector: authentication", "none was given")


def test_absent_token_file(examine: Examine, tmp_path: Path) -> None:
    """The file that is to hold the token is named."""
    assert_broken(examine(MLAUDIT_TOKEN_FILE=str(tmp_path / "gone")), "collector: authentication", "gone")


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ((404, {}, b""), "HTTP 404"),
        ((503, {}, b""), "HTTP 503"),
        ((200, {"content-type": "text/html"}, b"<html>"), "text/html"),
        ((200, PROTOBUF, b"\xff\xff"), "not an ExportLogsServiceResponse"),
    ],
)
def test_receiver_that_takes_nothing(examine: Examine, receiver: Receiver, reply: Reply, found: str) -> None:
    """An endpoint that is not an OTLP receiver, or accepts no records now, is a broken link."""
    receiver.script = lambda records, headers: reply
    assert_broken(examine(), "collector: acceptance", found)


def test_certificate_is_checked(examine: Examine, receiver: Receiver, tmp_path: Path) -> None:
    """With the right CA the path over TLS is whole."""
    authority = Authority(tmp_path)
    endpoint = authority.serve(receiver)
    answer = examine(MLAUDIT_ENDPOINT=endpoint, MLAUDIT_CA_FILE=str(authority.file))
    assert answer["ok"], answer
    assert "valid until" in step(answer, "collector: certificate")["found"]


def test_unknown_authority(examine: Examine, receiver: Receiver, tmp_path: Path) -> None:
    """A certificate that another CA signed."""
    endpoint = Authority(tmp_path).serve(receiver)
    other = Authority(tmp_path, "other")
    answer = examine(MLAUDIT_ENDPOINT=endpoint, MLAUDIT_CA_FILE=str(other.file))
    broken = assert_broken(answer, "collector: certificate", "unknown authority")
    assert "MLAUDIT_CA_FILE" in broken["remedy"]


def test_expired_certificate(examine: Examine, receiver: Receiver, tmp_path: Path) -> None:
    """A certificate whose time is over."""
    authority = Authority(tmp_path)
    answer = examine(MLAUDIT_ENDPOINT=authority.serve(receiver, days=-1), MLAUDIT_CA_FILE=str(authority.file))
    assert_broken(answer, "collector: certificate", "expired")


def test_certificate_of_the_future(examine: Examine, receiver: Receiver, tmp_path: Path) -> None:
    """A certificate whose time has not come."""
    authority = Authority(tmp_path)
    answer = examine(MLAUDIT_ENDPOINT=authority.serve(receiver, since=5), MLAUDIT_CA_FILE=str(authority.file))
    assert_broken(answer, "collector: certificate", "not valid yet")


def test_certificate_for_another_name(examine: Examine, receiver: Receiver, tmp_path: Path) -> None:
    """A certificate of the right CA for another server."""
    authority = Authority(tmp_path)
    answer = examine(
        MLAUDIT_ENDPOINT=authority.serve(receiver, address="192.0.2.1"), MLAUDIT_CA_FILE=str(authority.file)
    )
    assert_broken(answer, "collector: certificate", "other names")


def test_certificate_that_expires_soon(examine: Examine, receiver: Receiver, tmp_path: Path) -> None:
    """Two weeks before the end it is a warning."""
    authority = Authority(tmp_path)
    answer = examine(MLAUDIT_ENDPOINT=authority.serve(receiver, days=5), MLAUDIT_CA_FILE=str(authority.file))
    assert answer["ok"]
    assert "expires in" in step(answer, "collector: certificate")["warnings"][0]["found"]


def test_collector_that_wants_a_client_certificate(
    examine: Examine, receiver: Receiver, tmp_path: Path
) -> None:
    """Without one the doctor says which settings are missing; with one the path is whole."""
    authority = Authority(tmp_path)
    endpoint = authority.serve(receiver, mutual=True)
    known = {"MLAUDIT_ENDPOINT": endpoint, "MLAUDIT_CA_FILE": str(authority.file)}
    broken = assert_broken(examine(**known), "collector: authentication", "requires a client certificate")
    assert "MLAUDIT_CLIENT_CERT_FILE" in broken["remedy"]
    own = str(authority.issue("client.pem"))
    answer = examine(**known, MLAUDIT_CLIENT_CERT_FILE=own, MLAUDIT_CLIENT_KEY_FILE=own)
    assert answer["ok"], answer


def test_ca_file_that_is_none(examine: Examine, receiver: Receiver, tmp_path: Path) -> None:
    """A CA file without a certificate in it."""
    endpoint = Authority(tmp_path).serve(receiver)
    (tmp_path / "empty.pem").write_text("nothing")
    answer = examine(MLAUDIT_ENDPOINT=endpoint, MLAUDIT_CA_FILE=str(tmp_path / "empty.pem"))
    assert_broken(answer, "collector: certificate", "")


def test_https_to_a_plain_port(examine: Examine, receiver: Receiver) -> None:
    """A port that speaks plain http is named as one."""
    answer = examine(MLAUDIT_ENDPOINT=receiver.endpoint.replace("http:", "https:"))
    broken = assert_broken(answer, "collector: certificate", "")
    assert "http://" in broken["remedy"]


def test_clock_that_is_wrong(examine: Examine, receiver: Receiver, env: dict[str, str]) -> None:
    """More than five seconds from the collector's clock is a warning."""

    class Handler(receiver._server.RequestHandlerClass):  # type: ignore[misc,name-defined]
        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate(time.time() - 120, usegmt=True)

    receiver._server.RequestHandlerClass = Handler
    answer = examine()
    assert answer["ok"]
    assert "ahead of the collector's" in step(answer, "clock")["warnings"][0]["found"]


def test_record_that_the_collector_refuses(examine: Examine, receiver: Receiver, tmp_path: Path) -> None:
    """A collector that takes other records and not the probe: the record is kept, and the reason is said."""

    def script(records: list[Any], headers: dict[str, str]) -> Reply:
        return (400, {}, b"") if any(r.event_name == "audit.pipeline.probe" for r in records) else TAKEN

    receiver.script = script
    assert_broken(examine(), "probe: sent", "HTTP 400")


def test_record_that_is_not_acknowledged_stays(examine: Examine, receiver: Receiver, tmp_path: Path) -> None:
    """A collector that takes an empty request and no record: the probe waits in the spool."""
    receiver.script = lambda records, headers: (503, {}, b"") if records else TAKEN
    assert_broken(examine("--wait", "1"), "probe: sent", "HTTP 503")
    assert len(layout.streams(tmp_path / "state" / "spool")) == 1


METRICS = """# HELP otelcol_exporter_queue_size x
# TYPE otelcol_exporter_queue_size gauge
otelcol_exporter_queue_size{{exporter="elasticsearch/audit",data_type="logs"}} {size}
otelcol_exporter_queue_size{{exporter="elasticsearch/ordinary",data_type="logs"}} 999
otelcol_exporter_queue_capacity{{exporter="elasticsearch/audit"}} 100
otelcol_exporter_queue_capacity{{exporter="elasticsearch/ordinary"}} 1000
otelcol_elasticsearch_docs_processed{{outcome="success",http_response_status_code="200"}} 7
otelcol_elasticsearch_docs_processed{{outcome="failed_client",http_response_status_code="400"}} {refused}
otelcol_exporter_enqueue_failed_log_records_total{{exporter="elasticsearch/audit"}} {failed}
"""


@pytest.fixture
def metrics_page(tmp_path: Path) -> Any:
    """A metrics page of a collector; call it with the numbers on it to get its address."""
    import http.server
    import threading

    page = {"text": ""}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(page["text"].encode())

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def show(size: int = 0, refused: int = 0, failed: int = 0) -> str:
        page["text"] = METRICS.format(size=size, refused=refused, failed=failed)
        return f"http://127.0.0.1:{server.server_port}/metrics"

    yield show
    server.shutdown()
    server.server_close()


def test_collectors_own_counters(examine: Examine, metrics_page: Any) -> None:
    """Refused documents, failures to enqueue and a half full queue are warnings; a full queue is a broken link."""
    url = metrics_page()
    counters = step(examine("--collector-metrics", url), "collector: counters")
    assert (counters["state"], counters["found"]) == ("ok", "queue 0 of 100")
    metrics_page(size=60, refused=3, failed=2)
    found = " ".join(
        w["found"] for w in step(examine("--collector-metrics", url), "collector: counters")["warnings"]
    )
    assert "60% full" in found
    assert "refused 3 documents" in found
    assert "failed_client 400" in found
    assert "2 records could not be put into" in found
    metrics_page(size=100)
    assert_broken(examine("--collector-metrics", url), "collector: counters", "100% full")


def test_metrics_page_that_is_none(examine: Examine, receiver: Receiver) -> None:
    """An address without metrics is a broken link of its own."""
    url = f"http://127.0.0.1:{closed_port()}/metrics"
    assert_broken(examine("--collector-metrics", url), "collector: counters", "no answer")


def test_elasticsearch_that_is_away(examine: Examine, metrics_page: Any, receiver: Receiver) -> None:
    """The collector accepted the probe: the doctor reports that it waits in the queue."""
    answer = examine(
        "--elasticsearch", f"https://127.0.0.1:{closed_port()}", "--collector-metrics", metrics_page(size=5)
    )
    broken = assert_broken(answer, "Elasticsearch: connection", "it waits in the collector's queue")
    assert "queue: 5 of 100" in broken["found"]
    assert len(receiver.taken) == 3


def test_header_values_are_not_printed(examine: Examine, receiver: Receiver) -> None:
    """Headers may hold secrets; no error contains them."""
    receiver.script = lambda records, headers: (401, {}, b"")
    answer = examine(MLAUDIT_HEADERS="x-api-key=hidden-value")
    assert "hidden-value" not in json.dumps(answer)


def test_server_cannot_write_to_the_terminal(env: dict[str, str], receiver: Receiver) -> None:
    """Escape sequences in a response are printed as text, not executed."""
    receiver.script = lambda records, headers: (200, {"content-type": "\x1b[31mred"}, b"")
    result = CliRunner().invoke(app, ["doctor"], env=env)
    assert result.exit_code == 1
    assert "\x1b[31m" not in result.output


def test_file_system_is_known(tmp_path: Path) -> None:
    """The type of the file system under the spool, by the longest mount point."""
    assert local_links.filesystem(Path("/proc/self")) == "proc"
    assert os.path.ismount("/proc")
