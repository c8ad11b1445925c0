"""The chain of evidence. In: batches, heads, unpacked segments. Out: where one does not follow from another. Pure."""

from collections.abc import Generator, Iterable, Iterator, Mapping
from datetime import datetime
from hashlib import sha256
from itertools import groupby
from typing import NamedTuple

from ledger import evidence
from ledger.evidence import GENESIS
from ledger.replay.findings import Code, Finding, differences, missing, text, unfounded


class BatchRow(NamedTuple):
    """A batch as it is recorded."""

    batch_id: int
    topic: str
    partition: int
    first_offset: int
    next_offset: int
    rulebook_hash: bytes
    recorded_at: datetime
    events: int
    new: int
    duplicate: int
    conflict: int
    rejected: int
    raw_bytes: int
    raw_sha256: bytes
    chain_before: bytes
    chain_after: bytes

    @property
    def key(self) -> str:
        """How findings name it."""
        return f"batch {self.batch_id} ({self.topic}[{self.partition}] at {self.first_offset})"


class HeadRow(NamedTuple):
    """A partition head as it is recorded."""

    topic: str
    partition: int
    next_offset: int
    chain_hash: bytes


def _partition(row: BatchRow | HeadRow) -> tuple[str, int]:
    return row.topic, row.partition


def chains(batches: Iterable[BatchRow]) -> list[list[BatchRow]]:
    """The batches of each partition, in order of offset."""
    ordered = sorted(batches, key=lambda row: (row.topic, row.partition, row.first_offset))
    return [list(rows) for _, rows in groupby(ordered, key=_partition)]


def check_chains(batches: list[BatchRow], heads: list[HeadRow]) -> Iterator[Finding]:
    """Offsets without gap or overlap, each hash following from the one before, heads at the end of their chains."""
    standing = {_partition(head): head for head in heads}
    for chain in chains(batches):
        head = standing.pop(_partition(chain[0]), None)
        at, value = yield from _check_links(chain, head)
        key = f"{chain[0].topic}[{chain[0].partition}]"
        if head is None:
            yield missing("partition_head", key, f"next_offset {at}")
        else:
            yield from differences("partition_head", key, {"next_offset": at, "chain_hash": value}, head._asdict())
    for head in standing.values():
        yield unfounded("partition_head", f"{head.topic}[{head.partition}]", f"next_offset {head.next_offset}")


def _check_links(chain: list[BatchRow], head: HeadRow | None) -> Generator[Finding, None, tuple[int, bytes]]:
    """Findings; returns the offset and hash at the end."""
    at, value, recorded_at = 0, GENESIS, chain[0].recorded_at
    followers = [row.chain_before for row in chain[1:]] + [head.chain_hash if head else None]
    for row, follower in zip(chain, followers, strict=True):
        if row.first_offset != at:
            yield Finding(Code.CHAIN, "batch", row.key, "first_offset", text(at), text(row.first_offset))
        yield from differences("batch", row.key, {"chain_before": value}, {"chain_before": row.chain_before})
        linked = evidence.link(value, row.raw_sha256, *_partition(row), row.first_offset, row.next_offset)
        if linked != row.chain_after:
            yield Finding(Code.CHAIN, "batch", row.key, "chain_after", text(linked), text(row.chain_after))
        if row.recorded_at < recorded_at:
            expected = f"not before {text(recorded_at)}"
            yield Finding(Code.CHAIN, "batch", row.key, "recorded_at", expected, text(row.recorded_at))
        # Where the follower agrees with the computed hash, only this row's own copy is wrong.
        value = linked if follower == linked else row.chain_after
        at, recorded_at = row.next_offset, row.recorded_at
    return at, value


def check_segment(batch: BatchRow, framed: bytes, next_offset: int) -> Iterator[Finding]:
    """The segment of a batch, unpacked: its hash, its size and the offset after its last record."""
    digest = sha256(framed).digest()
    if digest != batch.raw_sha256:
        place = batch.topic, batch.partition, batch.first_offset, batch.next_offset
        theirs = evidence.link(batch.chain_before, digest, *place) == batch.chain_after
        table = "batch" if theirs else "segment"
        yield Finding(Code.DAMAGED, table, batch.key, "raw_sha256", text(digest), text(batch.raw_sha256))
    expected = {"raw_bytes": len(framed), "next_offset": next_offset}
    yield from differences("batch", batch.key, expected, batch._asdict())


def check_counts(batch: BatchRow, counted: Mapping[str, int]) -> Iterator[Finding]:
    """What a replay counts in a batch: events, new, duplicate, conflict, rejected."""
    yield from differences("batch", batch.key, counted, batch._asdict())
