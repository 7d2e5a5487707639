"""tune: what it measures and keeps, and that it may be cut short at any time without losing anything."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command import PROGRAM, Result, run

from numbaconv import wisdom
from numbaconv.algorithms import ALGORITHMS
from numbaconv.machine import this_machine
from numbaconv.planner import allowed
from numbaconv.problem import ConvProblem

LAYERS = 'mb1ic8ih10oc8kh3ph1n"body*3"\nmb1ic8ih10oc16kh1n"head"\n'
BODY, HEAD = "mb1ic8ih10oc8oh10kh3ph1", "mb1ic8ih10oc16oh10kh1ph0"


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "network.txt"
    path.write_text(LAYERS)
    return path


def records(path: Path | None = None) -> list[wisdom.Record]:
    """The records of a wisdom file, every line of which must be whole."""
    text = (path or wisdom.default_path()).read_text()
    assert text.endswith("\n")
    return [wisdom.Record(**json.loads(line)) for line in text.splitlines()]


def test_tune_measures_prints_and_keeps(network: Path, tmp_path: Path) -> None:
    first = run("tune", network, "--save", tmp_path / "copy.jsonl")
    assert first.status == 0
    _check_table(first)
    kept = records()
    assert {(record.problem, record.constant_weight) for record in kept} == {
        (problem, constant) for problem in (BODY, HEAD) for constant in (True, False)
    }
    assert all(record.effort == "measure" for record in kept)
    assert sorted(map(str, records(tmp_path / "copy.jsonl"))) == sorted(map(str, kept))
    again = run("tune", network, "--json", "--budget", "1e-9")
    assert again.json["known"] == 2
    assert again.json["not_measured"] == []
    assert records() == kept
    _check_report(again.json, kept)


def _check_table(result: Result) -> None:
    lines = result.out.splitlines()
    applicable = {name for problem in (BODY, HEAD) for name in allowed(ConvProblem.parse(problem))}
    algorithms = [name for name in ALGORITHMS if name in applicable]
    names = lines[1].replace("% peak", "%").split()
    assert names[: 3 + len(algorithms)] == ["layer", "shape", "count", *algorithms]
    assert names[3 + len(algorithms) : 6 + len(algorithms)] == ["chosen", "GFLOP/s", "%"]
    body, head = lines[3:5]
    assert body.split()[:3] == ["body", "mb1ic8ih10oc8kh3ph1", "3"]
    assert head.split()[:3] == ["head", "mb1ic8ih10oc16kh1", "1"]
    assert len(re.findall(r"\d (?:us|ms)", body)) == len(allowed(ConvProblem.parse(BODY)))
    assert " - " in head  # no Winograd for a pointwise layer
    assert "total Conv2d (weight prepared once): 4 convolutions in " in result.out
    assert "total conv2d (weight may change): 4 convolutions in " in result.out
    assert f"wisdom: {wisdom.default_path()}\n" in result.out
    assert "copy.jsonl" in lines[-1]
    assert [line.split(":")[0] for line in result.err.splitlines()] == ["1/2 body", "2/2 head"]


def _check_report(report: dict[str, Any], kept: list[wisdom.Record]) -> None:
    """The figures of the report are those of the wisdom, and add up."""
    of = {(record.problem, record.constant_weight): record for record in kept}
    seconds = 0.0
    for layer in report["layers"]:
        for key, constant in (("constant_weight", True), ("changing_weight", False)):
            record, plan = of[layer["descriptor"], constant], layer[key]
            assert (plan["algorithm"], plan["seconds"]) == (record.algorithm, record.seconds)
            assert plan["measured_seconds"] == record.measured
            assert plan["seconds"] == min(record.measured.values())
        seconds += layer["count"] * layer["constant_weight"]["seconds"]
    total = report["total"]["constant_weight"]
    assert total["convolutions"] == 4
    assert total["seconds"] == pytest.approx(seconds)
    assert total["percent_of_peak"] == pytest.approx(100 * total["gflops"] / report["peak_gflops"])


def test_later_processes_use_what_was_measured(network: Path) -> None:
    run("tune", network, "--threads", 1)
    [plan] = run("plan", BODY, "--threads", 1, "--json").json["layers"]
    assert plan["origin"] == "measure"
    timed = {option["algorithm"] for option in plan["options"] if option["measured_seconds"] is not None}
    assert timed == set(allowed(ConvProblem.parse(BODY)))
    code = """
import numpy as np, numbaconv as nc
from unittest import mock
from numbaconv import functional, layers, planner
nc.set_num_threads(1)
x, w = np.ones((1, 8, 10, 10), np.float32), np.ones((16, 8, 1, 1), np.float32)
origins = []
def spy(*args, **kwargs):
    plan = planner.plan_problem(*args, **kwargs)
    origins.append((plan.problem.constant_weight, plan.origin))
    return plan
