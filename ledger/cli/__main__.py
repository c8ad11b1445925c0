"""The entry point of the distribution. In: a command line. Out: the command, and until it is there, a quiet end.

Putting the command together takes a moment; who presses Ctrl-C in it is not shown where the import stood.
"""

import gc
import signal

YOUNG_MAX = 50_000  # objects made before one looks for garbage among them: a start makes that many, and drops none


def main() -> None:
    """Put the command together, and run it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.set_threshold(YOUNG_MAX)
    from ledger.cli import app

    app.main()


if __name__ == "__main__":
    main()
