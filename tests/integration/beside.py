"""A second collector with another configuration, on the Elasticsearch of the shared stack."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import urllib3

from mlaudit.stack import Stack, process
from mlaudit.stack.collector_build import collector_binary
from mlaudit.stack.collector_process import STOP_SECONDS, Collector, Tls
from mlaudit.stack.ports import claimed_ports
from mlaudit.stack.stack_layout import Layout, layout_of


@dataclass
class Beside:
    """What a sender needs to connect."""

    collector: Collector
    token: str

    @property
    def otlp_endpoint(self) -> str:
        """Where to send."""
        return self.collector.otlp_endpoint

    @property
    def ca_file(self) -> Path:
        """Whom to trust."""
        return self.collector.layout.otlp_ca_file

    @property
    def client_certificate(self) -> tuple[Path, Path]:
        """Certificate and key of a sender."""
        return self.collector.layout.client_certificate

    def pool(self, *, certified: bool = False, **options: object) -> urllib3.PoolManager:
        """Connections that trust the collector, with or without the sender's certificate."""
        certificate, key = self.client_certificate
        shown = {"cert_file": str(certificate), "key_file": str(key)} if certified else {}
        return urllib3.PoolManager(
            **{"ca_certs": str(self.ca_file), "retries": False, "timeout": 30, **shown, **options}
        )


@contextmanager
def collector_beside(
    stack: Stack,
    *,
    tls: Tls = "off",
    direct: bool = False,
    system: Callable[[Layout], dict[str, str]] | None = None,
) -> Iterator[Beside]:
    """Runs the collector; ``system`` prepares the input of system.yaml and returns its variables."""
    # Not pytest's temporary folders: they are closed to the unprivileged user that runs the collector.
    directory = Path(tempfile.mkdtemp(prefix="mlaudit-beside-"))
    directory.chmod(0o755)
    layout = layout_of(directory)
    layout.make()
    assert stack.ca_file is not None
    shutil.copyfile(stack.ca_file, layout.ca_file)
    binary = collector_binary(lambda _: None)
    try:
        with claimed_ports((14318, 23133, 18888)) as (otlp, health, metrics):
            collector = Collector(
                layout,
                binary,
                stack.elasticsearch_url,
                otlp,
                health,
                metrics,
                stack.namespace,
                None,
                tls,
                direct,
                system(layout) if system else None,
            )
            collector.configure(stack.credentials)
            started = collector.start(tied=True)
            try:
                collector.wait(started)
                yield Beside(collector, stack.token)
            finally:
                process.stop(started, STOP_SECONDS)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
