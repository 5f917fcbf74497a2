"""The local stack as one object: Elasticsearch, then its assets, then the collector."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self

from mlaudit.errors import StackError
from mlaudit.stack import collector_process as collector_module
from mlaudit.stack import elasticsearch_node as elasticsearch_module
from mlaudit.stack import process
from mlaudit.stack.collector_process import Collector
from mlaudit.stack.credentials import load_or_make
from mlaudit.stack.elasticsearch_node import Elasticsearch
from mlaudit.stack.ports import claimed_ports
from mlaudit.stack.preparation import prepare
from mlaudit.stack.running import Running
from mlaudit.stack.stack_layout import exclusive, layout_of, write_private
from mlaudit.stack.state import State, read_state

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from mlaudit.stack.cache import Report
    from mlaudit.stack.collector_process import Tls

DEFAULT_DIRECTORY: Final = Path(".mlaudit-stack")

# Elasticsearch's HTTP and transport, OTLP/HTTP, the collector's health and metrics.
PORTS: Final = (9200, 9300, 4318, 13133, 8888)


def _silent(_: str) -> None:
    return None


class Stack(Running):
    """A local Elasticsearch and collector.

    ``with Stack(directory) as stack:`` starts both and stops them at the end; data stays in ``directory``.
    Secrets are generated, files that hold them are 0600, and everything listens on loopback only.

    Args:
        directory: where state, credentials, logs and data are kept.
        tls: Elasticsearch speaks HTTPS with a certificate of the stack's own authority.
        fresh: delete what an earlier run stored.
        otlp_tls: the collector speaks HTTPS (``server``), and asks senders for a certificate too (``mutual``).
        topology: ``queued``: acknowledged when on the collector's disk; ``direct``: when stored in Elasticsearch.
        archive: OTLP-JSON-lines file that gets every audit record as well.
        system: variables of system.yaml (``collector.this_host``); the collector then also records what happens to the
            host. None leaves it out.
        namespace: last part of the data streams' names.
        install: install mlaudit's assets before the collector may write.
        quick: Elasticsearch starts 2 to 3 s sooner, for less throughput.
        tied: the processes die with this one, whatever kills it (Linux, started from the main thread).
        report: receives progress, one line at a time.
    """

    def __init__(
        self,
        directory: Path | str = DEFAULT_DIRECTORY,
        *,
        tls: bool = True,
        otlp_tls: Tls = "off",
        topology: Literal["queued", "direct"] = "queued",
        fresh: bool = False,
        archive: Path | str | None = None,
        system: Mapping[str, str] | None = None,
        namespace: str = "default",
        install: bool = True,
        quick: bool = False,
        tied: bool = True,
        report: Report = _silent,
    ) -> None:
        kept = Path(archive).absolute() if archive else None
        super().__init__(layout_of(Path(directory)), kept, tls=tls, otlp_tls=otlp_tls)
        self.namespace = namespace
        self._topology = topology
        self._system = system
        self._fresh = fresh
        self._install = install
        self._quick = quick
        self._tied = tied
        self._report = report
        # Held until the end: while one of the two is killed, no other stack of this machine takes its port.
        self._claims = contextlib.ExitStack()

    # -- life ----------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start both programs; fetches and builds them first where the cache does not have them.

        Raises:
            StackError: something is missing (all of it listed), already runs, or did not become healthy.
        """
        with exclusive(self.layout, self._report):
            running = read_state(self.layout.state)
            if running and (running.elasticsearch.alive() or running.collector.alive()):
                raise StackError(
                    f"a stack already runs in {self.layout.directory}; use it, or stop it with: "
                    f"mlaudit stack down --dir {self.layout.directory}"
                )
            java_home, home, binary = prepare(self._report, self.layout.uid)
            try:
                ports = self._claims.enter_context(claimed_ports(PORTS))
                self._start(java_home, home, binary, ports)
            except BaseException:
                self._stop()
                raise

    def stop(self) -> None:
        """Stop both programs, collector first: SIGTERM, then SIGKILL after a deadline. Data stays."""
        with exclusive(self.layout, self._report):
            self._stop()

    def kill_collector(self) -> None:
        """SIGKILL the collector, as a crash would."""
        process.kill(self._running_collector[1])

    def restart_collector(self) -> None:
        """Start the collector again, with the same addresses and queue; returns when it is healthy."""
        collector, started = self._running_collector
        process.kill(started)
        self._collector = (collector, collector.start(tied=self._tied))
        self._write_state()
        collector.wait(self._collector[1])

    def kill_elasticsearch(self) -> None:
        """SIGKILL Elasticsearch, as a crash would."""
        process.kill(self._running_elasticsearch[1])

    def restart_elasticsearch(self) -> None:
        """Start Elasticsearch again, with the same address and data; returns when it is healthy."""
        node, started = self._running_elasticsearch
        process.kill(started)
        self._elasticsearch = (node, node.start(tied=self._tied))
        self._write_state()
        node.wait(self._elasticsearch[1], self.credentials)

    # -- inside ---------------------------------------------------------------------------------------------

    def _start(self, java_home: Path, home: Path, binary: Path, ports: list[int]) -> None:
        began = time.monotonic()
        if self._fresh:
            self.layout.remove_data()
        self.layout.make()
        self._credentials = load_or_make(self.layout.credentials)
        write_private(self.token_file, self._credentials.token)
        http, transport, otlp, health, metrics = ports
        node = Elasticsearch(self.layout, home, java_home, http, transport, self._tls, self._quick)
        node.configure(self._credentials)
        self._report(f"starting Elasticsearch on {node.url}")
        self._elasticsearch = (node, node.start(tied=self._tied))
        node.wait(self._elasticsearch[1], self._credentials)
        if self._install:
            from mlaudit.install.apply import install

            self._report("installing mlaudit's assets")
            install(node.url, self.elasticsearch_auth, self.ca_file, dry_run=False)
        collector = Collector(
            self.layout,
            binary,
            node.url,
            otlp,
            health,
            metrics,
            self.namespace,
            self._archive,
            self._otlp_tls,
            self._topology == "direct",
            self._system,
        )
        collector.configure(self._credentials)
        self._report(f"starting the collector on {collector.otlp_endpoint}")
        self._collector = (collector, collector.start(tied=self._tied))
        collector.wait(self._collector[1])
        self._write_state()
        self._report(f"ready after {time.monotonic() - began:.1f} s")

    def _write_state(self) -> None:
        node, node_process = self._running_elasticsearch
        collector, collector_process = self._running_collector
        State(
            elasticsearch_url=node.url,
            otlp_endpoint=collector.otlp_endpoint,
            health_url=f"http://127.0.0.1:{collector.health_port}/",
            metrics_url=collector.metrics_url,
            ca_file=str(self.ca_file) if self.ca_file else None,
            credentials=str(self.layout.credentials),
            logs=str(self.layout.logs),
            namespace=self.namespace,
            archive=str(self._archive) if self._archive else None,
            otlp_ca_file=str(self.otlp_ca_file) if self.otlp_ca_file else None,
            client_certificate=self._otlp_tls == "mutual",
            elasticsearch=node_process,
            collector=collector_process,
        ).write(self.layout.state)

    def _stop(self) -> None:
        if self._collector is not None:
            process.stop(self._collector[1], collector_module.STOP_SECONDS)
        if self._elasticsearch is not None:
            process.stop(self._elasticsearch[1], elasticsearch_module.STOP_SECONDS)
        self._collector = self._elasticsearch = None
        self._claims.close()
        self.layout.state.unlink(missing_ok=True)


def stop_running(directory: Path, report: Report = _silent) -> bool:
    """Stop the stack that the state file in ``directory`` describes; False if none runs there."""
    layout = layout_of(directory)
    if not layout.directory.is_dir():
        return False
    with exclusive(layout, report):
        state = read_state(layout.state)
        if state is None:
            return False
        alive = state.collector.alive() or state.elasticsearch.alive()
        report("stopping the collector")
        process.stop(state.collector, collector_module.STOP_SECONDS)
        report("stopping Elasticsearch")
        process.stop(state.elasticsearch, elasticsearch_module.STOP_SECONDS)
        layout.state.unlink(missing_ok=True)
        return alive
