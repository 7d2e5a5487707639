"""The command line as a program: help, refusals, pipes, and what importing the package costs."""

from __future__ import annotations

import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from command import PROGRAM, Result, run, run_all

TINY = "mb1ic4ih8oc4kh3"
COMMANDS = [
    *([name] for name in ("tune", "plan", "bench", "verify", "info", "filter", "wisdom")),
    *(["wisdom", name] for name in ("show", "export", "import", "clear")),
]


@cache
def _helps() -> list[Result]:
    return run_all([[*command, "--help"] for command in COMMANDS] + [["--help"]])


@pytest.mark.parametrize("command", [*COMMANDS, []], ids=" ".join)
def test_every_command_has_help_with_an_example(command: list[str]) -> None:
    result = _helps()[[*COMMANDS, []].index(command)]
    assert result.status == 0
    assert result.err == ""
    assert " ".join(["Example: numbaconv", *command]) in " ".join(result.out.split())


def test_help_names_every_command() -> None:
    assert all(f" {command[0]} " in _helps()[-1].out for command in COMMANDS)


def test_help_says_how_many_images_a_descriptor_without_batch_is_of() -> None:
    helps = dict(zip([" ".join(command) for command in [*COMMANDS, []]], _helps(), strict=True))
    for name in ("tune", "plan", "bench", "verify"):
        assert "without mb are of 2 images" in " ".join(helps[name].out.replace("│", " ").split())
    assert "Without mb it is two images" in " ".join(helps[""].out.split())


def test_version_and_no_command() -> None:
    version, nothing, short = run_all([["--version"], [], ["-h"]])
    assert version.out.startswith("numbaconv ")
    assert (nothing.status, nothing.err) == (2, "")
    assert "Usage" in nothing.out
    assert short == _helps()[-1]


def _refusals(folder: Path) -> dict[tuple[str, ...], list[str]]:
    """Commands that are refused, and words that the one line about it must have."""
    (folder / "folder").mkdir()
    (folder / "empty.txt").touch()
    (folder / "binary.txt").write_bytes(b"\xff\xfe\x00")
    (folder / "notes.txt").write_text("mb1ic4ih8oc4kh3\nhello\n")
    return {
        ("tun",): ["No such command", "tune"],
        ("--nope",): ["--nope"],
        ("info", "more"): ["more"],
        ("tune",): ["SOURCE"],
        ("tune", "resnet_50"): ["mobilenet_v2, resnet50, vgg16", "did you mean 'resnet50'?"],
        ("tune", "missing.txt"): ["missing.txt"],
        ("tune", "folder"): ["folder", "directory"],
        ("tune", "empty.txt"): ["empty.txt", "found none"],
        ("tune", "binary.txt"): ["binary.txt", "text file"],
        ("tune", "notes.txt"): ["notes.txt, line 2", "hello"],
        ("tune", TINY, "--threads", "100000"): ["threads", "100000", "NUMBA_NUM_THREADS"],
        ("bench", TINY, "--threads", "0"): ["threads", "0"],
        ("verify", TINY, "--threads", "two"): ["--threads"],
        ("tune", TINY, "--dtype", "float16"): ["dtype", "float16"],
        ("tune", TINY, "--effort", "estimate"): ["effort", "measure, exhaustive", "estimate"],
        ("plan", TINY, "--effort", "hard"): ["effort", "hard"],
        ("plan", TINY, "--accuracy", "high"): ["accuracy", "high"],
        ("tune", TINY, "--budget", "nan"): ["budget", "nan"],
        ("tune", TINY, "--budget", "-1"): ["budget", "-1"],
        ("tune", TINY, "--batch", "0"): ["batch", "mb0ic4"],
        ("verify", TINY, "--batch", "-1"): ["batch", "-1"],
        ("verify", TINY, "--seed", "-1"): ["--seed"],
        ("tune", TINY, "--save", "folder"): ["folder"],
        ("tune", TINY, "--save", "notes.txt"): ["notes.txt", "something else"],
        ("plan", "resnet_50"): ["mobilenet_v2, resnet50, vgg16", "did you mean 'resnet50'?"],
        ("plan", "mb1ic4ih8oc4"): ["'kh', which is missing"],
        ("plan", TINY.replace("ih8", "ih9" + 20 * "0")): ["at most"],
        ("bench", TINY.replace("ih8", "ih10000000")): ["memory"],
        ("wisdom", "shw"): ["shw"],
        ("wisdom", "import", "missing.jsonl"): ["missing.jsonl"],
        ("wisdom", "import", "folder"): ["folder"],
        ("wisdom", "import", "empty.txt"): ["empty.txt", "found none"],
        ("wisdom", "export", "folder"): ["folder"],
        ("wisdom", "export", "notes.txt"): ["notes.txt", "something else"],
        ("wisdom", "export", "missing/copy.jsonl"): ["missing/copy.jsonl", "no folder missing"],
        ("wisdom", "export", "copy.jsonl"): ["nothing to export", "wisdom.jsonl"],
        ("tune", TINY, "--save", "missing/copy.jsonl"): ["no folder missing"],
        ("wisdom", "clear"): ["--yes"],
    }


def test_bad_input_is_refused_in_one_line(tmp_path: Path) -> None:
    refusals = _refusals(tmp_path)
    before = (tmp_path / "notes.txt").read_text()
    for words, result in zip(refusals.values(), run_all(list(refusals)), strict=True):
        result.assert_refused(*words)
    assert (tmp_path / "notes.txt").read_text() == before
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "empty.txt", "binary.txt", "notes.txt"}


def test_a_mistake_of_ours_is_not_taken_for_bad_input() -> None:
    broken = "import sys, numbaconv.cli\nsys.modules['numbaconv.cli.plan'].plan_report = lambda *_: {}['gone']"
    result = run("plan", TINY, prelude=broken)
    assert result.status == 1
    assert "Traceback" in result.err


def test_unknown_accuracy_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBACONV_ACCURACY", "high")
    refused, again, overridden = run_all(
        [["plan", TINY], ["bench", "resnet50"], ["verify", TINY, "--accuracy", "strict"]]
    )
    refused.assert_refused("error: NUMBACONV_ACCURACY", "high")
    assert again == refused
    assert (overridden.status, overridden.err.count("\n")) == (0, 1)


@pytest.mark.parametrize("setting", ["NUMBA_NUM_THREADS=0", "NUMBA_DISABLE_JIT=1"])
def test_numba_that_cannot_compute(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, value = setting.split("=")
    monkeypatch.setenv(name, value)
    run("plan", TINY, "--effort", "measure", prelude="pass").assert_refused(name)


def test_importing_the_package_needs_no_command_line() -> None:
    code = "import sys, numbaconv; sys.exit(bool({'typer', 'rich', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGPIPE")
def test_reader_that_has_seen_enough() -> None:
    with subprocess.Popen(
        [*PROGRAM, "verify", TINY, "mb1ic4ih9oc4kh3"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == -signal.SIGPIPE
    assert "Traceback" not in said
    assert "error" not in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_full_disk() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*PROGRAM, "plan", TINY, "--json"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    Result(done.returncode, "", done.stderr).assert_refused("space")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell that closes streams")
def test_closed_output() -> None:
    done = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *PROGRAM, "plan", TINY], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_output_in_an_encoding_that_lacks_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    result = run("verify", f'{TINY}n"größer"')
    assert result.status == 0
    assert "gr??er" in result.out