with mock.patch.object(functional, "plan_problem", spy), mock.patch.object(layers, "plan_problem", spy):
    nc.conv2d(x, w)
    nc.Conv2d(w)(x)
print(origins)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[(False, 'measure'), (True, 'measure')]\n"


def test_again_measures_anew_and_exhaustive_more(network: Path) -> None:
    run("tune", HEAD)
    known = records()
    run("tune", HEAD, "--again")
    assert [record.problem for record in records()] == [record.problem for record in known]
    assert records() != known
    report = run("tune", HEAD, "--effort", "exhaustive", "--json").json
    assert report["known"] == 0
    assert {record.effort for record in records()} == {"exhaustive"}
    assert run("tune", HEAD, "--json").json["known"] == 1


def test_spent_budget_says_what_is_missing(network: Path) -> None:
    result = run("tune", network, "--budget", "1e-9")
    assert result.status == 0
    assert "not measured (the budget is spent): body, head\n" in result.out
    assert not wisdom.default_path().exists()


def test_options_reach_the_problems() -> None:
    run("tune", "mb1ic4ih8oc4kh3", "--batch", 2, "--dtype", "float64", "--accuracy", "strict", "--threads", 1)
    for record in records():
        assert record.problem.startswith("mb2ic4")
        assert (record.dtype, record.accuracy, record.threads) == ("float64", "strict", 1)
        assert "winograd" not in record.measured


def test_ctrl_c_keeps_what_was_measured(tmp_path: Path) -> None:
    source = tmp_path / "long.txt"
    source.write_text("\n".join(f'mb1ic8ih{size}oc8kh1n"layer{size}"' for size in range(8, 108)))
    with subprocess.Popen(
        [*PROGRAM, "tune", source, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        said = ""
        while not said.startswith("3/100 "):
            said = process.stderr.readline()
            assert said, "it ended before it was interrupted"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in err
    report = json.loads(out)
    assert report["interrupted"] is True
    done = [layer["name"] for layer in report["layers"]]
    assert done[:3] == ["layer8", "layer9", "layer10"]
    assert len(done) < 100
    missing = [layer["name"] for layer in report["not_measured"]]
    assert [f"layer{size}" for size in range(8, 108)] == sorted({*done, *missing}, key=lambda name: int(name[5:]))
    measured = {(record.problem, record.constant_weight) for record in records()}
    for layer in report["layers"]:
        assert (layer["descriptor"], True) in measured
        assert ((layer["descriptor"], False) in measured) == (layer["changing_weight"] is not None)


def test_ctrl_c_in_the_table(tmp_path: Path) -> None:
    interrupt = """
import os, signal
from numbaconv.cli import tuning
measured = tuning.measured
def then_interrupt(*args):
    plan = measured(*args)
    os.kill(os.getpid(), signal.SIGINT)
    return plan
tuning.measured = then_interrupt
"""
    result = run("tune", BODY, HEAD, prelude=interrupt)
    assert result.status == 130
    assert "interrupted: what was measured until then is kept" in result.out
    assert "Traceback" not in result.err


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that nobody can write to")
def test_wisdom_that_cannot_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBACONV_WISDOM", "/proc/self/wisdom/wisdom.jsonl")
    result = run("tune", "mb1ic4ih8oc4kh3")
    assert result.status == 0
    assert "warning: wisdom is not kept on disk: " in result.err
    assert "wisdom: could not be kept on disk" in result.out


def test_bar_and_narrow_table_on_a_terminal(network: Path) -> None:
    pty = pytest.importorskip("pty")
    fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 50, 80, 0, 0))
    environment = {**os.environ, "TERM": "xterm"}
    with subprocess.Popen([*PROGRAM, "tune", network], stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        screen = b""
        while chunk := _read(ours):
            screen += chunk
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.decode())
    assert process.returncode == 0
    assert "machine: measuring its peak" in text
    assert "━━━" in text
    table = text[text.index("float32, ") :].replace("\r\n", "\n")
    # But for the processor's name, which may be of any length.
    assert max(map(len, table[: table.index("total")].replace(this_machine().name, "").splitlines())) <= 80
    assert "body\nmb1ic8ih10oc8kh3ph1" in re.sub(r"^(\S+) .*$", r"\1", table, flags=re.MULTILINE)
    head = table.splitlines()[1]
    assert all(name in head for name in ("chosen", "next best", "GFLOP/s", "% peak"))
    assert len(re.findall(r"\d (?:us|ms)\b", table[: table.index("total")])) == 4  # two algorithms for each layer


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that the other end is closed
        return b""


def test_a_user_file_of_something_else_is_refused_first(network: Path) -> None:
    """And not after minutes of measuring, when nothing could be kept."""
    wisdom.default_path().write_text("my notes\n")
    run("tune", network).assert_refused("holds something else", "line 1")
    assert wisdom.default_path().read_text() == "my notes\n"
    wisdom.default_path().unlink()
