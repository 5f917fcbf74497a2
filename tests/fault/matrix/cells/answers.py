"""Whatever a receiver answers, or does not answer: a record leaves the spool only when it is stored."""

from __future__ import annotations

import random
import ssl
import threading
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial

from tests.fault.matrix.bad_answers import BAD, WAIT
from tests.fault.matrix.cell import Cell, Outcome
from tests.fault.matrix.emitting import wait_for
from tests.fault.matrix.ground import Ground
from tests.fault.matrix.proxy import Exchange, Proxy, forward

from mlaudit.deliver.spool import layout
from mlaudit.stack.certificates import make_certificates

SEED = 20261125
RATE = 2500
_MIXED_SHARE = 0.4
_SLOW = ("hang-before-request", "hang-after-request", "hang-in-answer", "drip")


class Mixed:
    """Answers badly to some requests, chosen by a seed, and forwards the others.

    Attributes:
        given: how often each bad answer was given.
        early: requests that came sooner than Retry-After had asked for.
        not_before: when the next request may come.
    """

    def __init__(self, names: Sequence[str], seed: int) -> None:
        self.given: Counter[str] = Counter()
        self.early = 0
        self._names = names
        self._share = BAD[names[0]].share if len(names) == 1 else _MIXED_SHARE
        self._deck: list[str] = []
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self.not_before = 0.0

    def __call__(self, exchange: Exchange) -> None:
        with self._lock:
            self.early += time.monotonic() < self.not_before
            self.not_before = 0.0
            name = self._draw() if self._random.random() < self._share else ""
            self.given[name] += bool(name)
        if not name:
            forward(exchange)
            return
        BAD[name].act(exchange)
        if name.startswith("429"):
            self.not_before = time.monotonic() + WAIT

    def _draw(self) -> str:
        """The next of a shuffled deck, so that each has its turn; empty when each was there often enough."""
        if not self._deck:
            self._deck = [name for name in self._names if self.given[name] < BAD[name].most]
            self._random.shuffle(self._deck)
        return self._deck.pop() if self._deck else ""


def answered_badly(ground: Ground, names: Sequence[str], records: int, tls: bool = False) -> Outcome:
    """Emits through a proxy that answers badly, then lets it forward everything."""
    script = Mixed(names, SEED)
    context, more = _tls(ground) if tls else (None, {})
    with Proxy(ground.stack.otlp_endpoint, script, context) as proxy:
        more["MLAUDIT_ENDPOINT"] = f"{proxy.endpoint}/v1/logs"
        count = ground.scaled(records)
        process = ground.workload(
            *("--durable-every", 20, "--rate", RATE, "--count", count), env=ground.environment(**more)
        )
        code = process.finish()
        script.not_before = 0.0  # what drains is another process, which was asked nothing yet
        drained = ground.drain(300, **more)
        given, requests = +script.given, proxy.requests
    outcome = ground.judge(
        seed=SEED,
        requests=requests,
        bad_answers=dict(given),
        came_too_early=script.early,
        drain_seconds=round(drained, 1),
    )
    aside = layout.quarantined_streams(ground.spool)
    outcome.require(code == 0, f"expected the emitting process to end well, found exit code {code}")
    outcome.require(not aside, f"expected no record set aside, found {[one.name for one in aside]}")
    outcome.require(not script.early, f"expected no request before Retry-After, found {script.early}")
    if ground.scale >= 1:
        missing = sorted(set(names) - set(given))
        outcome.require(not missing, f"expected every bad answer to be given, missing {missing}")
    return outcome


def token_renewed(ground: Ground) -> Outcome:
    """The token is replaced at the collector's side first: 401, until the sender reads its new token."""
    token_file = ground.folder / "token"
    token_file.write_text("revoked")
    token_file.chmod(0o600)
    refused = Counter[str]()

    def count(exchange: Exchange) -> None:
        answer = exchange.forward()
        refused["401"] += answer.startswith(b"HTTP/1.1 401")
        exchange.send(answer)

    with Proxy(ground.stack.otlp_endpoint, count) as proxy:
        env = ground.environment(
            MLAUDIT_ENDPOINT=f"{proxy.endpoint}/v1/logs", MLAUDIT_TOKEN_FILE=str(token_file)
        )
        process = ground.workload(
            *("--durable-every", 20, "--rate", RATE, "--count", ground.scaled(20_000)), env=env
        )
        wait_for(lambda: refused["401"] > 0, "the collector to refuse the token")
        token_file.write_text(ground.stack.token)
        process.finish()
        ground.drain(MLAUDIT_ENDPOINT=f"{proxy.endpoint}/v1/logs")
    return ground.judge(refused=refused["401"], requests=proxy.requests)


def _tls(ground: Ground) -> tuple[ssl.SSLContext, dict[str, str]]:
    made = make_certificates()
    files = {"ca.pem": made.authority, "proxy.crt": made.certificate, "proxy.key": made.key}
    for name, text in files.items():
        (ground.folder / name).write_text(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ground.folder / "proxy.crt", ground.folder / "proxy.key")
    return context, {"MLAUDIT_CA_FILE": str(ground.folder / "ca.pem")}


def _cell(name: str, what: str, answers: Sequence[str], minutes: float = 0.5, tls: bool = False) -> Cell:
    run = partial(answered_badly, names=answers, records=20_000, tls=tls)
    return Cell(f"answer-{name}", what, run, minutes=minutes, group="answers")


CELLS = [
    _cell(
        "partial-success",
        "The collector takes half of a request and answers partial success.",
        ["partial-success"],
    ),
    _cell(
        "partial-success-cut",
        "A partial success whose body is missing: an empty one would mean that all is taken.",
        ["partial-success-cut", "partial-success-without-length"],
    ),
    _cell(
        "retry-after",
        "429 and 503 with Retry-After as seconds and as a date; no request comes sooner.",
        ["429-retry-after-seconds", "503-retry-after-date"],
        0.7,
    ),
    _cell("400", "400 for what is not wrong.", ["400"]),
    _cell("413", "413 for every request above 96 KiB, as a reverse proxy with a low limit answers.", ["413"]),
    _cell("503", "503.", ["503"]),
    _cell("304", "304, 204 and a redirect.", ["304", "no-content", "redirect"]),
    _cell(
        "garbage",
        "200 with garbage, with a web page, and with an empty JSON body of another content type.",
        ["garbage", "html", "json"],
    ),
    _cell("401", "401 for a token that is right.", ["401"]),
    Cell(
        "answer-401-new-token",
        "The collector refuses the token; the sender reads the file again, where the new one is.",
        token_renewed,
        group="answers",
    ),
    _cell(
        "hang",
        "A connection that hangs before the request is read, after it, in the middle of the answer, and one that "
        "drips without end.",
        _SLOW,
        2.5,
    ),
    _cell(
        "reset",
        "The connection is reset with half of the request read, and with half of the answer written.",
        ["reset-in-request", "reset-in-answer"],
    ),
    _cell(
        "lost",
        "The request is forwarded and its answer lost; the repeat stores nothing twice.",
        ["lost-answer"],
    ),
    _cell(
        "tls-close",
        "Over TLS: the connection is closed, with and without a close_notify.",
        ["close", "close-without-goodbye"],
        tls=True,
    ),
    Cell(
        "answer-mixed",
        "All of these, over TLS, mixed by a seed.",
        partial(answered_badly, names=[name for name in BAD if name not in _SLOW], records=100_000, tls=True),
        records=100_000,
        minutes=2,
        group="answers",
    ),
]
