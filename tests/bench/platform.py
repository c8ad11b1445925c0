"""One process that sends as a platform does: RATE events a second, one a record, keyed by order.

In: broker, topic, partitions, rate, a file of events; every EVERYth acceptance is told. Out: a line for each of those
as it is sent: source, worker, order and the moment, in seconds of the machine's monotonic clock.
"""

import json
import sys
import time
from pathlib import Path

from kafka import KafkaProducer

from consumers.kafka.settings import Access, producer_options
from consumers.push import partition_of

EVERY = 499
AT_A_TIME = 100


def main(bootstrap: str, topic: str, partitions: int, rate: int, file: Path) -> None:
    """Send them all, at that rate; what a platform knows of its events is worked out before."""
    sends = []
    for number, line in enumerate(file.read_bytes().splitlines()):
        event = json.loads(line)
        key = f"{event['source']}/{event['subject']}".encode()
        told = None
        if number % EVERY == 0 and event["type"] == "order.accepted":
            told = json.dumps([event["source"], event["data"]["worker_id"], event["subject"]])
        sends.append((line, key, partition_of(key, partitions), told))
    producer = KafkaProducer(**producer_options(Access(bootstrap), "bench"))
    started = time.monotonic()
    for number, (line, key, partition, told) in enumerate(sends):
        if number % AT_A_TIME == 0 and (ahead := started + number / rate - time.monotonic()) > 0:
            time.sleep(ahead)
        if told:
            print(told, time.monotonic(), sep="\t", flush=True)
        producer.send(topic, value=line, key=key, partition=partition)
    producer.flush()
    producer.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
