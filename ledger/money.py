"""Money: a whole number of 毫 (1/10,000 yuan). In: yuan as text. Out: 毫, and back. Never a float.

0.07 yuan × 1.2 = 0.084 yuan does not fit in fen, so amounts are kept in 毫 and rounded once per
declared line, half away from zero, to whole fen (architecture.md, domain.md §2).
"""

from decimal import ROUND_HALF_UP, Decimal

HAO_PER_YUAN = 10_000
HAO_PER_FEN = 100


def hao(yuan: str | Decimal) -> int:
    """Yuan as text or Decimal → whole 毫. ValueError when it has more than four decimals."""
    # As a ratio, since Decimal's own multiplication rounds to 28 digits.
    numerator, denominator = Decimal(yuan).as_integer_ratio()
    whole, rest = divmod(numerator * HAO_PER_YUAN, denominator)
    if rest:
        raise ValueError(f"{yuan} yuan is not a whole number of 毫 (1/10,000 yuan)")
    return whole


def yuan(amount: int) -> str:
    """毫 → yuan as text, at least two decimals: 840 → "0.084", 70000 → "7.00"."""
    sign = "-" if amount < 0 else ""
    whole, rest = divmod(abs(amount), HAO_PER_YUAN)
    decimals = f"{rest:04d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{decimals}"


def round_to_fen(amount: int) -> int:
    """毫 → whole fen, half away from zero."""
    return int((Decimal(amount) / HAO_PER_FEN).quantize(Decimal(1), rounding=ROUND_HALF_UP))
