"""What orchestrators and Prometheus ask of a consumer over HTTP. In: a running consumer. Out: three pages.

    /metrics   consumers/metrics.py, in Prometheus's text
    /healthz   200 while the fetching thread goes round: within TURN_S, since reading a batch or a database that stands
               still may hold it up for a while; 503: start the process again
    /readyz    200 when the group has taken us in, the database answers within PROBE_S and no partition is stopped

It listens on loopback unless told otherwise, answers GET alone, and says nothing of what platforms sent.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from time import monotonic
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from consumers.orders import Consumer
from ledger.errors import DanbaoError
from schemas.both import Both

TURN_S = 120.0
PROBE_S = 2.0
REQUEST_S = 10.0

Findings = dict[str, bool]


class _Probe:
    """One question to the database, in a thread that no exit waits for."""

    def __init__(self, answers: Callable[[], bool]) -> None:
        self.done = Event()
        self.answered = False
        self._answers = answers
        Thread(target=self._ask, name="probe", daemon=True).start()

    def _ask(self) -> None:
        try:
            self.answered = self._answers()
        finally:
            self.done.set()


class Probes:
    """Asks the database, one question at a time, however many ask us: one that stands still takes one connection, not
    all. `answers`: asks it a trifle, and returns whether it answered."""

    def __init__(self, answers: Callable[[], bool]) -> None:
        self._answers = answers
        self._probe: _Probe | None = None
        self._lock = Lock()

    def answered(self, within_s: float = PROBE_S) -> bool:
        """Whether it answers in time."""
        with self._lock:
            if self._probe is None or self._probe.done.is_set():
                self._probe = _Probe(self._answers)
            probe = self._probe
        return probe.done.wait(within_s) and probe.answered


def alive(consumer: Consumer) -> Findings:
    """What /healthz looks at."""
    return {"turns": consumer.fetcher is None or turns(consumer.fetcher.turned_at, monotonic())}


def turns(turned_at: float, now: float) -> bool:
    """Whether a thread that began its last round then still goes round."""
    return now - turned_at < TURN_S


def ready(consumer: Consumer, probes: Probes) -> Findings:
    """What /readyz looks at."""
    fetcher = consumer.fetcher
    return {
        "joined": fetcher is not None and fetcher.is_member,
        "database_answers": probes.answered(),
        "no_partition_stopped": fetcher is None or not any(lag.stopped for lag in fetcher.lags),
    }


@contextmanager
def serving(
    host: str, port: int, registry: CollectorRegistry, consumer: Consumer, answers: Callable[[], bool]
) -> Iterator[None]:
    """Serve the pages in threads of their own. `answers`: see Probes."""

    class Pages(_Pages):
        pages = _pages(registry, consumer, Probes(answers))

    try:
        server = ThreadingHTTPServer((host, port), Pages)
    except (OSError, OverflowError) as error:
        raise DanbaoError(
            Both(f"Metrics cannot be served at {host}:{port}: {error}", f"无法在 {host}:{port} 提供指标：{error}"),
            Both(
                "Give another --metrics-port (workers take it and the ones after it) or --metrics-host.",
                "请另选 --metrics-port（多个进程依次使用其后的端口）或 --metrics-host。",
            ),
        ) from None
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


Page = Callable[[str], tuple[int, str, bytes]]


def _pages(registry: CollectorRegistry, consumer: Consumer, probes: Probes) -> dict[str, Page]:
    def metrics(accept: str) -> tuple[int, str, bytes]:
        encode, kind = choose_encoder(accept)
        return 200, kind, encode(registry)

    return {
        "/metrics": metrics,
        "/healthz": lambda _: _found(alive(consumer)),
        "/readyz": lambda _: _found(ready(consumer, probes)),
    }


def _found(findings: Findings) -> tuple[int, str, bytes]:
    return 200 if all(findings.values()) else 503, "application/json", json.dumps(findings).encode() + b"\n"


class _Pages(BaseHTTPRequestHandler):
    """Answers GET for the pages, and nothing else."""

    pages: dict[str, Page]
    timeout = REQUEST_S  # a caller who says nothing holds no thread

    def do_GET(self) -> None:
        """One page."""
        page = self.pages.get(self.path.partition("?")[0])
        status, kind, body = page(self.headers.get("Accept", "")) if page else (404, "text/plain", b"")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Requests are not logged."""
