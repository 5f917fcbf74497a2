"""The links to the collector: name, port, certificate, credentials, acceptance, clock, its own counters."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import urllib3

from mlaudit.deliver.send.answer import Verdict, read_answer
from mlaudit.deliver.send.transport import Receiver, request_headers
from mlaudit.errors import DeliveryError
from mlaudit.health import reach
from mlaudit.health.checks import BrokenLinkError, CheckContext, Outcome
from mlaudit.health.scrape import Scrape, fetch
from mlaudit.health.status import age

_SECONDS: Final = 10.0
_SKEW_SECONDS: Final = 5.0
_FILLED: Final = 0.5
_OVERFULL: Final = 0.98


def server(context: CheckContext) -> reach.Server:
    """The collector that the settings name."""
    found = context.known
    at = reach.server("the collector", found.endpoint, "MLAUDIT_ENDPOINT", "MLAUDIT_CA_FILE", found.ca_file)
    return replace(at, client_cert=found.client_cert_file, client_key=found.client_key_file)


def name(context: CheckContext) -> Outcome:
    """The collector's host name resolves."""
    return reach.resolve(server(context))


def connection(context: CheckContext) -> Outcome:
    """The collector's port accepts a connection."""
    return reach.connect(server(context))


def tls(context: CheckContext) -> Outcome:
    """The collector's certificate is trusted."""
    return reach.secure(server(context))


def authentication(context: CheckContext) -> Outcome:
    """An empty request: does the collector accept this sender?"""
    found = context.known
    receiver = Receiver(found.endpoint, found.headers, found.token_file, found.ca_file)
    try:
        headers = request_headers(receiver)
    except DeliveryError as error:
        raise BrokenLinkError(
            "a bearer token", str(error), "put the token into that file (mode 0600)"
        ) from None
    status, answered, body = _exchange(context, headers)
    context.date, context.answered_at = answered.get("date", ""), time.time()
    context.answer = read_answer(status, answered, body)
    if status == 401:
        given = (
            "none was given"
            if "authorization" not in headers
            else "the collector does not know the given one"
        )
        raise BrokenLinkError(
            "the collector to know this sender",
            f"HTTP 401: {given}",
            "put a valid token into MLAUDIT_TOKEN_FILE",
        )
    if status == 403:
        raise BrokenLinkError(
            "the collector to accept this sender", "HTTP 403", "allow it to send logs there"
        )
    if status == 400 and b"HTTPS server" in body:
        raise BrokenLinkError(
            "the collector to speak http", "a port that speaks TLS", "write https:// in MLAUDIT_ENDPOINT"
        )
    return Outcome("with a token" if "authorization" in headers else "none required", skipped=False)


def acceptance(context: CheckContext) -> Outcome:
    """The answer to that request: is it an OTLP receiver that accepts records now?"""
    answer = context.answer
    if answer.verdict is Verdict.ACKNOWLEDGED:
        return Outcome("an empty request is acknowledged")
    remedies = {
        "HTTP 404": "is this an OTLP/HTTP receiver for logs? Correct the path in MLAUDIT_ENDPOINT (/v1/logs)",
        "HTTP 405": "is this an OTLP/HTTP receiver for logs? Correct MLAUDIT_ENDPOINT",
        "HTTP 429": "the collector is overloaded; records wait in the spool until it is not",
        "HTTP 503": "its queue is full or its memory limit reached: check its metrics; records wait in the spool",
    }
    raise BrokenLinkError(
        "an acknowledgement as OTLP/HTTP defines it",
        answer.reason,
        remedies.get(answer.reason, "is another program listening there? Check the collector's log"),
    )


