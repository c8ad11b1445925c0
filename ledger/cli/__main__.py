"""The entry point of the distribution. In: a command line. Out: the command, and until it is there, a quiet end.

Putting the command together takes a moment; who presses Ctrl-C in it is not shown where the import stood.
"""

import signal


def main() -> None:
    """Put the command together, and run it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from ledger.cli import app

    app.main()


if __name__ == "__main__":
    main()
