"""Errors that end a command: what was wrong, and what to do.

Errors *in data* are values (`schemas.codes.Reason` and findings), never exceptions; these are for
questions that cannot be answered and for states in which going on would harm the ledger. Whoever
raises one says it in both languages; the command shows the reader's.
"""

from schemas.both import Both


class DanbaoError(Exception):
    """Something stands in the way; `what` says it, `fix` says what to do. Exit code 1."""

    exit_code = 1

    def __init__(self, what: Both, fix: Both) -> None:
        super().__init__(what, fix)
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.what}\n{self.fix}"


class BadQuestion(DanbaoError):
    """The question itself is wrong: an unknown platform, a date that is none. Exit code 2."""

    exit_code = 2


class Fenced(DanbaoError):
    """Another process moved the partition head since we read it; our batch was rolled back."""
