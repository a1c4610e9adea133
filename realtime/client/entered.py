"""What is entered with `async with`: connected from its beginning, closed at its end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self


class Entered(ABC):
    """A connection for the length of an `async with`; one that fails to open is closed as well."""

    @abstractmethod
    async def connect(self) -> object:
        """Connect."""

    @abstractmethod
    async def close(self) -> None:
        """Give up the connection, as far as there is one."""

    async def __aenter__(self) -> Self:
        try:
            await self.connect()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()
