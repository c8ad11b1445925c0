"""The campaign of faults: the same plan for the same seed, a ledger that is right, and a wrong one that is found.

In: seeds, a real broker and a real PostgreSQL. CHAOS=500 in the environment runs so many.
"""

import json
import os
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from command import run
from support import accepted, encode

from consumers.chaos import plan
from consumers.chaos.model import Books, Model, answers, differences
from consumers.chaos.plan import Consume, Fault, Produce
from consumers.kafka.broker import Cluster
from consumers.loop import STEPS

RUNS = int(os.environ.get("CHAOS", "20"))


def made() -> dict[int, plan.History]:
    return {seed: plan.history(seed, STEPS) for seed in range(500)}


histories = cache(made)


def test_a_seed_gives_the_same_history_for_ever():
    assert made() == histories()
    assert len(set(histories().values())) == len(histories())


def test_histories_hit_every_step_in_every_way_and_have_faults_of_every_sort():
    lived = [step for one in histories().values() for step in one if isinstance(step, Consume)]
    faults = {(fault.what, fault.step) for step in lived for fault in step.lives if fault}
    assert faults == {(what, step) for what in ("kill", "cut") for step in STEPS}
    assert {len(step.lives) for step in lived} == {1, 2}
    for said in ("together", "set_back", "bounce"):
        assert {getattr(step, said) for step in lived} == {True, False}
    assert not any(step.together and fault and fault.what == "kill" for step in lived for fault in step.lives)
    sent = [step for one in histories().values() for step in one if isinstance(step, Produce)]
    assert {step.partition for step in sent} == set(range(plan.PARTITIONS))
    assert {step.codec for step in sent} == set(plan.CODECS)


def test_every_step_is_told_in_one_line():
    lines = [plan.told(step) for step in histories()[1]]
    assert all(line and "\n" not in line for line in lines)
    life = Consume((Fault("kill", "kept", 2), None), together=False, set_back=True, bounce=True)
    assert plan.told(life) == "consume kill at kept 2, to the end · set back, bounce"


def test_a_failing_history_is_shortened_to_the_steps_that_it_needs():
    steps = tuple(Produce(number, None, ()) for number in range(6))
    tried: list[plan.History] = []

    def fails(history: plan.History) -> bool:
        tried.append(history)
        return {steps[1], steps[4]} <= {*history}

    assert plan.shortest(steps, fails, 100) == (steps[1], steps[4])
    tried.clear()
    assert len(plan.shortest(steps, fails, 2)) == 5
    assert len(tried) == 2


def heard() -> Model:
    """Two partitions that contradict each other, a duplicate, and a record that is none."""
    model = Model()
    first, second = encode(accepted("A", worker="W1")), encode(accepted("A", worker="W2"))
    model.hear(Produce(0, None, (first, first, b"rubbish")))
    model.hear(Produce(1, None, (second, first)))
    return model


def right(worker: str) -> Books:
    """The books of it, where the order of this worker stands."""
    model = heard()
    [(key, versions)] = model.versions.items()
    facts = next(facts for _, facts in versions if facts[1] == worker)
    books = Books({key: facts}, 1, {}, Counter(), {(0, 2)}, {0: 3, 1: 2}, model.raw, [])
    books.answers, books.conflicts = answers(model, books)
    return books


@pytest.mark.parametrize(("worker", "duplicate", "conflict"), [("W1", 2, 1), ("W2", 0, 3)])
def test_either_first_version_may_stand_and_the_rest_is_counted_from_it(worker: str, duplicate: int, conflict: int):
    books = right(worker)
    assert books.answers == {"new": 1, "duplicate": duplicate, "conflict": conflict, "rejected": 1}
    assert differences(heard(), books) == []


def test_whatever_is_wrong_in_the_books_is_found():
    key = next(iter(heard().versions))
    wrong = {
        "orders charged": {"charges": 2},
        "facts": {"facts": {}},
        "answers": {"answers": {"new": 2, "duplicate": 2, "conflict": 1, "rejected": 1}},
        "conflicts kept": {"conflicts": Counter()},
        "rejected kept": {"rejected": set()},
        "heads": {"heads": {0: 3, 1: 1}},
        "raw records": {"raw": {0: [b""]}},
        "replay": {"findings": ["something"]},
        str(key): {"facts": {key: ("nobody", "ever", "said")}},
    }
    for what, change in wrong.items():
        books = right("W1")
        for name, bad in change.items():
            setattr(books, name, bad)
        assert any(line.startswith(what) for line in differences(heard(), books)), what


def test_seeds_leave_a_ledger_that_is_that_of_a_dictionary(server_url: str, broker: Cluster, tmp_path: Path):
    """With CHAOS=500, five hundred of them; a broker of its own, which may die."""
    line = ["chaos", "--seed", "1", "--runs", RUNS, "--json"]
    done = run(line, tmp_path, {"DANBAO_DATABASE_URL": server_url}, "en")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["failed"] is None


def test_a_named_broker_that_does_not_answer_is_said(server_url: str, tmp_path: Path):
    nowhere = {"DANBAO_DATABASE_URL": server_url, "DANBAO_KAFKA_BOOTSTRAP": "127.0.0.1:1"}
    done = run(["chaos", "--runs", "1"], tmp_path, nowhere, "en")
    assert done.returncode == 1
    assert "No Kafka answers at 127.0.0.1:1" in done.stderr
    assert "unset" in done.stderr
    assert "Traceback" not in done.stderr
