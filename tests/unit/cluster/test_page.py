"""The pager, against a server that answers as Elasticsearch does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from elasticsearch import Elasticsearch

from mlaudit.cluster.page import PointInTime, buckets, hits, search
from mlaudit.errors import ClusterError, InstallError, SourceError

SORT = [{"n": "asc"}]
INDEX = "logs-mlaudit.*"


class Cluster(ThreadingHTTPServer):
    """Documents numbered from 0, and every request that was made."""

    def __init__(self, documents: int) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.documents = list(range(documents))
        self.asked: list[dict[str, Any]] = []
        self.opened = 0
        self.closed: list[str] = []
        self.broken: dict[str, Any] = {}  # merged into every answer from the second page on
        self.status = 200  # of every answer from the second page on
        self.close_status = 200

    @property
    def client(self) -> Elasticsearch:
        """A client for it, without retries."""
        return Elasticsearch(f"http://127.0.0.1:{self.server_port}", max_retries=0)

    def answer(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """A page of documents or of buckets."""
        self.asked.append(body)
        whole = {"timed_out": False, "_shards": {"failed": 0, "total": 1}, "hits": {"hits": []}}
        if "aggregations" in body:
            composite = body["aggregations"]["by"]["composite"]
            after = composite.get("after", {"n": -1})["n"]
            found = [n for n in self.documents if n > after][: composite["size"]]
            by: dict[str, Any] = {"buckets": [{"key": {"n": n}, "doc_count": 1} for n in found]}
            if found:
                by["after_key"] = {"n": found[-1]}
            return 200, {**whole, "aggregations": {"by": by}}
        after = body.get("search_after", [-1])[0]
        found = [n for n in self.documents if n > after][: body["size"]]
        whole["hits"] = {"hits": [{"_id": str(n), "sort": [n]} for n in found]}
        whole["pit_id"] = f"point-{len(self.asked)}"
        later = after >= 0
        return (self.status, {**whole, **self.broken}) if later else (200, whole)


class _Answers(BaseHTTPRequestHandler):
    server: Cluster

    def do_POST(self) -> None:
        """A search, or a point in time to be opened."""
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or "{}")
        if "_pit" in self.path:
            self.server.opened += 1
            self._put(200, {"id": "point-0"})
        else:
            self._put(*self.server.answer(body))

    def do_DELETE(self) -> None:
        """A point in time to be closed."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.closed.append(body["id"])
        self._put(self.server.close_status, {"succeeded": True})

    def _put(self, status: int, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("x-elastic-product", "Elasticsearch")
        self.send_header("content-type", "application/vnd.elasticsearch+json;compatible-with=9")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Keeps quiet."""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A cluster with five documents."""
    with Cluster(5) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def read(cluster: Cluster, size: int) -> list[str]:
    """The ids of all documents."""
    with cluster.client as client, PointInTime(client, INDEX, "reading") as point:
        return [hit["_id"] for hit in hits(point.search, sort=SORT, size=size)]


@pytest.mark.parametrize("size", [1, 2, 5, 6])
def test_every_document_comes_once(cluster: Cluster, size: int) -> None:
    """Whether the last page is full, half full or empty."""
    assert read(cluster, size) == ["0", "1", "2", "3", "4"]
    assert len(cluster.asked) == 5 // size + 1


def test_the_newest_id_of_the_point_in_time_is_used_and_closed(cluster: Cluster) -> None:
    """Each answer may give another id; an older one may stop working."""
    read(cluster, 2)
    assert [body["pit"]["id"] for body in cluster.asked] == ["point-0", "point-1", "point-2"]
    assert cluster.closed == ["point-3"]


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        ({"_shards": {"failed": 2, "total": 3}}, "2 shards did not answer while reading"),
        ({"timed_out": True}, "did not finish a search in time while reading"),
    ],
)
def test_half_an_answer_is_an_error(cluster: Cluster, broken: dict[str, Any], expected: str) -> None:
    """A page that lacks documents is not taken for the last one, and the point in time is closed."""
    cluster.broken = broken
    with pytest.raises(ClusterError, match=expected):
        read(cluster, 2)
    assert len(cluster.closed) == 1
    assert all(body["allow_partial_search_results"] is False for body in cluster.asked if "query" in body)


def test_a_point_in_time_that_expired_is_an_error(cluster: Cluster) -> None:
    """Elasticsearch no longer knows it: neither an end nor a reason to begin again."""
    cluster.status, cluster.broken = 404, {"error": {"reason": "No search context found for id [7]"}}
    with pytest.raises(ClusterError, match="answered 404 while reading: No search context found"):
        read(cluster, 2)
    assert len(cluster.closed) == 1


def test_a_point_in_time_that_cannot_be_closed_hides_no_error(cluster: Cluster) -> None:
    """The first error is reported, not the failure to close."""
    cluster.status, cluster.close_status = 500, 500
    with pytest.raises(ClusterError, match="answered 500 while reading"):
        read(cluster, 2)


def test_a_reader_who_stops_early_closes_the_point_in_time(cluster: Cluster) -> None:
    """Open points keep deleted documents on the cluster's disks."""
    with cluster.client as client:

        def documents() -> Iterator[dict[str, Any]]:
            with PointInTime(client, INDEX, "reading") as point:
                yield from hits(point.search, sort=SORT, size=2)

        reading = documents()
        assert next(reading)["_id"] == "0"
        assert cluster.closed == []
        reading.close()
    assert (cluster.opened, cluster.closed) == (1, ["point-1"])


@pytest.mark.parametrize("size", [1, 2, 5, 6])
def test_every_bucket_comes_once(cluster: Cluster, size: int) -> None:
    """Without a point in time as well."""
    with cluster.client as client:

        def look(**body: Any) -> Any:
            return search(client, "counting", index=INDEX, **body)

        found = buckets(look, sources=[{"n": {"terms": {"field": "n"}}}], query={"match_all": {}}, size=size)
        assert [bucket["key"]["n"] for bucket in found] == [0, 1, 2, 3, 4]


def test_an_error_of_the_cluster_stops_an_installation_and_a_look_alike() -> None:
    """An installation and a detection run both stop at an error of the cluster."""
    assert issubclass(ClusterError, InstallError)
    assert issubclass(ClusterError, SourceError)
