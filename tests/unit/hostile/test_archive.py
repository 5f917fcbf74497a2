"""Archives that attack the verifier."""

from __future__ import annotations

import gzip
import resource
import subprocess
import sys
from pathlib import Path

from tests.sealed import KEYS, NOW, archive_line, make_stream

from mlaudit.verify.sources.open_source import open_source
from mlaudit.verify.verification import verify_source

VERIFY = """
import sys
from pathlib import Path
from mlaudit.verify.verification import verify_source
from mlaudit.verify.sources.open_source import open_source
report = verify_source(open_source(Path(sys.argv[1])), None, settle=0)
print(len(report.findings), report.records)
"""


def test_a_file_of_garbage_has_a_bounded_number_of_findings(tmp_path: Path) -> None:
    """Of 30,000 invalid lines 10,000 are reported, the rest counted, and the records among them are proved."""
    path = tmp_path / "archive.jsonl"
    path.write_text("x\n" * 15_000 + archive_line(make_stream(8)) + "{\n" * 15_000, encoding="utf-8")
    report = verify_source(open_source(path), KEYS, now=NOW, settle=0)
    assert not report.ok
    assert len(report.findings) == 10_000
    assert report.suppressed == 20_000
    assert report.records == 8


def test_a_compressed_archive_is_not_inflated_into_memory(tmp_path: Path) -> None:
    """A bomb of 256 MB in one line is reported as damaged, within 300 MB of memory."""
    path = tmp_path / "archive.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(archive_line(make_stream(8)).encode())
        for _ in range(256):
            file.write(bytes(1 << 20))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (300 << 20, 300 << 20))

    done = subprocess.run(
        [sys.executable, "-c", VERIFY, str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        preexec_fn=limit,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    findings, records = map(int, done.stdout.split())
    assert records == 8
    assert findings
