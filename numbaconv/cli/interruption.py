"""Ctrl-C, known for as long as a command runs.

KeyboardInterrupt alone is not enough: raised inside a callback from the compiler it is printed and lost, and the
compiler, whose callback did not finish, fails with an error of its own.
"""

from __future__ import annotations

import signal
import sys
from typing import Any

_pressed = False


def watch() -> None:
    """Note from now on when Ctrl-C is pressed, besides raising KeyboardInterrupt, and print none that is lost."""
    signal.signal(signal.SIGINT, _press)
    sys.unraisablehook = _show_unraisable


def pressed() -> bool:
    """Whether an exception, of whatever kind, is to be taken for an interruption."""
    return _pressed


def raise_if_pressed() -> None:
    """Raise the KeyboardInterrupt that may have been lost."""
    if _pressed:
        raise KeyboardInterrupt


def forget() -> None:
    """Ctrl-C has been answered; what is raised from here on has other reasons."""
    global _pressed
    _pressed = False


def _press(*_: Any) -> None:
    global _pressed
    _pressed = True
    raise KeyboardInterrupt


def _show_unraisable(lost: Any) -> None:
    if not issubclass(lost.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
