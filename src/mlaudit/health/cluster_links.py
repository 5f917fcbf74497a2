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
from mlaudit.health.checks import BrokenLinkError, Ground, Outcome
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


def name(ground: Ground) -> Outcome:
    """Elasticsearch's host name resolves."""
    return reach.resolve(_server(ground)) if ground.elasticsearch else Outcome(_NOT_ASKED, skipped=True)


def connection(ground: Ground) -> Outcome:
    """Elasticsearch's port accepts a connection."""
    if not ground.elasticsearch:
        return Outcome(_NOT_ASKED, skipped=True)
    try:
        return reach.connect(_server(ground))
    except BrokenLinkError as error:
        raise BrokenLinkError(
            error.expected, f"{error.found}; {collector_links.waiting_there(ground)}", error.remedy
        ) from None


def tls(ground: Ground) -> Outcome:
    """Elasticsearch's certificate is trusted."""
    return reach.secure(_server(ground)) if ground.elasticsearch else Outcome(_NOT_ASKED, skipped=True)


def authentication(ground: Ground) -> Outcome:
    """Elasticsearch accepts the credentials."""
    if not ground.elasticsearch:
        return Outcome(_NOT_ASKED, skipped=True)
    with _asking(ground, "Elasticsearch to know the credentials", _CREDENTIALS) as client:
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


def templates(ground: Ground) -> Outcome:
    """The index template of the data streams: without it Elasticsearch rejects records, and the exporter drops them."""
    if not ground.elasticsearch:
        return Outcome(_NOT_ASKED, skipped=True)
    expected, remedy = "the index templates of mlaudit", "install them: mlaudit install --elasticsearch URL"
    with _asking(ground, expected, remedy) as client:
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


def arrival(ground: Ground) -> Outcome:
    """The probe's records are in the cluster, with the hash they were sealed with."""
    if not ground.elasticsearch:
        return Outcome(_NOT_ASKED, skipped=True)
    probe = ground.probe
    assert probe is not None
    query = {"term": {"audit.sequence.stream_id": probe.stream_id}}
    deadline = time.monotonic() + ground.wait
    begun = time.monotonic()
    hits: list[dict[str, Any]] = []
    with _asking(
        ground, "this user to be allowed to read audit records", "give it the role mlaudit_reader"
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
    expected = f"{probe.records} records of stream {probe.stream_id} within {ground.wait:g} s"
    if len(hits) < probe.records:
        raise _absent(ground, expected, len(hits))
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


def proof(ground: Ground) -> Outcome:
    """The probe's stream verifies, as for an auditor."""
    if not ground.elasticsearch:
        return Outcome(_NOT_ASKED, skipped=True)
    assert ground.probe is not None
    assert ground.key is not None
    expected = f"stream {ground.probe.stream_id} to hold"
    try:
        source = ElasticsearchSource(ground.elasticsearch, credentials(ground.env), ca_file=_ca_file(ground))
        try:
            report = verify_source(
                source, {ground.key.id: ground.key}, stream=ground.probe.stream_id, settle=ground.wait
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
            f"mlaudit verify --elasticsearch URL --stream {ground.probe.stream_id} reports more",
        )
    return Outcome(f"{report.records} records: every hash, every link, all signatures good")


_JSON: Final = {"accept": "application/json"}


def _absent(ground: Ground, expected: str, found: int) -> BrokenLinkError:
    if refused := collector_links.refusals_since(ground):
        which = ", ".join(f"{count:,.0f} {what}" for what, count in sorted(refused.items()))
        return BrokenLinkError(
            expected,
            f"{found}; Elasticsearch refused documents meanwhile ({which})",
            "the collector's log has the reason; are the templates current? mlaudit install --elasticsearch URL",
        )
    return BrokenLinkError(
        expected,
        f"{found}; {collector_links.waiting_there(ground)}",
        "look into the collector's log: it says why Elasticsearch does not take its requests (its own credentials, its "
        "certificate, a full disk there), or which documents are refused",
    )


@contextmanager
def _asking(ground: Ground, expected: str, remedy: str) -> Iterator[Elasticsearch]:
    """A client, closed at the end; an error breaks the link."""
    try:
        auth: Auth = credentials(ground.env)
        ground.secrets |= {text for text in (auth if isinstance(auth, tuple) else (auth,)) if text} - {
            auth[0] if isinstance(auth, tuple) else ""
        }
        client = connect(ground.elasticsearch, auth, _ca_file(ground))
    except ClusterError as error:
        raise BrokenLinkError(expected, str(error), remedy) from None
    try:
        with explained(ground.elasticsearch, "searching for the probe"):
            yield client
    except ClusterError as error:
        raise BrokenLinkError(expected, str(error), remedy) from None
    finally:
        client.close()


def _server(ground: Ground) -> reach.Server:
    return reach.server(
        "Elasticsearch",
        ground.elasticsearch,
        "--elasticsearch or MLAUDIT_ES_URL",
        "MLAUDIT_ES_CA_FILE",
        _ca_file(ground),
    )


def _ca_file(ground: Ground) -> Path | None:
    if ground.ca_file is not None:
        return ground.ca_file
    text = ground.env.get("MLAUDIT_ES_CA_FILE")
    return Path(text) if text else None
