"""Those who watch a consumer, put together. In: a booker's switch, who watches. Out: the hooks of the consumer."""

from collections.abc import Callable
from dataclasses import dataclass, field

from consumers.kafka.fetch import Batch, Facts
from consumers.log import Log
from consumers.loop import Booker, Outcome, Switch
from consumers.metrics import Metrics
from consumers.orders import Hooks
from consumers.steps import Steps
from consumers.trace import LINKS_MAX, Traces
from schemas.both import Both


@dataclass(slots=True)
class Watch:
    """Any of metrics, traces and log. Without any of them nothing is measured."""

    metrics: Metrics | None = None
    traces: Traces | None = None
    log: Log | None = None
    _steps: Steps = field(default_factory=Steps)

    def switch(self, pulled: Switch) -> Switch:
        """The booker's switch, with the clock read after each step when somebody wants to know."""
        if not self._watched:
            return pulled

        def reached(step: str) -> None:
            pulled(step)
            self._steps.reached(step)

        return reached

    def hooks(self, booker: Booker, on_notice: Callable[[Both], None]) -> Hooks:
        """What the consumer calls. Lines for a person are left out where a log for machines is kept."""
        if not self._watched:
            return Hooks(on_notice=on_notice)

        def booked(outcome: Outcome, batch: Batch) -> None:
            laps = self._steps.take()
            if self.metrics:
                self.metrics.booked(outcome, laps, booker.platform_ids)
            if self.traces:
                self.traces.booked(outcome, batch, laps)
            if self.log:
                self.log.booked(outcome, batch, laps)

        return Hooks(
            on_booking=lambda batch: self._steps.begin(batch.read),
            on_outcome=booked,
            on_notice=(lambda text: None) if self.log else on_notice,
            on_event=self._told,
            traces_max=LINKS_MAX if self.traces else 0,
        )

    @property
    def _watched(self) -> bool:
        return any((self.metrics, self.traces, self.log))

    def _told(self, name: str, facts: Facts) -> None:
        for listener in (self.metrics, self.log):
            if listener:
                listener.told(name, facts)
