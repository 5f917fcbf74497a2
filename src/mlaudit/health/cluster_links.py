"""The links after the collector: Elasticsearch, its templates, and the probe in it."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from elasticsearch import (
    ApiError,
    AuthenticationException,
    AuthorizationException,
    NotFoundError,
)

from mlaudit.cluster.client import connect, credentials, explained
from mlaudit.errors import ClusterError, MlauditError
from mlaudit.health import collector_links, reach
from mlaudit.health.checks import BrokenLinkError, CheckContext, Outcome
from mlaudit.verify.sources.cluster_source import ElasticsearchSource
from mlaudit.verify.verification import verify_source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from elasticsearch import Elasticsearch

    from mlaudit.cluster.client import Auth

_STREAMS: Final = "logs-mlaudit.integrity-*"
_TEMPLATE: Final = "logs-mlaudit.integrity"
_LOOK_SECONDS: Final = 0.25
# No such index; too busy; a new index whose shards are still starting.
_NOT_YET: Final = frozenset({404, 429, 503})
_NOT_ASKED: Final = "not requested (--elasticsearch URL, or MLAUDIT_ES_URL)"
_CREDENTIALS: Final = "correct MLAUDIT_ES_USERNAME and MLAUDIT_ES_PASSWORD_FILE, or MLAUDIT_ES_API_KEY_FILE"


def name(context: CheckContext) -> Outcome:
    """Elasticsearch's host name resolves."""
    return reach.resolve(_server(context)) if context.elasticsearch else Outcome(_NOT_ASKED, skipped=True)


def connection(context: CheckContext) -> Outcome:
    """Elasticsearch's port accepts a connection."""
    if not context.elasticsearch:
        return Outcome(_NOT_ASKED, skipped=True)
    try:
        return reach.connect(_server(context))
    except BrokenLinkError as error:
        raise BrokenLinkError(
            error.expected, f"{error.found}; {collector_links.waiting_there(context)}", error.remedy
        ) from None


def tls(context: CheckContext) -> Outcome:
    """Elasticsearch's certificate is trusted."""
    return reach.secure(_server(context)) if context.elasticsearch else Outcome(_NOT_ASKED, skipped=True)


def authentication(context: CheckContext) -> Outcome:
    """Elasticsearch accepts the credentials."""
    if not context.elasticsearch:
        return Outcome(_NOT_ASKED, skipped=True)
    with _asking(context, "Elasticsearch to know the credentials", _CREDENTIALS) as client:
        try:
            who = client.perform_request("GET", "/_security/_authenticate", headers=_JSON).body
        except AuthenticationException:
            raise
        except ApiError as error:
            outcome = Outcome("it requires none")
            outcome.warn(
                f"its security is off (HTTP {error.status_code})",
                "enable security: anybody can change the trail",
            )
            return outcome
    return Outcome(f"as {who.get('username', '?')}")


def templates(context: CheckContext) -> Outcome:
    """The index template of the data streams: without it Elasticsearch rejects records, and the exporter drops them."""
    if not context.elasticsearch:
        return Outcome(_NOT_ASKED, skipped=True)
    expected, remedy = "the index templates of mlaudit", "install them: mlaudit install --elasticsearch URL"
    with _asking(context, expected, remedy) as client:
        try:
            found = client.indices.get_index_template(name=_TEMPLATE).body["index_templates"][0][
                "index_template"
            ]
        except NotFoundError:
            raise BrokenLinkError(expected, f"no index template {_TEMPLATE}", remedy) from None
        except AuthorizationException:
            return Outcome("this user may not read templates; the probe's document decides", skipped=True)
    if "data_stream" not in found:
        raise BrokenLinkError(expected, f"an index template {_TEMPLATE} without data_stream", remedy)
    return Outcome(f"{_TEMPLATE} for {', '.join(found['index_patterns'])}")


