"""Secrets and personal data planted everywhere in a real service are nowhere in the trail, at the default policy."""

from __future__ import annotations

import base64
import http.client
import json
import secrets
import time
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from elasticsearch import ApiError, Elasticsearch
from elasticsearch.helpers import scan
from tests.conftest import wait_for
from tests.integration.served import Process, environment, started

from mlaudit.capture.models.artifact_register import FILE
from mlaudit.stack import Stack

pytestmark = pytest.mark.stack

LISTENING = r"Uvicorn running on http://127.0.0.1:(\d+)"
APP = (Path(__file__).parent / "canary_service.py").read_text()
# Hides nothing by itself: what a policy at this level keeps out is what the scrubber recognises.
FULL = """
version: 1
revisions: [{number: 1, date: 2026-11-25, changes: c, reason: r, sections: [3]}]
routes: [{methods: POST, path: /predict, kind: audit.ml.prediction}]
rules: [{name: everything, level: full}]
"""


def _luhn(prefix: str) -> str:
    """A number of 16 digits that passes for a card."""
    digits = prefix + "".join(secrets.choice("0123456789") for _ in range(15 - len(prefix)))
    total = sum(
        (2 * int(d) - 9 if int(d) > 4 else 2 * int(d)) if place % 2 == 0 else int(d)
        for place, d in enumerate(digits)
    )
    return f"{digits}{-total % 10}"


def _iban() -> str:
    """A German account number with right check digits."""
    account = "".join(secrets.choice("0123456789") for _ in range(18))
    return f"DE{98 - int(account + '131400') % 97:02}{account}"


def _part(count: int) -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(count)).decode().rstrip("=")


def _jwt() -> str:
    head, claims = ({"alg": "HS256", "typ": "JWT"}, {"sub": _part(9)})
    encoded = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in (head, claims)
    )
    return f"{'.'.join(encoded)}.{_part(32)}"


def _pem() -> str:
    lines = "\n".join(base64.b64encode(secrets.token_bytes(48)).decode() for _ in range(4))
    return f"-----BEGIN RSA PRIVATE KEY-----\n{lines}\n-----END RSA PRIVATE KEY-----"


@dataclass
class Plants:
    """Makes canaries and remembers what must not be found, by place and kind."""

    marks: dict[bytes, str] = field(default_factory=dict)

    def _note(self, what: str, *marks: str) -> None:
        for mark in marks:
            for form in (mark, urllib.parse.quote(mark, safe=""), json.dumps(mark)[1:-1]):
                self.marks[form.encode()] = what

    def secret(self, place: str) -> str:
        """An opaque value, to be planted under a name that says that it is secret."""
        value = f"Zx{secrets.token_hex(12)}"
        self._note(f"secret in {place}", value)
        self._note(f"secret in {place}, base64", base64.b64encode(value.encode()).decode())
        return value

    def email(self, place: str) -> str:
        value = f"erika.{secrets.token_hex(5)}@example.org"
        self._note(f"e-mail address in {place}", value, value.split("@")[0])
        return value

    def card(self, place: str) -> str:
        value = _luhn(secrets.choice(("4", "51", "37"))[:1] + "5")
        spaced = " ".join(value[at : at + 4] for at in range(0, 16, 4))
        self._note(f"card number in {place}", value, spaced)
        return secrets.choice((value, spaced))

    def shaped(self, place: str) -> str:
        """A text with one of every kind of secret that has a recognizable shape."""
        iban, jwt, pem, aws = _iban(), _jwt(), _pem(), f"AKIA{secrets.token_hex(8).upper()}"
        spaced = " ".join(iban[at : at + 4] for at in range(0, len(iban), 4))
        self._note(f"account number in {place}", iban, spaced)
        self._note(f"JWT in {place}", *jwt.split(".")[1:])
        self._note(f"private key in {place}", *pem.splitlines()[1:-1])
        self._note(f"AWS key in {place}", aws)
        github = f"ghp_{secrets.token_hex(18)}"
        self._note(f"access token in {place}", github)
        return (
            f"user {self.email(place)} card {self.card(place)} account {iban} or {spaced}, {jwt} {aws} {github} "
            f"password={self.secret(place)} Authorization: Bearer {self.secret(place)}\n{pem}\n"
            f"postgres://app:{self.secret(place)}@db/app"
        )

    def found_in(self, data: bytes) -> set[str]:
        """The planted values that appear in the content."""
        return {what for mark, what in self.marks.items() if mark in data}


@dataclass
class Planted:
    """A finished run of the service, and its paths."""

    plants: Plants
    state: Path
    own_log: Path
    service: str


