"""Reads everything that a search finds, page by page, at one point in time.

An incomplete answer (a shard that failed, a search that timed out) is an error, never a shorter answer: what it leaves
out would be a silent gap in an audit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from elasticsearch import ApiError, TransportError

from mlaudit.cluster.client import explained
from mlaudit.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from elasticsearch import Elasticsearch

#: How long Elasticsearch keeps a point in time after each search; reading a page has to take less.
KEEP_ALIVE: Final = "5m"
_BUCKETS: Final = 1000

Hit = dict[str, Any]


class Search(Protocol):
    """A search that knows where it looks; see ``PointInTime.search`` and ``search``."""

    def __call__(self, **body: Any) -> Mapping[str, Any]:
        """The complete answer to one request."""


class PointInTime:
    """The documents of an index pattern as they were when it was opened, for any number of searches.

    Use it in a ``with`` block: leaving it closes the point in time, after an error as well.
    """

    def __init__(self, client: Elasticsearch, index: str, doing: str) -> None:
        """``doing`` says in errors what the searches are for, e.g. "reading audit documents"."""
        self._client = client
        self._index = index
        self._doing = doing
        self._id = ""

    def __enter__(self) -> Self:
        """Opens it.

        Raises:
            ClusterError: the cluster cannot be reached or refuses.
        """
        with explained(address(self._client), self._doing):
            self._id = self._client.open_point_in_time(index=self._index, keep_alive=KEEP_ALIVE)["id"]
        return self

    def __exit__(self, *_: object) -> None:
        """Closes it; where that fails, Elasticsearch closes it when the time is over."""
        try:
            self._client.close_point_in_time(id=self._id)
        except (ApiError, TransportError):
            return

    def search(self, **body: Any) -> Mapping[str, Any]:
        """The complete answer to one request.

        Raises:
            ClusterError: the cluster cannot be reached, refuses, or answered only in part.
        """
        point = {"id": self._id, "keep_alive": KEEP_ALIVE}
        answer = search(self._client, self._doing, pit=point, **body)
        self._id = answer.get("pit_id", self._id)
        return answer


def search(client: Elasticsearch, doing: str, **body: Any) -> Mapping[str, Any]:
    """The complete answer to one request, without a point in time unless ``body`` names one.

    Raises:
        ClusterError: the cluster cannot be reached, refuses, or answered only in part.
    """
    where = address(client)
    with explained(where, doing):
        answer: Mapping[str, Any] = client.search(**body, allow_partial_search_results=False).body
    if answer["timed_out"]:
        raise ClusterError(f"{where} did not finish a search in time while {doing}; check its load")
    if failed := answer["_shards"]["failed"]:
        raise ClusterError(
            f"{where}: {failed} shards did not answer while {doing}; check the cluster's health"
        )
    return answer


def hits(search: Search, *, sort: Sequence[Mapping[str, Any]], size: int, **body: Any) -> Iterator[Hit]:
    """Every document that matches, in order; holds one page of ``size``.

    Args:
        search: where to look. Without a point in time, what is stored meanwhile may be found as well.
        sort: a total order, so that no document falls between two pages.
        size: documents per request.
        body: the request, e.g. ``query`` and ``source``.

    Raises:
        ClusterError: see ``PointInTime.search``.
    """
    after: list[Any] | None = None
    while True:
        answer = search(size=size, sort=sort, search_after=after, track_total_hits=False, **body)
        found: list[Hit] = answer["hits"]["hits"]
        yield from found
        if len(found) < size:
            return
        after = found[-1]["sort"]


def buckets(
    search: Search,
    *,
    sources: Sequence[Mapping[str, Any]],
    query: Mapping[str, Any],
    aggregations: Mapping[str, Any] | None = None,
    size: int = _BUCKETS,
) -> Iterator[Mapping[str, Any]]:
    """Every combination of values, exactly: a ``terms`` aggregation would end at its size.

    Args:
        search: where to look.
        sources: of the composite aggregation, one for each part of a bucket's key.
        query: which documents count.
        aggregations: to be computed for each bucket.
        size: buckets per request.

    Raises:
        ClusterError: see ``PointInTime.search``.
    """
    after: dict[str, Any] = {}
    while True:
        by: dict[str, Any] = {"composite": {"size": size, "sources": sources, **after}}
        if aggregations:
            by["aggregations"] = aggregations
        found = search(size=0, query=query, aggregations={"by": by})["aggregations"]["by"]
        yield from found["buckets"]
        if "after_key" not in found:
            return
        after = {"after": found["after_key"]}


def refresh(client: Elasticsearch, index: str, doing: str) -> None:
    """Makes what was just stored visible, where the reader may do that; else the next periodic refresh does.

    Raises:
        ClusterError: the cluster cannot be reached.
    """
    with explained(address(client), doing):
        try:
            client.indices.refresh(index=index)
        except ApiError:
            return


def address(client: Elasticsearch) -> str:
    """Where a client sends its requests, without credentials."""
    return next(iter(client.transport.node_pool.all())).base_url