def arrival(context: CheckContext) -> Outcome:
    """The probe's records are in the cluster, with the hash they were sealed with."""
    if not context.elasticsearch:
        return Outcome(_NOT_ASKED, skipped=True)
    probe = context.probe
    assert probe is not None
    query = {"term": {"audit.sequence.stream_id": probe.stream_id}}
    deadline = time.monotonic() + context.wait
    begun = time.monotonic()
    hits: list[dict[str, Any]] = []
    with _asking(
        context, "this user to be allowed to read audit records", "give it the role mlaudit_reader"
    ) as client:
        while len(hits) < probe.records and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS if hits or time.monotonic() - begun > 0.1 else 0.0)
            try:
                answer = client.search(
                    index=_STREAMS, query=query, size=20, allow_no_indices=True, ignore_unavailable=True
                )
            except ApiError as error:
                if error.status_code in _NOT_YET:
                    continue
                raise
            hits = answer["hits"]["hits"]
    expected = f"{probe.records} records of stream {probe.stream_id} within {context.wait:g} s"
    if len(hits) < probe.records:
        raise _absent(context, expected, len(hits))
    hashes = {hit["_source"].get("event.hash") for hit in hits}
    if probe.hash not in hashes:
        raise BrokenLinkError(
            f"the probe with hash {probe.hash}",
            "different content under its id",
            "something between here and Elasticsearch changes records: mlaudit verify",
        )
    if any(not hit["_index"].startswith(".ds-") for hit in hits):
        raise BrokenLinkError(
            "the probe in a data stream",
            f"it in the plain index {hits[0]['_index']}",
            "install the templates: mlaudit install --elasticsearch URL",
        )
    return Outcome(f"{len(hits)} records after {time.monotonic() - begun:.1f} s in {hits[0]['_index']}")


def proof(context: CheckContext) -> Outcome:
    """The probe's stream verifies, as for an auditor."""
    if not context.elasticsearch:
        return Outcome(_NOT_ASKED, skipped=True)
    assert context.probe is not None
    assert context.key is not None
    expected = f"stream {context.probe.stream_id} to hold"
    try:
        source = ElasticsearchSource(
            context.elasticsearch, credentials(context.env), ca_file=_ca_file(context)
        )
        try:
            report = verify_source(
                source, {context.key.id: context.key}, stream=context.probe.stream_id, settle=context.wait
            )
        finally:
            source.close()
    except MlauditError as error:
        raise BrokenLinkError(expected, str(error), "run mlaudit verify on it") from None
    if not report.ok:
        codes = ", ".join(sorted({found.code for found in report.findings if found.severity == "finding"}))
        raise BrokenLinkError(
            expected,
            codes,
            f"mlaudit verify --elasticsearch URL --stream {context.probe.stream_id} reports more",
        )
    return Outcome(f"{report.records} records: every hash, every link, all signatures good")


_JSON: Final = {"accept": "application/json"}


def _absent(context: CheckContext, expected: str, found: int) -> BrokenLinkError:
    if refused := collector_links.refusals_since(context):
        which = ", ".join(f"{count:,.0f} {what}" for what, count in sorted(refused.items()))
        return BrokenLinkError(
            expected,
            f"{found}; Elasticsearch refused documents meanwhile ({which})",
            "the collector's log has the reason; are the templates current? mlaudit install --elasticsearch URL",
        )
    return BrokenLinkError(
        expected,
        f"{found}; {collector_links.waiting_there(context)}",
        "look into the collector's log: it says why Elasticsearch does not take its requests (its own credentials, its "
        "certificate, a full disk there), or which documents are refused",
    )


@contextmanager
def _asking(context: CheckContext, expected: str, remedy: str) -> Iterator[Elasticsearch]:
    """A client, closed at the end; an error breaks the link."""
    try:
        auth: Auth = credentials(context.env)
        context.secrets |= {text for text in (auth if isinstance(auth, tuple) else (auth,)) if text} - {
            auth[0] if isinstance(auth, tuple) else ""
        }
        client = connect(context.elasticsearch, auth, _ca_file(context))
    except ClusterError as error:
        raise BrokenLinkError(expected, str(error), remedy) from None
    try:
        with explained(context.elasticsearch, "searching for the probe"):
            yield client
    except ClusterError as error:
        raise BrokenLinkError(expected, str(error), remedy) from None
    finally:
        client.close()


def _server(context: CheckContext) -> reach.Server:
    return reach.server(
        "Elasticsearch",
        context.elasticsearch,
        "--elasticsearch or MLAUDIT_ES_URL",
        "MLAUDIT_ES_CA_FILE",
        _ca_file(context),
    )


def _ca_file(context: CheckContext) -> Path | None:
    if context.ca_file is not None:
        return context.ca_file
    text = context.env.get("MLAUDIT_ES_CA_FILE")
    return Path(text) if text else None
