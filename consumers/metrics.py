"""What Prometheus scrapes of a consumer. In: batches as they are booked, events of the shell. Out: a registry.

Label values come from short lists: platforms of the registry, provinces, answers, reasons, steps, the topics consumed.
Nothing is labelled by order, worker, person or machine. Counting a batch runs no Python code per event.

How fresh the books are is told as the instant of the newest acceptance, so that it goes on ageing while nothing comes:
`time() - danbao_newest_acceptance_timestamp_seconds`.
"""

from collections import Counter as Count
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from time import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector

from consumers.kafka.fetch import Facts, Lag
from consumers.loop import Outcome
from consumers.steps import Lap
from ledger.calendar import US_PER_SECOND
from ledger.intake import Acceptance, Intake, Later
from schemas.codes import Answer

EVENT_BUCKETS = (1, 10, 100, 1_000, 5_000, 10_000, 20_000, 40_000)
BYTE_BUCKETS = (1_000, 10_000, 100_000, 1_000_000, 4_000_000, 16_000_000, 64_000_000)
SECOND_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
UNKNOWN = "unknown"  # whose platform cannot be read, or is not registered

# By place: an event is a tuple, and this is the quickest way into one.
_occurred = itemgetter(Acceptance._fields.index("occurred_us"))
_tariff = itemgetter(Acceptance._fields.index("tariff"))
_platform_no = {kind: itemgetter(kind._fields.index("platform_no")) for kind in (Acceptance, Later)}
_ordinal = {kind: itemgetter(kind._fields.index("ordinal")) for kind in (Acceptance, Later)}

Newest = dict[tuple[int, str], int]
_Kinds = tuple[tuple[type[Acceptance] | type[Later], Sequence[Acceptance | Later]], ...]


class Metrics:
    """The metrics of one process. `restarts`: how often the process before it in its place had to be started again."""

    def __init__(self, restarts: int = 0) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self.registry)
        self._answered = self._counter("events", "Events answered for, by answer.", "platform", "answer")
        self._rejected = self._counter("rejected_events", "Events rejected, by reason.", "platform", "reason")
        self._records = self._counter("records", "Records booked or rejected.")
        self._orders = self._counter("orders", "Orders newly insured.")
        self._waits = self._counter(
            "database_waits", "Times that the database was away or took nothing, and was waited for."
        )
        self._fenced = self._counter("fenced_batches", "Batches rolled back because another process was quicker.")
        self._counter("process_restarts", "Times that this process was started again after it died.").inc(restarts)
        self._newest = Gauge(
            "danbao_newest_acceptance_timestamp_seconds",
            "When the newest order that this process booked was accepted.",
            ("platform", "province"),
            registry=self.registry,
        )
        self._newest_us: Newest = {}
        self._batch_events = self._histogram("batch_events", "Events in a batch.", EVENT_BUCKETS)
        self._batch_bytes = self._histogram("batch_raw_bytes", "Bytes of the records of a batch.", BYTE_BUCKETS)
        self._step = self._histogram("batch_step_seconds", "Time that a step of a batch took.", SECOND_BUCKETS, "step")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"danbao_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Iterable[float], *labels: str) -> Histogram:
        return Histogram(f"danbao_{name}", text, labels, buckets=tuple(buckets), registry=self.registry)

    def watch(self, lags: Callable[[], list[Lag]]) -> None:
        """Tell also how far partitions are behind, asked at each scrape."""
        self.registry.register(_Lags(lags))

    def booked(self, outcome: Outcome, laps: list[Lap], names: Mapping[int, str]) -> None:
        """Count a batch. `names`: number → name of platforms."""
        intake = outcome.intake
        self._records.inc(len(intake.records))
        self._orders.inc(outcome.orders)
        self._batch_events.observe(intake.events)
        self._batch_bytes.observe(sum(len(record.raw) for record in intake.records))
        for (platform_no, answer), events in answered(intake, outcome.answers).items():
            self._answered.labels(names.get(platform_no, UNKNOWN), answer).inc(events)
        for (platform, reason), events in Count((one.platform_id, one.reason) for one in intake.rejections).items():
            self._answered.labels(platform or UNKNOWN, Answer.REJECTED).inc(events)
            self._rejected.labels(platform or UNKNOWN, reason).inc(events)
        for (platform_no, province), occurred_us in newest(intake.acceptances).items():
            if occurred_us > self._newest_us.get((platform_no, province), 0):
                self._newest_us[platform_no, province] = occurred_us
                label = names.get(platform_no, UNKNOWN)
                self._newest.labels(label, province).set(occurred_us / US_PER_SECOND)
        for lap in laps:
            self._step.labels(lap.step).observe(lap.seconds)

    def told(self, name: str, facts: Facts) -> None:
        """Count an event of the shell."""
        if name == "waiting_for_database":
            self._waits.inc()
        elif name == "fenced":
            self._fenced.inc()


class _Lags:
    """Lags, as they are at the scrape."""

    def __init__(self, look: Callable[[], list[Lag]]) -> None:
        self._look = look

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One sample for each partition that is this process's."""
        labels = ("topic", "partition")
        records = GaugeMetricFamily("danbao_partition_lag_records", "Records not booked yet.", labels=labels)
        seconds = GaugeMetricFamily(
            "danbao_partition_lag_seconds", "Age of the oldest record that is fetched and not booked.", labels=labels
        )
        stopped = GaugeMetricFamily(
            "danbao_partition_stopped", "1: the broker does not hold what comes next; see the log.", labels=labels
        )
        now = time()
        for lag in self._look():
            place = (lag.topic, str(lag.partition))
            stopped.add_metric(place, int(lag.stopped))
            if lag.records is not None:
                records.add_metric(place, lag.records)
            if not lag.stopped:
                waited = 0.0 if lag.oldest_us is None else max(0.0, now - lag.oldest_us / US_PER_SECOND)
                seconds.add_metric(place, waited)
        yield from (records, seconds, stopped)


def answered(intake: Intake, answers: list[Answer]) -> Count[tuple[int, Answer]]:
    """Platform and answer → events, of all events but the rejected ones."""
    count: Count[tuple[int, Answer]] = Count()
    all_new = answers.count(Answer.NEW) == len(answers)  # the usual case, and the quickest to count
    kinds: _Kinds = ((Acceptance, intake.acceptances), (Later, intake.later))
    for kind, events in kinds:
        platforms = map(_platform_no[kind], events)
        if all_new:
            count.update({(platform_no, Answer.NEW): many for platform_no, many in Count(platforms).items()})
        else:
            count.update(zip(platforms, map(answers.__getitem__, map(_ordinal[kind], events)), strict=True))
    return count


def newest(acceptances: list[Acceptance]) -> Newest:
    """Platform and province → when the newest of these orders was accepted. Tariffs are few, and one object each."""
    ordered = sorted(acceptances, key=_occurred)  # nearly in order as it comes
    last = dict(zip(map(id, map(_tariff, ordered)), ordered, strict=True))  # the last of each stays
    found: Newest = {}
    for event in last.values():
        key = event.platform_no, event.tariff.province
        found[key] = max(event.occurred_us, found.get(key, 0))
    return found
