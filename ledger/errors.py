"""Errors that end a command: what was wrong, and what to do.

Errors *in data* are values (`schemas.codes.Reason` and findings), never exceptions; these are for
questions that cannot be answered and for states in which going on would harm the ledger.
"""


class DanbaoError(Exception):
    """Something stands in the way; `what` says it, `fix` says what to do. Exit code 1."""

    exit_code = 1

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what if not fix else f"{what}\n{fix}")
        self.what = what
        self.fix = fix


class BadQuestion(DanbaoError):
    """The question itself is wrong: an unknown platform, a date that is none. Exit code 2."""

    exit_code = 2


class Fenced(DanbaoError):
    """Another process moved the partition head since we read it; our batch was rolled back."""
