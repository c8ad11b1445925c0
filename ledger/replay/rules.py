"""Recorded rules. In: a rulebook's text and its rate rows. Out: the rulebook, and where they disagree. Pure."""

from collections.abc import Iterable, Iterator
from datetime import date
from hashlib import sha256

from ledger.replay.findings import Code, Finding, differences, merged, missing, text, unfounded
from ledger.rulebook import Rate, Rulebook, RuleFault


def read_rulebook(rulebook_hash: bytes, content: str) -> tuple[Rulebook | None, list[Finding]]:
    """A recorded rulebook, rebuilt from its text, and what is wrong with it."""
    key = rulebook_hash.hex()
    digest = sha256(content.encode()).digest()
    found = list(differences("rulebook", key, {"rulebook_hash": digest}, {"rulebook_hash": rulebook_hash}))
    try:
        return Rulebook.from_content(content), found
    except RuleFault as fault:
        return None, [*found, Finding(Code.DAMAGED, "rulebook", key, "content", "a rulebook", text(fault))]


def check_rates(rulebook_hash: bytes, rules: Rulebook, recorded: Iterable[Rate]) -> Iterator[Finding]:
    """The rate rows of a rulebook are what its content says."""
    expected, found = sorted(rules.rates(), key=_rate_key), sorted(recorded, key=_rate_key)
    for one, other in merged(expected, found, _rate_key, _rate_key):
        key = f"{rulebook_hash.hex()[:16]} {_rate_text(one or other)}"
        if other is None:
            yield missing("rate", key, one._asdict() if one else one)
        elif one is None:
            yield unfounded("rate", key, other._asdict())
        else:
            yield from differences("rate", key, one._asdict(), other._asdict())


def _rate_key(rate: Rate) -> tuple[str, str, str, date]:
    return rate.line, rate.province, rate.platform_id, rate.first_day


def _rate_text(rate: Rate | None) -> str:
    assert rate is not None
    return " ".join(str(part) for part in _rate_key(rate))
