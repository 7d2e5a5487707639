"""``python -m numbaconv``: the command line."""

from numbaconv_command import main

if __name__ == "__main__":
    main()
