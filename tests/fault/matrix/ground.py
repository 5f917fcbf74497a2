"""The ground on which a cell stands: one running stack, a state folder and a service name of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import urllib3
from elasticsearch import Elasticsearch
from tests.fault.matrix import stored
from tests.fault.matrix.cell import Outcome
from tests.fault.matrix.emitting import ROOT, Audited, CellError, Notebook, wait_for

from mlaudit.deliver.spool import layout
from mlaudit.seal.keys import load_verifier_keys
from mlaudit.stack import Stack
from mlaudit.verify.report import Report
from mlaudit.verify.sources.cluster_source import ElasticsearchSource
from mlaudit.verify.verification import verify_source

_QUEUE = re.compile(
    r'^otelcol_exporter_queue_size\{[^}]*exporter="elasticsearch/audit"[^}]*\}\s+(\S+)', re.MULTILINE
)
_ARRIVE_SECONDS = 180.0
_QUIET_SECONDS = 2.0


class Ground:
    """What a cell works with. The stack is shared with other cells: a cell that damages it heals it."""

    def __init__(self, stack: Stack, name: str, folder: Path, scale: float = 1.0) -> None:
        self.stack = stack
        self.name = name
        self.folder = folder
        self.scale = scale
        self.service = f"{name}-{uuid.uuid4().hex[:8]}"
        self.state = folder / "state"
        self.spool = self.state / "spool"
        self.notebook = Notebook(folder / "acknowledged", self._check)
        self._processes: list[Audited] = []
        self._pool = urllib3.PoolManager(retries=False, timeout=5)
        self.elasticsearch = Elasticsearch(
            stack.elasticsearch_url,
            basic_auth=stack.elasticsearch_auth,
            ca_certs=str(stack.ca_file) if stack.ca_file else None,
            request_timeout=60,
        )
        folder.mkdir(parents=True, exist_ok=True)

    # -- audited processes ----------------------------------------------------------------------------------

    def scaled(self, records: int) -> int:
        """So many records at full size; fewer on trial runs."""
        return max(50, round(records * self.scale))

    def environment(self, **more: str) -> dict[str, str]:
        """Of an audited process that sends to the stack's collector."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MLAUDIT_", "OTEL_", "PYTHON")) or name in ("MLAUDIT_CACHE", "PYTHONPATH")
        }
        return {
            **kept,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}",
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "MLAUDIT_ENABLED": "true",
            "MLAUDIT_SERVICE_NAME": self.service,
            "MLAUDIT_STATE_DIR": str(self.state),
            "MLAUDIT_SPOOL_DIR": str(self.spool),
            "MLAUDIT_ENDPOINT": f"{self.stack.otlp_endpoint}/v1/logs",
            "MLAUDIT_TOKEN_FILE": str(self.stack.token_file),
            "MLAUDIT_OTEL": "off",
            **more,
        }

    def start(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path = ROOT
    ) -> Audited:
        """Starts an audited process; it is gone when the cell is over."""
        log = self.folder / f"process-{len(self._processes)}.log"
        process = Audited(command, env if env is not None else self.environment(), log, cwd)
        self._processes.append(process)
        return process

    def workload(self, *arguments: str | float, env: Mapping[str, str] | None = None) -> Audited:
        """Starts the emitting program (see ``workload.main``); it notes its calls in ``notebook``."""
        command = [sys.executable, "-m", "tests.fault.matrix.workload"]
        return self.start([*command, "--acknowledge", str(self.notebook.path), *map(str, arguments)], env)

    @property
    def last(self) -> Audited:
        """The process that was started last."""
        return self._processes[-1]

    def _check(self) -> None:
        if self._processes and self.last.process.poll() is not None:
            raise CellError(f"the audited process ended; the end of its log:\n{self.last.tail()}")

    # -- healing --------------------------------------------------------------------------------------------

    def drain(self, seconds: float = 180.0, **more: str) -> float:
        """Runs ``mlaudit spool drain`` until nothing of dead processes is left; the seconds that it took.

        Raises:
            CellError: something is left.
        """
        began = time.monotonic()
        while True:
            left = max(1.0, seconds - (time.monotonic() - began))
            command = [sys.executable, "-m", "mlaudit.cli", "spool", "drain", "--seconds", f"{left:.0f}"]
            done = subprocess.run(
                command, env=self.environment(**more), cwd=ROOT, capture_output=True, text=True, check=False
            )
            if done.returncode == 0:
                return time.monotonic() - began
            if time.monotonic() - began > seconds:
                raise CellError(
                    f"expected the spool to drain within {seconds:.0f} s:\n{done.stdout}{done.stderr}"
                )
            time.sleep(0.2)

    def streams(self) -> list[Path]:
        """The streams that stand in the spool."""
        return layout.streams(self.spool)

    def wait_for_adoption(self, streams: Sequence[Path], seconds: float = 90.0) -> float:
        """Until a living process has drained and removed these streams of dead ones; the seconds it took."""
        return wait_for(
            lambda: not any(stream.exists() for stream in streams), "adoption of the dead streams", seconds
        )

    # -- looking --------------------------------------------------------------------------------------------

    def queue_size(self) -> float:
        """What waits in the collector's queue, in its own unit; 0 when it cannot be asked."""
        try:
            text = self._pool.request("GET", self.stack.metrics_url).data.decode()
        except urllib3.exceptions.HTTPError:
            return 0.0
        return sum(float(found) for found in _QUEUE.findall(text))

    def count(self) -> int:
        """Documents of the cell's service."""
        return stored.count(self.elasticsearch, self.service)

    def look_up(
        self,
        wanted: set[str],
        *,
        by: str = "records",
        seconds: float = _ARRIVE_SECONDS,
        patient: bool = True,
    ) -> stored.Stored:
        """Everything of the service, once the queue is empty, nothing more arrives, and ``wanted`` is there.

        ``by`` is ``records`` or ``requests``: what the ids are. Returns what is there when time is over, or, when
        not ``patient``, as soon as nothing more arrives.
        """
        deadline = time.monotonic() + seconds
        last, since = -1, time.monotonic()
        while time.monotonic() < deadline:
            now = self.count()
            if now != last:
                last, since = now, time.monotonic()
            elif not self.queue_size() and time.monotonic() - since > _QUIET_SECONDS:
                found = stored.look_up(self.elasticsearch, self.service)
                there = wanted <= getattr(found, by).keys()
                if there or not patient or time.monotonic() - since > 10 * _QUIET_SECONDS:
                    return found
            time.sleep(0.5)  # each look makes Elasticsearch write out what it has indexed
        return stored.look_up(self.elasticsearch, self.service)

    def verify(self, streams: Sequence[str] | None = None) -> Report:
        """Verifies the streams of the cell's service in Elasticsearch, with the cell's keys."""
        if streams is None:
            streams = [s for s in stored.look_up(self.elasticsearch, self.service).streams if s]
        source = ElasticsearchSource(
            self.stack.elasticsearch_url, self.stack.reader_auth, ca_file=self.stack.ca_file
        )
        try:
            return verify_source(
                stored.OfStreams(source, frozenset(streams)), load_verifier_keys(self.state / "keys")
            )
        finally:
            source.close()

    def judge(
        self,
        acknowledged: set[str] | None = None,
        *,
        by: str = "records",
        emitted: int | None = None,
        expected_findings: tuple[str, ...] = (),
        seconds: float = _ARRIVE_SECONDS,
        patient: bool = True,
        **notes: Any,
    ) -> Outcome:
        """The outcome, once everything was healed and drained.

        Args:
            acknowledged: ids whose calls returned; default: those of the notebook.
            by: ``records`` or ``requests``: what the ids are.
            emitted: calls that were made, where that is known; default: all of which there is a trace.
            expected_findings: what verify must name.
            seconds: how long to wait for documents.
            patient: whether to wait for every acknowledged one; see ``look_up``.
            **notes: kept in the row.
        """
        wanted = self.notebook.acknowledged() if acknowledged is None else acknowledged
        found = self.look_up(wanted, by=by, seconds=seconds, patient=patient)
        there = getattr(found, by)
        work = found.work if by == "records" else set(found.requests)
        report = self.verify([stream for stream in found.streams if stream])
        return Outcome(
            emitted=emitted if emitted is not None else len(wanted | work),
            acknowledged=len(wanted),
            stored=len(work),
            lost=len(wanted - there.keys()),
            duplicates=found.repeated,
            verify=described(report),
            expected_findings=expected_findings,
            notes={"streams": len(found.streams), "documents": found.documents, **notes},
        )

    def end(self) -> None:
        """Kills what the cell left running."""
        for process in self._processes:
            process.kill_group()

    def close(self) -> None:
        """Lets go of everything."""
        self.end()
        self.elasticsearch.close()
        self._pool.clear()


def described(report: Report) -> str:
    """``holds``, or how many findings with which codes."""
    codes = Counter(found.code for found in report.findings if found.severity != "information")
    if report.ok:
        return "holds"
    return f"{codes.total() + report.suppressed} findings: {', '.join(sorted(codes))}"