@pytest.fixture(scope="module", params=["default", "full"])
def planted(request, stack: Stack, tmp_path_factory) -> Planted:
    """The service has run with canaries everywhere, and all its records are stored."""
    folder = tmp_path_factory.mktemp("canary")
    plants, state = Plants(), folder / "state"
    service = f"canary-{secrets.token_hex(6)}"
    (folder / "canary_service.py").write_text(APP)
    config = folder / "config.json"
    more = {}
    if request.param == "full":
        (folder / "policy.yaml").write_text(FULL)
        more["MLAUDIT_POLICY"] = str(folder / "policy.yaml")
    _configure(config, plants)
    env = environment(
        state,
        MLAUDIT_SERVICE_NAME=service,
        MLAUDIT_ENDPOINT=stack.otlp_endpoint,
        MLAUDIT_TOKEN_FILE=str(stack.token_file),
        MLAUDIT_SHUTDOWN_SECONDS="30",
        MLAUDIT_WATCH=str(config),
        MLAUDIT_WATCH_SECONDS="0.1",
        DATABASE_PASSWORD=plants.secret("the environment"),
        DATABASE_URL=f"postgres://app:{plants.secret('the environment')}@db/app",
        CANARY_TEXT=plants.shaped("the service's own texts"),
        CANARY_LOG=str(folder / "mlaudit.log"),
        **more,
    )
    command = ["python", "-m", "uvicorn", "canary_service:app", "--port", "0", "--no-access-log"]
    command += ["--header", f"X-Api-Key:{plants.secret('the command line')}"]
    command += ["--header", f"X-Contact:{plants.email('the command line')}"]
    with started(command, folder, env) as server:
        port = int(server.wait_for(LISTENING)[1])
        _call(port, plants)
        _configure(config, plants)
        _until_noticed(state, "audit.ml.config.changed", server)
        server.stop()
    return Planted(plants, state, folder / "mlaudit.log", service)


def _configure(config: Path, plants: Plants) -> None:
    place = "a watched file"
    config.write_text(
        json.dumps(
            {
                "api_key": plants.secret(place),
                "database": {"password": plants.secret(place), "host": "db"},
                "owner": plants.email(place),
                "note": plants.shaped(place),
                "threshold": secrets.randbelow(1000) / 1000,
            }
        )
    )


def _call(port: int, plants: Plants) -> None:
    """Sends canaries by every input: headers, cookies, path, query, and bodies of each type."""

    def ask(method: str, path: str, body: bytes | None = None, **headers: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        sent = {
            "Authorization": f"Bearer {plants.secret('a header')}",
            "X-Api-Key": plants.secret("a header"),
            "Cookie": f"session={plants.secret('a cookie')}; theme=dark",
            "User-Agent": f"tool/1 ({plants.email('the user agent')}) {_one_line(plants.shaped('the user agent'))}",
            "X-Forwarded-For": "203.0.113.7",
            "Referer": f"https://example.org/?token={plants.secret('a header')}",
            "X-Request-ID": f"request {plants.email('a header')}",
        }
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, sent)
        status = connection.getresponse()
        status.read()
        connection.close()
        return status.status

    quote = urllib.parse.quote
    fields = {"name": "Erika", "password": plants.secret("a JSON body"), "text": plants.shaped("a JSON body")}
    assert ask("POST", "/predict", json.dumps(fields).encode(), Content_Type="application/json") == 200
    form = urllib.parse.urlencode({"pin": plants.secret("a form"), "text": plants.shaped("a form")})
    assert ask("POST", "/predict", form.encode(), Content_Type="application/x-www-form-urlencoded") == 200
    part = f'--b\r\nContent-Disposition: form-data; name="password"\r\n\r\n{plants.secret("a multipart body")}\r\n'
    part += f'--b\r\nContent-Disposition: form-data; name="text"\r\n\r\n{plants.shaped("a multipart body")}\r\n--b--'
    assert ask("POST", "/predict", part.encode(), Content_Type="multipart/form-data; boundary=b") == 200
    binary = bytes(range(256)) + plants.shaped("a binary body").encode()
    assert ask("POST", "/predict", binary, Content_Type="application/octet-stream") == 200
    query = urllib.parse.urlencode(
        {
            "access_token": plants.secret("a query"),
            "q": plants.shaped("a query"),
            "api-key": plants.secret("a query"),
        }
    )
    assert ask("GET", f"/search?{query}") == 200
    place = "a path"
    for value in (plants.email(place), plants.card(place), _jwt_of(plants, place)):
        assert ask("GET", f"/items/{quote(value, safe='')}/detail") == 200
    basic = base64.b64encode(f"{plants.email('basic auth')}:{plants.secret('basic auth')}".encode()).decode()
    assert ask("GET", "/search", Authorization=f"Basic {basic}") == 200
    for path in ("/boom", "/log", "/span", "/train", "/record"):
        assert ask("POST", path) in (200, 500)


