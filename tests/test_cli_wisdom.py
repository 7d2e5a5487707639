"""wisdom: shown, exported, imported and cleared, and files that are left alone."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from command import PROGRAM, run, run_all

from numbaconv import wisdom

RECORD = wisdom.Record(
    problem="mb1ic8ih10oc8oh10kh3ph1", dtype="float32", constant_weight=True, accuracy="default", threads=1,
    machine=wisdom.machine_fingerprint(), effort="measure", algorithm="direct", settings={"mr": 6}, seconds=1e-3,
    measured={"direct": 1e-3, "reference": 2e-3},
)  # fmt: skip
FOREIGN = replace(RECORD, machine="elsewhere", seconds=2e-3)


@pytest.fixture(autouse=True)
def _kept() -> None:
    wisdom.default_path().write_text("".join(json.dumps(asdict(record)) + "\n" for record in (RECORD, FOREIGN)))


def test_show() -> None:
    here, everything, as_json = run_all([["wisdom", "show", *more] for more in ([], ["--all"], ["--all", "--json"])])
    rows = [line.split() for line in here.out.splitlines() if line.startswith("mb1")]
    assert rows == [[RECORD.problem, "float32", "constant", "default", "1", "measure", "direct", "1.00", "ms", "this"]]
    assert "1 of 2 records" in here.out
    assert "elsewhere" in everything.out
    assert as_json.json == [
        {**asdict(RECORD), "this_machine": True},
        {**asdict(FOREIGN), "this_machine": False},
    ]


def test_export_clear_import(tmp_path: Path) -> None:
    copy = tmp_path / "new" / "copy.jsonl"
    copy.parent.mkdir()
    exported, cleared, empty, imported = (
        run(*command)
        for command in (
            ["wisdom", "export", copy],
            ["wisdom", "clear", "--yes"],
            ["wisdom", "show", "--json"],
            ["wisdom", "import", copy],
        )
    )
    assert exported.out == f"2 records written to {copy}\n"
    assert "2 records cleared" in cleared.out
    assert empty.json == []
    assert "2 records read" in imported.out
    assert [wisdom.Record(**json.loads(line)) for line in copy.read_text().splitlines()] == [RECORD, FOREIGN]
    assert wisdom.default_path().read_text() == copy.read_text()
    assert list(copy.parent.iterdir()) == [copy]


def test_import_says_what_it_skips(tmp_path: Path) -> None:
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text(f"hello\n{json.dumps(asdict(RECORD))}\n{{}}\n")
    result = run("wisdom", "import", mixed)
    assert result.status == 0
    assert result.out.startswith(f"1 record read from {mixed}")
    assert result.err.startswith(f"warning: {mixed}")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(("answer", "status", "kept"), [("y", 0, False), ("n", 1, True), ("\x04", 130, True)])
def test_clear_asks_on_a_terminal(answer: str, status: int, kept: bool) -> None:
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    with subprocess.Popen([*PROGRAM, "wisdom", "clear"], stdin=theirs, stderr=subprocess.PIPE) as process:
        os.close(theirs)
        assert process.stderr is not None
        asked = b""
        while b"? " not in asked:
            asked += process.stderr.read1(100)  # type: ignore[attr-defined]
        os.write(ours, f"{answer}\n".encode())
        said = process.communicate()[1]
    os.close(ours)
    assert b"2 records" in asked
    assert b"Traceback" not in said
    assert process.returncode == status
    assert wisdom.default_path().exists() is kept