def clock(context: CheckContext) -> Outcome:
    """This machine's clock agrees with the collector's: records with wrong times mislead their readers."""
    try:
        theirs = parsedate_to_datetime(context.date)
    except ValueError:
        return Outcome("the collector sends no time", skipped=True)
    theirs = theirs.replace(tzinfo=UTC) if theirs.tzinfo is None else theirs
    # The header counts whole seconds.
    skew = (datetime.fromtimestamp(context.answered_at, UTC) - theirs).total_seconds() - 0.5
    outcome = Outcome(f"{abs(skew):.0f} s from the collector's")
    if abs(skew) > _SKEW_SECONDS:
        way = "ahead of" if skew > 0 else "behind"
        outcome.warn(f"this clock is {age(abs(skew))} {way} the collector's", "synchronise both (NTP)")
    return outcome


def counters(context: CheckContext) -> Outcome:
    """The collector's own metrics: documents that Elasticsearch rejected, and the export queue."""
    if not context.metrics:
        return Outcome("not requested (--collector-metrics URL)", skipped=True)
    scrape = fetch(context.metrics)
    context.metrics_before = scrape.rejections()
    queue = scrape.queue()
    outcome = Outcome(
        "the page shows no queue" if queue is None else f"queue {queue[0]:,.0f} of {queue[1]:,.0f}"
    )
    if queue is not None and queue[1]:
        fill = queue[0] / queue[1]
        if fill >= _OVERFULL:
            raise BrokenLinkError(
                "room in the collector's queue",
                f"{fill:.0%} full",
                "Elasticsearch accepts too little: check it first; records wait in the spools until then",
            )
        if fill > _FILLED:
            outcome.warn(f"the collector's queue is {fill:.0%} full", "is Elasticsearch keeping up?")
    if refused := sum(context.metrics_before.values()):
        which = ", ".join(sorted(context.metrics_before))
        outcome.warn(
            f"Elasticsearch has refused {refused:,.0f} documents since the collector started ({which})",
            "mlaudit verify names what is missing, mlaudit resend sends it again; the collector's log has the reason",
        )
    if failed := scrape.enqueue_failures():
        outcome.warn(
            f"{failed:,.0f} records could not be put into the collector's queue since it started",
            "check the disk of its queue; the senders still have these records",
        )
    return outcome


def waiting_there(context: CheckContext) -> str:
    """What the collector's queue holds, as a sentence for the report that Elasticsearch is unreachable."""
    text = "the probe was acknowledged: it waits in the collector's queue until Elasticsearch is reachable"
    if not context.metrics:
        return text
    try:
        queue = fetch(context.metrics).queue()
    except BrokenLinkError:
        return text
    return text if queue is None else f"{text} (queue: {queue[0]:,.0f} of {queue[1]:,.0f})"


def refusals_since(context: CheckContext) -> dict[str, float]:
    """Documents rejected since the metrics were first read, by outcome."""
    if not context.metrics:
        return {}
    try:
        now: Scrape = fetch(context.metrics)
    except BrokenLinkError:
        return {}
    grown = {what: n - context.metrics_before.get(what, 0.0) for what, n in now.rejections().items()}
    return {what: n for what, n in grown.items() if n > 0}


def _exchange(context: CheckContext, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    found = context.known
    pool = urllib3.PoolManager(
        retries=False,
        timeout=_SECONDS,
        ca_certs=str(found.ca_file) if found.ca_file else None,
        cert_file=str(found.client_cert_file) if found.client_cert_file else None,
        key_file=str(found.client_key_file) if found.client_key_file else None,
    )
    try:
        response = pool.request("POST", found.endpoint, body=b"", headers=headers, redirect=False)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        at = server(context)
        if at.tls and at.client_cert is None and reach.wants_certificate(at):
            raise BrokenLinkError(
                "the collector to know this sender",
                "it requires a client certificate",
                "set MLAUDIT_CLIENT_CERT_FILE and MLAUDIT_CLIENT_KEY_FILE",
            ) from None
        raise BrokenLinkError(
            "an answer from the collector",
            f"none ({type(error).__name__})",
            "is another program listening at that port? Check the collector's log",
        ) from None
    finally:
        pool.clear()
    return response.status, {key.lower(): value for key, value in response.headers.items()}, response.data
