"""One file a fault, in the order of docs/explain/faults.md; each fault is done to the real processes.

    rig.py         broker, daemon, devices and database together, and the check that follows every fault
    history.py     devices that publish, what the broker acknowledged of it, and what has to be stored for that
    failpoints.py  the daemon, killed at a chosen step
    conftest.py    rounds, seeds, and the table at the end of a run

Few rounds by default; `pytest tests/faults --full` does the full counts, `--seed` repeats a run.
"""