def _one_line(text: str) -> str:
    return text.replace("\n", " ")


def _jwt_of(plants: Plants, place: str) -> str:
    token = _jwt()
    plants._note(f"JWT in {place}", *token.split(".")[1:])
    return token


def _until_noticed(state: Path, kind: str, server: Process) -> None:
    deadline = time.monotonic() + 30
    while not any(kind.encode() in path.read_bytes() for path in state.rglob("*.seg")):
        assert time.monotonic() < deadline, f"no {kind}:\n{server.output}"
        time.sleep(0.05)


def test_no_canary_is_in_the_state_folder(planted: Planted) -> None:
    """No canary is in the spool, its retained or quarantined records, or the stored state of the last start."""
    # The register of saved models is the owner's own memory of paths, not a record.
    files = [path for path in planted.state.rglob("*") if path.is_file() and path.name != FILE]
    assert any(path.suffix == ".seg" for path in files)
    found = {path.name: planted.plants.found_in(path.read_bytes()) for path in files}
    assert {name: what for name, what in found.items() if what} == {}


def test_no_canary_is_in_the_log_of_mlaudit(planted: Planted) -> None:
    """No canary is in mlaudit's own log at its most verbose level."""
    data = planted.own_log.read_bytes()
    assert b"started" in data
    assert planted.plants.found_in(data) == set()


def test_no_canary_is_in_elasticsearch(planted: Planted, elasticsearch: Elasticsearch) -> None:
    """No document of the service holds a canary in any field, with a document of each kind of event."""
    wanted = {
        "audit.service.started",
        "audit.service.stopped",
        "audit.ml.prediction",
        "audit.ml.training.completed",
        "audit.ml.model.saved",
        "audit.ml.config.changed",
        "audit.api.request",
        "audit.app.canary.sung",
    }
    query = {"query": {"term": {"service.name": planted.service}}}
    kinds: set[str] = set()

    def complete() -> bool:
        elasticsearch.indices.refresh(index="logs-mlaudit.*")
        try:
            for hit in scan(elasticsearch, index="logs-mlaudit.*", query=query):
                kinds.add(hit["_source"]["audit.kind"])
        except ApiError as error:
            if error.status_code != 503:  # an index is being created
                raise
        return wanted | {"audit.stream.ended"} <= kinds

    wait_for(complete, f"a document of each kind of {wanted}", 60)
    found = {}
    for hit in scan(elasticsearch, index="logs-*,traces-*", query={"query": {"match_all": {}}}):
        text = json.dumps(hit["_source"], ensure_ascii=False).encode()
        if what := planted.plants.found_in(text):
            found[str(hit["_source"].get("audit.kind"))] = what
    assert found == {}


def test_no_canary_is_in_the_collector(planted: Planted, stack: Stack) -> None:
    """No canary is in the collector's log, its queue or the archive."""
    assert stack.archive is not None
    places = [
        stack.archive,
        *stack.logs.iterdir(),
        *(path for path in (stack.layout.collector / "queue").iterdir()),
    ]
    found = {path.name: planted.plants.found_in(path.read_bytes()) for path in places}
    assert {name: what for name, what in found.items() if what} == {}
    assert planted.service.encode() in stack.archive.read_bytes()


@pytest.mark.parametrize(
    "body",
    [
        '{{"password": "{secret}"',
        '{{"@timestamp": "{secret}", "source.ip": "{secret}", "process.pid": "{secret}", "labels": "{secret}"}}',
        '["{secret}"]',
    ],
    ids=["broken", "wrong types", "no object"],
)
def test_logs_do_not_repeat_a_record_that_is_wrong(sender, stack: Stack, body: str) -> None:
    """Content that the collector or Elasticsearch cannot parse or store is not quoted in their logs."""
    secret = f"Zx{secrets.token_hex(12)}"
    assert sender.send(sender.record(body.format(secret=secret))) == 200
    # Once a later record is stored, this one has been processed.
    last = sender.original()
    assert sender.send(sender.record(last)) == 200
    sender.find_original(last)
    for log in stack.logs.iterdir():
        assert secret.encode() not in log.read_bytes(), log.name
