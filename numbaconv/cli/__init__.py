"""The command line: `main` runs it and turns whatever is refused into one line and an exit status.

Exit status 0 is success, 1 a failed verification or a question answered no, 2 bad input or a file that cannot be
used, 130 an interruption. ``python -X dev -m numbaconv`` shows the traceback behind an error.
"""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import warnings
from typing import Annotated, Any, NoReturn, TextIO

import typer

from numbaconv import __version__
from numbaconv.cli import interruption
from numbaconv.cli.bench import bench
from numbaconv.cli.filter import filter_photo
from numbaconv.cli.info import info
from numbaconv.cli.plan import plan
from numbaconv.cli.tune import tune
from numbaconv.cli.verify import verify
from numbaconv.cli.wisdom import wisdom_app

app = typer.Typer(
    name="numbaconv",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for function in (tune, plan, bench, verify, info):
    app.command()(function)
app.add_typer(wisdom_app)
app.command("filter")(filter_photo)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"numbaconv {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version, and exit.")
    ] = False,
) -> None:
    """Convolutions on the CPU, measured and compiled for this machine.

    A SOURCE of convolutions is a network (mobilenet_v2, resnet50, vgg16), a file of descriptors, or a descriptor:
    mb1ic64ih56oc64kh3ph1 is one image of 64 channels and 56 x 56 pixels, to 64 channels, with a 3 x 3 kernel and a
    padding of 1. Without mb it is two images, as in benchdnn, whose language this is.

    Example: numbaconv tune resnet50
    """


def main() -> NoReturn:
    """Run the command line with the arguments of this process, and exit."""
    if hasattr(signal, "SIGPIPE"):
        # As other tools do: when the reader of a pipe (`| head`) has seen enough, end without a word.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    # Text that the stream cannot encode is no reason to fail, nor is a stream that was closed (`>&-`).
    sys.stdout, sys.stderr = _lenient(sys.stdout), _lenient(sys.stderr)
    warnings.showwarning = _show_warning
    interruption.watch()
    try:
        status = app(prog_name="numbaconv", standalone_mode=False)
        sys.stdout.flush()
    except (typer.Abort, KeyboardInterrupt):
        status = 130
    except Exception as error:
        status = 130 if interruption.pressed() else _refuse(error)
    _drop_unwritten()
    sys.exit(status or 0)


def _drop_unwritten() -> None:
    """Output that a full disk refuses has been reported; the interpreter would try and fail again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _lenient(stream: TextIO | None) -> TextIO:
    if stream is None:
        return open(os.devnull, "w")
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")
    return stream


def _refuse(error: Exception) -> int:
    """Say in one line what was wrong with the input; anything else is our mistake, and raised."""
    from_typer = getattr(error, "format_message", None)
    if sys.flags.dev_mode or not (from_typer or isinstance(error, _BAD_INPUT)):
        raise error
    message = from_typer() if from_typer else _message(error)
    if message:  # a command without arguments has been answered with its help
        print(f"error: {_one_line(message)}", file=sys.stderr)
    return int(getattr(error, "exit_code", 2))


#: What the engine raises for arguments, files and sizes that it cannot use.
_BAD_INPUT = (ValueError, TypeError, OSError, OverflowError, MemoryError)


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}" if str(error) else "not enough memory"
    return str(error) or type(error).__name__


def _one_line(text: str) -> str:
    return re.sub(r"\s*\n\s*", " ", text.strip())


def _show_warning(message: Any, *_: Any, **__: Any) -> None:
    print(f"warning: {_one_line(str(message))}", file=sys.stderr)
