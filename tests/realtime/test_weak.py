"""A method that does not keep its object alive."""

from __future__ import annotations

import gc

from realtime.weak import weakly


class Doubler:
    """An object whose part calls back."""

    def __init__(self) -> None:
        self.part = weakly(self.double)

    def double(self, number: int) -> int:
        return number * 2


def test_method_of_a_living_object_is_called() -> None:
    doubler = Doubler()
    assert doubler.part(3) == 6


def test_method_of_an_object_that_is_gone_does_nothing() -> None:
    doubler = Doubler()
    part = doubler.part
    gc.disable()
    try:
        del doubler
        assert part(3) is None
    finally:
        gc.enable()
