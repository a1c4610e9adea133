"""The fault harness: real processes, real faults, and what was lost: `python -m tests.faults`."""
