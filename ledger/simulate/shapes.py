"""The shapes of simulated orders: when they come, how long they take, how many a worker carries at once.

In: `shapes.yaml`, measured figures per line of business. Out: frozen shapes, and tables from
which a draw is one look-up.
"""

from functools import cache
from importlib.resources import files
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ledger import yamlfile
from schemas.codes import CITIES, PROVINCES, Line

TABLE_SIZE = 4_096
CITIES_PER_PROVINCE = 3

Share = Annotated[float, Field(ge=0, le=1)]
Quantiles = Annotated[dict[float, float], Field(min_length=2)]  # per cent → value


class Shape(BaseModel):
    """One line of business; what its figures mean stands in the file's head."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    measured_from: str
    note: str
    orders_per_day_weight: Annotated[float, Field(gt=0)]
    hour_shares: Annotated[tuple[Share, ...], Field(min_length=24, max_length=24)]
    duration_s: Quantiles
    overlap_share: Share
    overlap_begins: Quantiles
    cancelled_share: Share
    reassigned_share: Share


class Shapes(BaseModel):
    """All lines that can be simulated, and how orders spread over the provinces."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lines: dict[Line, Shape]
    province_weights: dict[str, Annotated[float, Field(gt=0)]]


@cache
def shapes() -> Shapes:
    """The bundled shapes."""
    name = "shapes.yaml"
    raw = files("ledger.simulate").joinpath(name).read_bytes()
    found = yamlfile.parse(raw, name, Shapes, yamlfile.OURS)
    assert found.province_weights.keys() == PROVINCES.keys()
    return found


def table(quantiles: dict[float, float]) -> list[float]:
    """Quantiles → values at evenly spaced shares, straight lines between the quantiles given."""
    points = sorted((percent / 100, value) for percent, value in quantiles.items())
    assert (points[0][0], points[-1][0]) == (0, 1), "quantiles reach from 0 to 100 per cent"
    values, at = [], 0
    for number in range(TABLE_SIZE):
        share = (number + 0.5) / TABLE_SIZE
        while points[at + 1][0] < share:
            at += 1
        (low, below), (high, above) = points[at], points[at + 1]
        values.append(below + (above - below) * (share - low) / (high - low))
    return values


def by_weight(total: int, weights: list[float]) -> list[int]:
    """A whole number shared out in proportion to weights; the parts add up to it."""
    whole, so_far = sum(weights), 0.0
    parts, before = [], 0
    for weight in weights:
        so_far += weight
        until = round(total * so_far / whole)
        parts.append(until - before)
        before = until
    return parts


def cities(province: str) -> list[str]:
    """The province's first cities whose codes were in force when the scheme began."""
    known = [code for code, area in CITIES.items() if code[:2] == province and not area.since and not area.until]
    return known[:CITIES_PER_PROVINCE]
