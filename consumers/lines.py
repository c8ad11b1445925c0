"""The lines of a file, and whether they can be records at all. In: a path. Out: lines; DanbaoError where not.

A file of another format would otherwise become thousands of rejected records for ever: before anything is
booked its first bytes are looked at. One damaged line among good ones is no such matter: it is rejected.
"""

import gzip
import io
from collections.abc import Callable, Iterator
from functools import partial
from importlib.resources import files
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import zstandard

from ledger.errors import BadQuestion, DanbaoError
from schemas.both import Both

READ_BYTES = 1024 * 1024
ZSTD_BYTES = 4 * 1024  # of compressed bytes at a time: they may unpack to thirty thousand times as many
LINE_BYTES_MAX = 64 * 1024 * 1024
LINES_LOOKED_AT = 100  # of which at least one must be JSON
_BOM = b"\xef\xbb\xbf"  # what spreadsheets put before the first line; no part of it
_PACKED_TABLES = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # .xlsx and its older sister
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
AS_CSV = Both(
    "Save it from the spreadsheet as “CSV UTF-8” and give --map.", "请在电子表格中另存为“CSV UTF-8”，并指定 --map。"
)
AS_UTF_8 = Both("Save it as UTF-8 text.", "请另存为 UTF-8 文本。")
ONE_A_LINE = Both(
    "Records are one to a line. A JSON list becomes that by: jq -c '.[]' FILE > orders.ndjson",
    "每行一条记录。JSON 列表可这样转换：jq -c '.[]' 文件 > orders.ndjson",
)
_SHAPE = files("schemas").joinpath("published", "order-record.schema.json")
RECORDS = Both(
    f"Give NDJSON, one order event or list of them a line, of the shape {_SHAPE}; a CSV needs --map.",
    f"请给出 NDJSON，每行一个订单事件或其列表，格式见 {_SHAPE}；CSV 须指定 --map。",
)


class Broken(DanbaoError):
    """A compressed file that cannot be unpacked to its end."""


def plain_suffix(path: Path) -> str:
    """The suffix under .gz and .zst."""
    return (path.with_suffix("") if path.suffix in (".gz", ".zst") else path).suffix


def read_lines(path: Path, on_bytes: Callable[[int], None] = lambda _: None) -> Iterator[bytes]:
    """The lines of a file without their ends, blank ones left out; `on_bytes` hears of stored bytes read."""
    return filter(None, every_line(path, on_bytes))


def every_line(path: Path, on_bytes: Callable[[int], None] = lambda _: None) -> Iterator[bytes]:
    """The same with the blank ones, so that they can be numbered."""
    blocks = _blocks(path, on_bytes)
    rest = next(blocks, b"").removeprefix(_BOM)
    for block in chain(blocks, (b"",)):
        lines = (rest + block).split(b"\n")
        rest = lines.pop()
        if len(rest) > LINE_BYTES_MAX:
            raise BadQuestion(
                Both(
                    f"{path.name} has a line of more than {LINE_BYTES_MAX} bytes.",
                    f"{path.name} 有一行超过 {LINE_BYTES_MAX} 字节。",
                ),
                Both(
                    "Records are one to a line; check that this is a file of records.",
                    "每行一条记录；请确认这是记录文件。",
                ),
            )
        for line in lines:
            yield line.rstrip(b"\r")
    yield rest.rstrip(b"\r")


def _blocks(path: Path, on_bytes: Callable[[int], None] = lambda _: None) -> Iterator[bytes]:
    """What the file holds, unpacked. Broken where it was cut off or is not what its name says."""
    with path.open("rb") as stored:
        told = 0
        try:
            for block in _unpacked(path, stored):
                if block:  # a piece of a compressed file may unpack to nothing yet
                    yield block
                on_bytes(stored.tell() - told)
                told = stored.tell()
        except (gzip.BadGzipFile, EOFError, zstandard.ZstdError) as error:
            raise Broken(
                Both(f"{path.name} does not unpack: {error}", f"{path.name} 无法解压：{error}"),
                Both(
                    "It was cut off on its way, or is not what its name says: fetch it again.",
                    "文件在传输中被截断，或与其名称不符：请重新取得该文件。",
                ),
            ) from None


def _unpacked(path: Path, stored: BinaryIO) -> Iterator[bytes]:
    if path.suffix == ".zst":
        return _zstd_blocks(stored)
    plain = io.BufferedReader(gzip.GzipFile(fileobj=stored)) if path.suffix == ".gz" else stored
    return iter(partial(plain.read, READ_BYTES), b"")


def _zstd_blocks(stored: BinaryIO) -> Iterator[bytes]:
    """Frame by frame: the library's own reader takes a file that was cut off for one that ends there."""
    frame = None
    for piece in iter(partial(stored.read, ZSTD_BYTES), b""):
        packed = piece
        while packed:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            yield frame.decompress(packed)
            packed = frame.unused_data if frame.eof else b""
            frame = None if frame.eof else frame
    if frame:
        raise zstandard.ZstdError("the compressed file ended within a frame")


def is_empty(path: Path) -> bool:
    """Whether the file holds no line at all."""
    return next(read_lines(path), None) is None


# ---- what is no file of records


def refuse_other_formats(path: Path) -> None:
    """BadQuestion for what is no text: a spreadsheet, UTF-16, bytes."""
    head = next(_blocks(path), b"")
    if head.startswith(_PACKED_TABLES):
        what = Both(
            f"{path.name} is a spreadsheet or archive, not text.", f"{path.name} 是电子表格或压缩包，不是文本。"
        )
        raise BadQuestion(what, AS_CSV)
    if head.startswith(_UTF_16):
        raise BadQuestion(Both(f"{path.name} is UTF-16 text.", f"{path.name} 是 UTF-16 文本。"), AS_UTF_8)
    if b"\0" in head:
        what = Both(f"{path.name} holds bytes that are no text.", f"{path.name} 含有不属于文本的字节。")
        raise BadQuestion(what, RECORDS)


def refuse_other_lines(path: Path) -> None:
    """BadQuestion where the lines of a text are no records: JSON over many lines, answers of ours, other text."""
    lines = islice(read_lines(path), LINES_LOOKED_AT)
    first = next(lines, None)
    if first is None:
        return
    if _goes_on(first.strip()):
        what = Both(f"{path.name} is JSON spread over several lines.", f"{path.name} 是写成多行的 JSON。")
        raise BadQuestion(what, ONE_A_LINE)
    record = next((value for line in chain((first,), lines) if (value := _json(line)) is not None), None)
    if record is None:
        raise BadQuestion(Both(f"{path.name} holds no JSON records.", f"{path.name} 中没有 JSON 记录。"), RECORDS)
    if isinstance(record, dict) and "answer" in record and "specversion" not in record:
        raise BadQuestion(
            Both(
                f"{path.name} holds the answers of an earlier ingest (--answers), not orders.",
                f"{path.name} 是以前入账时写出的答复（--answers），不是订单。",
            ),
            Both("Give the file of orders itself.", "请给出订单文件本身。"),
        )


def _goes_on(first: bytes) -> bool:
    """Whether a first line is the beginning of JSON that goes on in the next line."""
    return first in (b"[", b"{") or (first[:1] == b"[" and first[-1:] == b"," and _json(first[:-1] + b"]") is not None)


def _json(line: bytes) -> Any:
    """An object or a list; None for all else."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict | list) else None
