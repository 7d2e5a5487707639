"""``python -m numbaconv``: the command line."""

from numbaconv.cli import main

if __name__ == "__main__":
    main()
