"""What was measured is kept, merged and read back; what is not a record of this machine is never trusted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

import numbaconv as nc
from numbaconv import wisdom
from numbaconv.algorithms import ALGORITHMS
from numbaconv.machine import this_machine
from numbaconv.problem import ConvProblem
from numbaconv.wisdom import Record

RECORD = Record(
    "mb1ic4ih8oc4kh3ph1", "float32", False, "default", 2, "machine", "measure", "direct",
    {"mr": 6, "block_p": 4}, 1e-5, {"direct": 1e-5, "im2col": 2e-5},
)  # fmt: skip


@pytest.fixture(autouse=True)
def user_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user without wisdom, whose file is of this test."""
    path = tmp_path / "user" / "wisdom.jsonl"
    monkeypatch.setenv("NUMBACONV_WISDOM", str(path))
    wisdom.clear()
    yield path
    monkeypatch.setenv("NUMBACONV_WISDOM", str(path))
    wisdom.clear()


def variants(count: int, first: int = 0) -> list[Record]:
    return [replace(RECORD, problem=f"mb1ic4ih{i}oc4kh1") for i in range(first, first + count)]


def python(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import numbaconv as nc\nfrom numbaconv import wisdom\n{program}"],
        capture_output=True, text=True, timeout=120, env={**os.environ, **environment}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_remembered_at_once_on_disk(user_file: Path) -> None:
    wisdom.keep(RECORD)
    assert wisdom.records() == [RECORD]
    assert lines(user_file) == [asdict(RECORD)]
    assert python("print(wisdom.records())") == repr([RECORD])


def test_reading_that_is_interrupted_begins_again(user_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: Path) -> list[Record]:
        raise KeyboardInterrupt

    wisdom.keep(RECORD)
    monkeypatch.setattr(wisdom, "_memory", wisdom._Memory())
    with monkeypatch.context() as patch:
        patch.setattr(wisdom, "_read_if_there", interrupted)
        with pytest.raises(KeyboardInterrupt):
            wisdom.records()
    assert wisdom.records() == [RECORD]


def test_a_plan_beyond_the_usual_workspace_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody who asks for no more could use it, and it would be in the way of what is measured for them."""
    given: dict[str, Any] = {"padding": 1, "algorithm": "auto", "effort": "measure", "workspace_limit": 64 << 20}
    # The fastest here is one that needs some, on every machine.
    monkeypatch.setattr("numbaconv.planner.ALGORITHMS", {"im2col": ALGORITHMS["im2col"]})
    with monkeypatch.context() as patch:
        patch.setattr("numbaconv.planner.WORKSPACE_LIMIT", 0)
        assert nc.plan((1, 32, 8, 8), (32, 32, 3, 3), **given).workspace_nbytes > 0
        assert wisdom.records() == []
    nc.plan((1, 32, 8, 8), (32, 32, 3, 3), **given)
    assert len(wisdom.records()) == 1


def test_what_is_remembered_of_a_problem_is_found_again(user_file: Path) -> None:
    """Under the fields that the file has, too."""
    problem = ConvProblem.parse("mb1ic4ih8oc4kh3", dtype="float64", constant_weight=True, accuracy="strict")
    wisdom.remember(
        problem, 3, effort="exhaustive", algorithm="direct", settings={"mr": 6}, seconds=1.0, measured={"direct": 1.0}
    )
    [record] = wisdom.records()
    assert wisdom.lookup(problem, 3) == record == Record(
        str(problem), "float64", True, "strict", 3, wisdom.machine_fingerprint(), "exhaustive", "direct", {"mr": 6},
        1.0, {"direct": 1.0},
    )  # fmt: skip
    assert record.key == tuple(asdict(record).values())[: len(record.key)]
    assert lines(user_file) == [asdict(record)]
    for other in (replace(problem, dtype="float32"), replace(problem, constant_weight=False)):
        assert wisdom.lookup(other, 3) is None
    assert wisdom.lookup(problem, 2) is None


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_candidate_can_be_kept(name: str, tmp_path: Path) -> None:
    """Settings of every algorithm, for small images and for large ones, come back from a file as they are."""
    row, kept = ALGORITHMS[name], []
    for text in ("mb1ic64ih8oc64kh1", "mb1ic64ih8oc64kh3ph1", "g64mb1ic64ih8oc64kh3ph1", "mb1ic1ih2048oc1kh3ph1"):
        problem = ConvProblem.parse(text)
        if row.applicable(problem) is None:
            for i, settings in enumerate(row.candidates(problem, this_machine(), 2)):
                kept.append(replace(RECORD, problem=text, threads=i, algorithm=name, settings=settings._asdict()))
                wisdom.keep(kept[-1])
    assert kept
    file = wisdom.save(tmp_path / "kept.jsonl")
    wisdom.clear()
    assert wisdom.load(file) == len(kept)
    assert wisdom.records() == kept


def test_save_load_clear(user_file: Path, tmp_path: Path) -> None:
    """Saving adds to what a file holds; loading is for this process; clearing is for the user's file too."""
    others = tmp_path / "others.jsonl"
    first, second = variants(2)
    wisdom.keep(first)
    assert wisdom.save(others) == others
    wisdom.clear()
    assert (wisdom.records(), user_file.exists()) == ([], False)
    wisdom.keep(second)
    assert wisdom.save(str(others)) == others
    assert lines(others) == [asdict(first), asdict(second)]
    assert wisdom.load(others) == 2
    assert wisdom.records() == [second, first]
    assert lines(user_file) == [asdict(second)]
    assert wisdom.save() == user_file
    assert len(lines(user_file)) == 2
    assert not [path for path in user_file.parent.iterdir() if path.suffix not in (".jsonl", ".lock")]


def test_loading_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        wisdom.load(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("known", "newer", "winner"),
    [
        ("measure", "measure", "newer"),
        ("measure", "exhaustive", "newer"),
        ("exhaustive", "exhaustive", "newer"),
        ("exhaustive", "measure", "known"),
    ],
)
@pytest.mark.parametrize("way", ["keep", "load"])
def test_more_effort_wins(known: str, newer: str, winner: str, way: str, user_file: Path, tmp_path: Path) -> None:
    """And the newer of equal ones, in memory and on disk."""
    records = {"known": replace(RECORD, effort=known), "newer": replace(RECORD, effort=newer, seconds=2.0)}
    wisdom.keep(records["known"])
    if way == "keep":
        wisdom.keep(records["newer"])
    else:
        (tmp_path / "other").write_text(json.dumps(asdict(records["newer"])))
        assert wisdom.load(tmp_path / "other") == 1
        wisdom.save()
    assert wisdom.records() == [records[winner]]
    assert lines(user_file) == [asdict(records[winner])]


def test_generation_tells_of_every_change(tmp_path: Path) -> None:
    seen = [wisdom.generation()]
    for change in (
        lambda: wisdom.keep(RECORD),
        lambda: wisdom.load(wisdom.save(tmp_path / "copy")),
        lambda: wisdom.clear(),
    ):
        change()
        seen.append(wisdom.generation())
    assert len(set(seen)) == len(seen)


GOOD = json.dumps(asdict(RECORD))
FOREIGN = {
    "garbage": b"\xff\xfe\x00not json",
    "truncated": GOOD[: len(GOOD) // 2].encode(),
    "a number": b"42",
    "nothing": b"null",
    "a list": b'["mb1"]',
    "another object": b'{"problem": "mb1"}',
    "a field too many": GOOD.replace("{", '{"colour": "red", ', 1).encode(),
    "an effort of none": GOOD.replace('"measure"', '"estimate"').encode(),
    "a block of zero": GOOD.replace('"block_p": 4', '"block_p": 0').encode(),
    "a negative block": GOOD.replace('"block_p": 4', '"block_p": -4').encode(),
    "a broken block": GOOD.replace('"block_p": 4', '"block_p": 4.5').encode(),
    "a text for a block": GOOD.replace('"block_p": 4', '"block_p": "4"').encode(),
    "settings of a list": GOOD.replace('{"mr": 6, "block_p": 4}', "[6, 4]").encode(),
    "no time": GOOD.replace('"seconds": 1e-05', '"seconds": 0').encode(),
    "a text for a time": GOOD.replace('"seconds": 1e-05', '"seconds": "1"').encode(),
    "not a number for a time": GOOD.replace('"seconds": 1e-05', '"seconds": NaN').encode(),
    "a text for threads": GOOD.replace('"threads": 2', '"threads": "2"').encode(),
    "a list for a flag": GOOD.replace('"constant_weight": false', '"constant_weight": []').encode(),
    "measured of a list": GOOD.replace('{"direct": 1e-05, "im2col": 2e-05}', "[]").encode(),
    "deep nesting": b"[" * 100_000,
}


@pytest.mark.parametrize("foreign", FOREIGN.values(), ids=FOREIGN)
def test_foreign_lines_are_skipped_and_left_alone(foreign: bytes, user_file: Path, tmp_path: Path) -> None:
    """With a warning that says where they are, once; the file is not written to, since they would be lost."""
    before, after = variants(2)
    mixed = tmp_path / "mixed"
    mixed.write_bytes(
        b"\n".join([json.dumps(asdict(before)).encode(), b"", foreign, json.dumps(asdict(after)).encode()])
    )
    with pytest.warns(RuntimeWarning, match=r"mixed.*line 3") as caught:
        assert wisdom.load(mixed) == 2
    assert len(caught) == 1
    assert wisdom.records() == [before, after]
    held = mixed.read_bytes()
    with pytest.raises(FileExistsError, match=r"mixed: is there and holds something else \(line 3\)"):
        wisdom.save(mixed)
    assert mixed.read_bytes() == held


def test_a_user_file_of_something_else_is_left_alone(user_file: Path) -> None:
    user_file.parent.mkdir(exist_ok=True)
    user_file.write_text("my notes\n")
    with pytest.warns(RuntimeWarning, match="is not kept on disk: .* holds something else"):
        wisdom.keep(RECORD)
    with pytest.raises(FileExistsError, match="holds something else"):
        wisdom.clear()
    assert user_file.read_text() == "my notes\n"
    assert wisdom.records() == [RECORD]
    user_file.unlink()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes among files")
def test_what_is_no_file_is_left_alone(user_file: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileExistsError, match="pipe: expected a file to write to, got a device"):
        wisdom.save(tmp_path / "pipe")
    with pytest.raises(IsADirectoryError, match="got a folder"):
        wisdom.save(tmp_path)
    assert (tmp_path / "pipe").is_fifo()


def test_empty_file(user_file: Path) -> None:
    user_file.parent.mkdir(exist_ok=True)
    user_file.write_text("\n\n")
    assert wisdom.load(user_file) == 0


#: Convolves, and remembers a record where it cannot be kept; prints what is known then, and the warnings.
IN_VAIN = f"""
import warnings
import numpy as np
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    nc.conv2d(np.ones((1, 1, 4, 4)), np.ones((1, 1, 2, 2)))
    wisdom.keep(wisdom.{RECORD!r})
said = any("wisdom is not kept on disk" in str(warning.message) for warning in caught)
print(len(wisdom.records()), said, {{warning.category.__name__ for warning in caught}})
"""


@pytest.mark.parametrize("place", ["below a file", "a folder"])
def test_place_that_cannot_be_written(place: str, tmp_path: Path) -> None:
    """Everything works but for the keeping, which is said."""
    path = tmp_path / "place"
    if place == "a folder":
        path.mkdir()
    else:
        path.write_text("")
        path = path / "wisdom.jsonl"
    assert python(IN_VAIN, NUMBACONV_WISDOM=str(path)) == "1 True {'RuntimeWarning'}"


@pytest.mark.parametrize("way", ["one user's file", "exports"])
def test_two_writers_lose_nothing(way: str, tmp_path: Path) -> None:
    """Processes that remember at the same time, or that export what they remember to one file."""
    program = f"""
import sys
from dataclasses import replace
from pathlib import Path
from numbaconv import wisdom
record = wisdom.{RECORD!r}
for i in range(int(sys.argv[1]), int(sys.argv[1]) + 25):
    wisdom.keep(replace(record, problem=str(i)))
    if Path("exports").exists():
        wisdom.save("exports/both")
"""
    both = tmp_path / "exports" / "both" if way == "exports" else tmp_path / "user"
    if way == "exports":
        both.parent.mkdir()
    writers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", program, str(first)],
            env={**os.environ, "NUMBACONV_WISDOM": f"user{first}" if way == "exports" else "user"},
        )
        for first in (0, 25)
    ]
    assert [writer.wait(120) for writer in writers] == [0, 0]
    assert {line["problem"] for line in lines(both)} == set(map(str, range(50)))


