"""The quick rows of the table, with short durations; figures that hang on speed are not asserted.

`make faults` runs all of them at length.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from .lab import Lab, Needs
from .rows import Pace, Row
from .table import ROWS

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUICK = {1, 2, 4, 7, 8, 10, 12, 13, 14, 15, 20, 24, 27, 28, 29, 31, 33}
GetLab = Callable[[Needs], Awaitable[Lab]]


@pytest.fixture(scope="module", autouse=True)
def patient() -> Iterator[None]:
    """Have gateways wait for who is slow here: this process answers who a socket is, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REALTIME_AUTH_TIMEOUT", "6")
        patch.setenv("REALTIME_AUTH_DEADLINE", "30")
        yield


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def get_lab(
    tmp_path_factory: pytest.TempPathFactory, data_template: Path
) -> AsyncIterator[GetLab]:
    """Return a function that returns a lab; rows of the same needs share one, made whole again."""
    labs: dict[Needs, Lab] = {}
    async with AsyncExitStack() as stack:

        async def get(needs: Needs) -> Lab:
            if needs in labs:
                await labs[needs].restore()
            else:
                lab = Lab(tmp_path_factory.mktemp("lab"), needs, data_template)
                labs[needs] = await stack.enter_async_context(lab)
            return labs[needs]

        yield get


@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if row.number in QUICK],
    ids=lambda row: f"{row.number}-{row.run.__name__}",
)
async def test_fault_injected_nothing_is_lost_or_leaked(get_lab: GetLab, row: Row) -> None:
    lab = await get_lab(row.needs)
    outcome = await row.run(lab, Pace(full=False))
    assert outcome.violations(timed=False) == [], outcome.figures
