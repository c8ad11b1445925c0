"""A rejoining of the group that outlasts a poll.

In: a coordinator of kafka-python whose topics have changed. Out: whether it must join its group again, remembered until
it has.

The leader of a group joins again when its topics have changed, as when somebody adds partitions. It compares what it
knows with what it last gave out, and notes the new when it gives out, which is before its own share has come. A poll
that ends in between (ours do, after 20 ms) leaves it with nothing: its partitions are taken back, its share is never
looked at, its heartbeats are off, and it polls so for ever. kafka-python 3.0.12 offers no place to say otherwise, so
its question is replaced by ours when this module is imported.
"""

from typing import Any

from kafka.coordinator.consumer import ConsumerCoordinator

_asked: Any = ConsumerCoordinator.need_rejoin


def _need_rejoin(self: ConsumerCoordinator) -> bool:
    needed = bool(_asked(self))
    if needed:
        self.request_rejoin()  # cleared by the coordinator when its share has come
    return needed


ConsumerCoordinator.need_rejoin = _need_rejoin