def test_nothing_is_left_beside_an_export(tmp_path: Path) -> None:
    wisdom.keep(RECORD)
    (tmp_path / "exports").mkdir()
    copy = wisdom.save(tmp_path / "exports" / "copy.jsonl")
    assert list((tmp_path / "exports").iterdir()) == [copy]


def test_export_without_a_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBACONV_CACHE_DIR", str(tmp_path / "file" / "cache"))
    wisdom.keep(RECORD)
    assert lines(wisdom.save(tmp_path / "copy.jsonl")) == [asdict(RECORD)]


def test_export_to_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*typo"):
        wisdom.save(tmp_path / "typo" / "copy.jsonl")
    assert not (tmp_path / "typo").exists()


def test_default_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NUMBACONV_WISDOM")
    monkeypatch.setenv("NUMBACONV_CACHE_DIR", str(tmp_path))
    assert wisdom.default_path() == tmp_path / "wisdom.jsonl"
    monkeypatch.delenv("NUMBACONV_CACHE_DIR")
    assert wisdom.default_path().is_absolute()
    assert nc.wisdom is wisdom


def test_a_link_to_the_user_file(user_file: Path, tmp_path: Path) -> None:
    """What it leads to is written, and what is cleared."""
    target = tmp_path / "elsewhere" / "wisdom.jsonl"
    for path in (target, user_file):
        path.parent.mkdir(exist_ok=True)
    user_file.symlink_to(target)
    wisdom.keep(RECORD)
    assert lines(target) == [asdict(RECORD)]
    wisdom.clear()
    assert not target.exists()
    assert user_file.is_symlink()
