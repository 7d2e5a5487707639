"""The program ``numbaconv``, outside the package: importing that takes a second, in which Ctrl-C may be pressed too."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line with the arguments of this process, and exit."""
    try:
        from numbaconv import cli

        cli.main()
    except KeyboardInterrupt:
        sys.exit(130)
    except (ImportError, ValueError) as error:  # about Numba's environment; the command line lets none through
        if sys.flags.dev_mode:
            raise
        given = ", ".join(f"{name}={value}" for name, value in os.environ.items() if name.startswith("NUMBA_"))
        print(f"error: {error}" + (f" ({given})" if given else ""), file=sys.stderr)
        sys.exit(2)
