"""What holds for every command of the command line."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table
from typer.main import get_command
from typer.testing import CliRunner

from mlaudit import cli
from mlaudit._version import __version__
from mlaudit.catalog.load import load_catalog
from mlaudit.cli import app, catalog, output


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its path."""
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from commands(one, (*path, name))
        else:
            yield (*path, name), one


ALL = dict(commands(get_command(app)))


def program(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MLAUDIT_", "OTEL_"))}
    env.update(options.pop("env", {}))
    return subprocess.run(
        [sys.executable, "-m", "mlaudit.cli", *arguments],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_has_json(path: tuple[str, ...]) -> None:
    """A command that prints, and each of them does, offers --json, by the one class that makes errors JSON, too."""
    options = {name for parameter in ALL[path].params for name in parameter.opts}
    assert "--json" in options
    assert type(ALL[path]).__name__ == "JsonErrors"


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_a_wrong_call_is_json_and_exit_code_2(path: tuple[str, ...]) -> None:
    """With --json an option that does not exist is an error as a document, and nothing else is on stdout."""
    result = CliRunner().invoke(app, [*path, "--json", "--no-such-option"])
    assert result.exit_code == 2
    answer = json.loads(result.stdout)
    assert answer["ok"] is False
    assert "--no-such-option" in answer["error"]


def test_an_error_on_purpose_is_json_and_a_line(tmp_path: Path) -> None:
    """The document is on stdout, the sentence on stderr, the exit code 2."""
    done = program("keys", "show", "--dir", str(tmp_path), "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["ok"] is False
    assert "expected at least one verifier key" in done.stderr
    assert "Traceback" not in done.stderr


def test_version_is_one_line_without_settings() -> None:
    """Name, version, Python and platform; settings that are wrong do not matter."""
    for flag in ("--version", "-V"):
        done = program(flag, env={"MLAUDIT_SPOOL_BYTES": "nonsense"})
        assert done.returncode == 0
        assert done.stdout.startswith(f"mlaudit {__version__}, Python 3.")
        assert done.stdout.count("\n") == 1


def test_help_imports_no_heavy_library() -> None:
    """Help and completion come at once: neither Elasticsearch nor cryptography nor pydantic is loaded."""
    code = (
        "import sys, mlaudit.cli\n"
        "try: mlaudit.cli.app(['--help'])\n"
        "except SystemExit: pass\n"
        "loaded = {'elasticsearch', 'cryptography', 'pydantic', 'opentelemetry.sdk'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
        "rooms = {n.split('.')[1] for n in sys.modules if n.startswith('mlaudit.')}\n"
        "assert rooms <= {'_version', 'cli', 'errors', 'safety'}, rooms\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def raise_this(monkeypatch: pytest.MonkeyPatch, error: BaseException, *arguments: str) -> int:
    """Runs main() with a catalog that cannot be loaded for a reason that nobody thought of."""

    def broken() -> None:
        raise error

    monkeypatch.setattr("mlaudit.catalog.load.load_catalog", broken)
    monkeypatch.setattr("sys.argv", ["mlaudit", *arguments])
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), write_through=True))
    monkeypatch.setattr("sys.stderr", io.TextIOWrapper(io.BytesIO(), write_through=True))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def written(stream: Any) -> str:
    """What a stream made above holds."""
    text: str = stream.buffer.getvalue().decode()
    return text


def test_an_unexpected_error_is_one_line_and_exit_code_70(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no finding (1) and no refusal (2); escapes in it command no terminal."""
    assert raise_this(monkeypatch, ZeroDivisionError("by \x1b[2J"), "catalog") == 70
    text = written(sys.stderr)
    assert text.startswith(
        "mlaudit: internal error: ZeroDivisionError: by \\x1b[2J; run again with mlaudit -vv"
    )
    assert text.count("\n") == 1
    assert raise_this(monkeypatch, ZeroDivisionError("x"), "-v", "catalog", "--json") == 70
    assert json.loads(written(sys.stdout)) == {"ok": False, "error": "internal error: ZeroDivisionError: x"}
    assert "Traceback" not in written(sys.stderr)


def test_the_traceback_comes_with_vv(monkeypatch: pytest.MonkeyPatch) -> None:
    """-vv prints it; the line and the exit code stay."""
    assert raise_this(monkeypatch, ZeroDivisionError("x"), "-vv", "catalog") == 70
    assert "Traceback (most recent call last)" in written(sys.stderr)
    assert "mlaudit: internal error: ZeroDivisionError: x\n" in written(sys.stderr)


def test_ctrl_c_is_130_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt ends the program as shells expect it."""
    assert raise_this(monkeypatch, KeyboardInterrupt(), "catalog") == 130
    assert "Traceback" not in written(sys.stderr)


@pytest.mark.parametrize("arguments", [("catalog",), ("catalog", "--json")])
def test_a_reader_that_leaves_is_no_error(arguments: tuple[str, ...]) -> None:
    """With a closed pipe the program ends as by SIGPIPE, silently, and not with the exit code of findings."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "mlaudit.cli", *arguments], stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_terminal_of_ascii_gets_everything(tmp_path: Path) -> None:
    """What an encoding lacks is written out instead of ending the report."""
    policy = tmp_path / "größe-\u202e.yaml"
    for kind in ({"PYTHONIOENCODING": "ascii"}, {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0"}):
        done = program("policy", "check", str(policy), env=kind)
        assert done.returncode == 2, done.stderr
        assert "cannot be read" in done.stdout
        done = program("catalog", "audit.ml.prediction", env=kind)
        assert done.returncode == 0, done.stderr


def test_no_color_is_obeyed() -> None:
    """NO_COLOR wins over a terminal that could show colours, and JSON has none in any case."""
    done = program("catalog", "audit.ml.prediction", env={"NO_COLOR": "1", "FORCE_COLOR": "1"})
    assert not re.search(r"\x1b\[(\d+;)*[349][0-7]", done.stdout)
    done = program("catalog", "--json", env={"FORCE_COLOR": "1"})
    assert "\x1b" not in done.stdout
    assert len(json.loads(done.stdout)) > 50


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", ""])
def test_show_completion_prints_a_script_or_says_why_not(shell: str) -> None:
    """The script is that of the shell; a shell that cannot be told is a sentence, never a traceback."""
    env = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = program("--show-completion", *([shell] if shell else []), env=env)
    if shell:
        assert "complete" in done.stdout.lower()
    else:
        assert done.returncode != 0
    assert "Traceback" not in done.stderr


def test_completion_offers_kinds() -> None:
    """``mlaudit catalog <TAB>`` names kinds of event that begin as what was typed."""
    env = {
        "_MLAUDIT_COMPLETE": "complete_bash",
        "COMP_WORDS": "mlaudit catalog audit.ml.pred",
        "COMP_CWORD": "2",
    }
    done = subprocess.run(
        [sys.executable, "-c", "from mlaudit.cli import main; import sys; sys.argv = ['mlaudit']; main()"],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "audit.ml.prediction" in done.stdout.split()


@pytest.mark.parametrize("width", [40, 60, 80])
@pytest.mark.parametrize("terminal", [True, False])
def test_no_kind_and_no_field_is_cut(width: int, terminal: bool) -> None:
    """At any width every kind and every field is whole on a line, and no cell ends with an ellipsis."""
    known = load_catalog()
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=terminal, color_system=None, soft_wrap=True)
    catalog.show_kinds(known, console)
    words = {word for line in out.getvalue().splitlines() for word in line.split()[:1]}
    assert set(known.kinds) <= words
    catalog.show_kind(known, "audit.ml.prediction", console)
    required, optional = known.fields_of("audit.ml.prediction")
    words = {word for line in out.getvalue().splitlines() for word in line.split()[:1]}
    assert {*required, *optional} <= words
    assert "…" not in out.getvalue()


def test_a_table_folds_only_what_may_fold() -> None:
    """On a narrow terminal an id stays whole, other columns fold, and nothing is lost; hostile widths included."""
    table = Table("id", "text", box=None)
    table.columns[0].no_wrap = True
    table.add_row("0123456789" * 7, "words " * 30 + "日本語" * 20)
    out = io.StringIO()
    output.print_table(Console(file=out, width=20, force_terminal=True, color_system=None), table)
    text = out.getvalue()
    assert "0123456789" * 7 in text
    assert text.count("words") == 30
    assert text.count("日") == 20
    assert "…" not in text


def test_verbose_prints_the_log_as_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """-v prints from INFO on without tracebacks, -vv also DEBUG; escapes are written out; 0 takes it back."""
    import logging

    from mlaudit.cli.verbosity import be_verbose, tracebacks_wanted

    log = logging.getLogger("mlaudit")
    try:
        be_verbose(1)
        log.debug("not yet")
        try:
            raise ValueError("why")
        except ValueError:
            log.info("sent \x1b[2J", exc_info=True)
        assert not tracebacks_wanted()
        be_verbose(2)
        log.debug("now")
        assert tracebacks_wanted()
    finally:
        be_verbose(0)
    log.info("silent again")
    assert capsys.readouterr().err == "INFO mlaudit: sent \\x1b[2J\nDEBUG mlaudit: now\n"
    assert log.level == logging.NOTSET
