"""The command line as its users run it, in a process for each command or, as one takes a second to start, for many."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

PROGRAM = [sys.executable, "-m", "numbaconv"]

_MANY = """
import contextlib, io, json, sys
from numbaconv import parallel
from numbaconv_command import main
results = []
for arguments in json.load(sys.stdin):
    parallel.set_num_threads(parallel.max_threads())
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["numbaconv", *arguments]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        results.append((end.code, out.getvalue(), err.getvalue()))
print(json.dumps(results))
"""


class Result(NamedTuple):
    """Exit status, standard output and standard error of a command."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)

    def assert_refused(self, *words: str, status: int = 2) -> None:
        """One line on the standard error that says these words, and nothing else."""
        assert self.out == ""
        assert self.err.startswith("error: ")
        assert self.err.count("\n") == 1
        assert self.err.endswith("\n")
        assert [word for word in words if word not in self.err] == []
        assert self.status == status


def run(*arguments: object, prelude: str = "", **options: Any) -> Result:
    """Run one command; ``prelude`` is Python that the process executes before it."""
    program = PROGRAM
    if prelude:
        program = [sys.executable, "-c", f"{prelude}\nfrom numbaconv_command import main\nmain()"]
    done = subprocess.run(
        [*program, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=300, **options
    )
    return Result(done.returncode, done.stdout, done.stderr)


def run_all(commands: Sequence[Sequence[object]]) -> list[Result]:
    """Run commands one after the other in one process."""
    lines = json.dumps([list(map(str, command)) for command in commands])
    done = subprocess.run(
        [sys.executable, "-c", _MANY], input=lines, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return [Result(*result) for result in json.loads(done.stdout)]
