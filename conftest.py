"""Every test, doctests too, has wisdom and a working folder of its own, and gives back the threads it changed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from numbaconv import parallel, wisdom

# What tests expect is of the default accuracy, from when their modules are read.
os.environ.pop("NUMBACONV_ACCURACY", None)


@pytest.fixture(scope="session", autouse=True)
def no_wisdom_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For fixtures of a module or a session, too, which are made before those of a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUMBACONV_WISDOM", str(tmp_path_factory.mktemp("wisdom") / "wisdom.jsonl"))
        yield


@pytest.fixture(autouse=True)
def own_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("NUMBACONV_WISDOM", str(tmp_path / "wisdom.jsonl"))
    monkeypatch.chdir(tmp_path)
    wisdom.clear()
    threads = parallel.get_num_threads()
    yield
    parallel.set_num_threads(threads)
    monkeypatch.setenv("NUMBACONV_WISDOM", str(tmp_path / "wisdom.jsonl"))  # whatever the test made of it
    wisdom.clear()
