"""All rows, in the order of the table."""

from . import (
    rows_access,
    rows_auth,
    rows_backend,
    rows_bridge,
    rows_history,
    rows_json,
    rows_nats,
    rows_rules,
    rows_slow,
    rows_web,
    rows_wire,
)
from .rows import ROWS

MODULES = (
    rows_access,
    rows_auth,
    rows_backend,
    rows_bridge,
    rows_history,
    rows_json,
    rows_nats,
    rows_rules,
    rows_slow,
    rows_web,
    rows_wire,
)

__all__ = ["MODULES", "ROWS"]
