"""Replay 审计重放: what the evidence says, held against what the books say. Pure.

In: facts as they are recorded, and what the segments yield under the rules then in force. Out: findings,
each naming the table, the row, the column, what was expected and what was found. How the facts are read
and matched by the million is in `ledger.store.replay`; what must hold is here.
"""
