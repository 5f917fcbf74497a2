"""A running stack: addresses, credentials, certificates, processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlaudit.errors import StackError
from mlaudit.stack.credentials import ADMIN, READER, Credentials, named_token
from mlaudit.stack.stack_layout import Layout, write_private

if TYPE_CHECKING:
    from pathlib import Path

    from mlaudit.stack.collector_process import Collector, Tls
    from mlaudit.stack.elasticsearch_node import Elasticsearch
    from mlaudit.stack.process import ProcessId


class Running:
    """A stack as its users see it. ``Stack`` starts and stops it."""

    def __init__(self, layout: Layout, archive: Path | None, *, tls: bool, otlp_tls: Tls) -> None:
        self.layout = layout
        self._archive = archive
        self._tls = tls
        self._otlp_tls: Tls = otlp_tls
        self._credentials: Credentials | None = None
        self._elasticsearch: tuple[Elasticsearch, ProcessId] | None = None
        self._collector: tuple[Collector, ProcessId] | None = None

    @property
    def directory(self) -> Path:
        """Where state, credentials, logs and data are kept."""
        return self.layout.directory

    @property
    def logs(self) -> Path:
        """Folder of what both programs printed."""
        return self.layout.logs

    @property
    def credentials(self) -> Credentials:
        """Every generated secret."""
        if self._credentials is None:
            raise StackError("the stack is not running; start it first")
        return self._credentials

    @property
    def elasticsearch_url(self) -> str:
        """E.g. ``https://127.0.0.1:9200``."""
        return self._running_elasticsearch[0].url

    @property
    def elasticsearch_auth(self) -> tuple[str, str]:
        """User and password of the administrator."""
        return ADMIN, self.credentials.admin

    @property
    def reader_auth(self) -> tuple[str, str]:
        """User and password of a user who may only read audit records."""
        return READER, self.credentials.reader

    @property
    def ca_file(self) -> Path | None:
        """The authority to trust for ``elasticsearch_url``; None without TLS."""
        return self.layout.ca_file if self._tls else None

    @property
    def otlp_endpoint(self) -> str:
        """E.g. ``http://127.0.0.1:4318``; audit records go to ``/v1/logs`` below it."""
        return self._running_collector[0].otlp_endpoint

    @property
    def token(self) -> str:
        """Bearer token for ``otlp_endpoint``."""
        return self.credentials.token

    def named_token_file(self, sender: str) -> Path:
        """File with a token that the collector knows as ``sender``'s; made, and accepted on return, if it is new.

        Raises:
            StackError: the name cannot be part of a token, or the collector does not reload it.
        """
        path = self.layout.senders / f"{sender}.token"
        if not path.exists():
            write_private(path, named_token(sender))
            collector, _ = self._running_collector
            collector.admit(self.credentials)
            collector.wait_admitted(path.read_text())
        return path

    @property
    def otlp_ca_file(self) -> Path | None:
        """The authority to trust for ``otlp_endpoint``; None without TLS."""
        return None if self._otlp_tls == "off" else self.layout.otlp_ca_file

    @property
    def client_certificate(self) -> tuple[Path, Path] | None:
        """Certificate and key that a sender shows with ``otlp_tls="mutual"``."""
        return self.layout.client_certificate if self._otlp_tls == "mutual" else None

    @property
    def token_file(self) -> Path:
        """File with only the token in it, 0600, for ``MLAUDIT_TOKEN_FILE``."""
        return self.layout.directory / "token"

    @property
    def metrics_url(self) -> str:
        """The collector's own metrics, Prometheus text."""
        return self._running_collector[0].metrics_url

    @property
    def archive(self) -> Path | None:
        """The OTLP-JSON-lines file that gets every audit record as well."""
        return self._archive

    @property
    def collector_process(self) -> ProcessId:
        """The collector's process."""
        return self._running_collector[1]

    @property
    def elasticsearch_process(self) -> ProcessId:
        """Elasticsearch's process (its launcher, which leads the group)."""
        return self._running_elasticsearch[1]

    @property
    def _running_elasticsearch(self) -> tuple[Elasticsearch, ProcessId]:
        if self._elasticsearch is None:
            raise StackError("Elasticsearch is not running; start the stack first")
        return self._elasticsearch

    @property
    def _running_collector(self) -> tuple[Collector, ProcessId]:
        if self._collector is None:
            raise StackError("the collector is not running; start the stack first")
        return self._collector
