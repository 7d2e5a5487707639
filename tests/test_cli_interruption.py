"""Ctrl-C ends every command with status 130 and without a traceback, wherever the exception is raised."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import run

TINY = "mb1ic4ih8oc4kh3"

#: Ctrl-C while LLVM hands over what it compiled: the exception is lost in the callback, and the compiler fails later.
IN_A_CALLBACK = """
import os, signal
from numba.core.codegen import CPUCodeLibrary
def interrupted(cls, module, buffer, hook=CPUCodeLibrary._object_compiled_hook):
    os.kill(os.getpid(), signal.SIGINT)
    hook(module, buffer)
CPUCodeLibrary._object_compiled_hook = classmethod(interrupted)
"""

#: Ctrl-C when the import of a module begins; a shell has its background jobs, as tests may be, ignore it.
AT_IMPORT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
class Interrupting:
    def find_spec(name, *_):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting)
"""


@pytest.fixture(autouse=True)
def _nothing_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBACONV_CACHE_DIR", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", ["numbaconv", "numba", "numbaconv.wisdom", "typer"])
def test_while_importing(name: str) -> None:
    assert run("plan", TINY, prelude=AT_IMPORT.format(name=name)) == (130, "", "")


@pytest.mark.parametrize("command", [["bench"], ["verify"], ["plan", "--effort", "measure"]], ids=" ".join)
def test_in_a_callback_of_the_compiler(command: list[str]) -> None:
    result = run(*command, TINY, prelude=IN_A_CALLBACK)
    assert (result.status, result.out) == (130, "")
    assert "Traceback" not in result.err
    assert "error" not in result.err


def test_in_a_callback_while_tuning() -> None:
    """What was measured before is reported all the same."""
    peak = "import sys, numbaconv.cli\nsys.modules['numbaconv.cli.tune'].measured_peak = lambda *_: 1e9"
    result = run("tune", TINY, "--json", prelude=f"{IN_A_CALLBACK}\n{peak}")
    assert result.status == 130
    assert "Traceback" not in result.err
    report = json.loads(result.out)
    assert report["interrupted"] is True
    assert [layer["descriptor"] for layer in report["not_measured"]] == ["mb1ic4ih8oc4oh6kh3ph0"]
