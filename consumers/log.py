"""A log for machines: one JSON object a line on stderr. In: names of events, and facts that we made. Out: lines.

What a platform sent never stands in it: facts are places, counts and codes. Of an error that was not foreseen it says
the kind, the database's code and where it rose, not its message, which may quote a row; of a line that a library logs,
the text without what the library puts into it.
"""

import logging
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from traceback import extract_tb
from types import TracebackType
from typing import Any, BinaryIO

import orjson

from consumers.kafka.fetch import Batch
from consumers.loop import Outcome
from consumers.steps import Lap
from schemas.codes import Answer

FRAMES_MAX = 12
CHARS_MAX = 300


class Log:
    """Writes to one stream, from any thread."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._lock = stream, threading.Lock()

    def told(self, name: str, facts: Mapping[str, Any]) -> None:
        """One line; a short one is written in one piece, so that the lines of several processes do not mix."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = orjson.dumps({"at": at, "event": name, **facts}, option=orjson.OPT_APPEND_NEWLINE)
        with self._lock:
            self._stream.write(line)
            self._stream.flush()

    def booked(self, outcome: Outcome, batch: Batch, laps: list[Lap]) -> None:
        """A batch is in the books."""
        head, records = outcome.head, outcome.intake.records
        answers = {str(answer): outcome.answers.count(answer) for answer in Answer}
        self.told(
            "booked",
            {
                "topic": head.topic,
                "partition": head.partition,
                "next_offset": head.next_offset,
                "records": len(records),
                "events": outcome.intake.events,
                **answers,
                "orders": outcome.orders,
                "ms": round((laps[-1].ended - batch.polled_at) * 1000),
                "steps_ms": {lap.step: round(lap.seconds * 1000, 1) for lap in laps},
            },
        )

    def failed(self, kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        """An error that nobody caught; in the place of Python's traceback."""
        cause = getattr(error, "orig", None) or error
        frames = [f"{Path(one.filename).name}:{one.lineno} {one.name}" for one in extract_tb(trace)]
        facts = {
            "error": f"{kind.__module__}.{kind.__name__}",
            "cause": type(cause).__name__,
            "sqlstate": getattr(cause, "sqlstate", None) or "",
            "where": frames[-FRAMES_MAX:],
        }
        self.told("failed", facts)

    def take_over(self) -> None:
        """From now on write what else would reach stderr: what libraries log, and what nobody catches."""

        def in_thread(args: threading.ExceptHookArgs) -> None:
            self.failed(args.exc_type, args.exc_value, args.exc_traceback)

        sys.excepthook, threading.excepthook = self.failed, in_thread
        logging.basicConfig(level=logging.WARNING, handlers=[_Libraries(self)], force=True)


class _Libraries(logging.Handler):
    """What libraries log, without what they put into their texts."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """One line of a library's."""
        facts = {"library": record.name, "level": record.levelname.lower(), "text": str(record.msg)[:CHARS_MAX]}
        self._log.told("library", facts)
