"""Methods that do not keep their object alive.

A connection and its parts would hold each other, and each that is gone wait for the garbage
collector, which stops the process for long when thousands have gone at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast
from weakref import ref

Method = TypeVar("Method", bound=Callable[..., Any])


class _Weak:
    __slots__ = ("_method", "_object")

    def __init__(self, method: Any) -> None:
        self._object = ref(method.__self__)
        self._method = method.__func__

    def __call__(self, *args: Any) -> Any:
        one = self._object()
        return None if one is None else self._method(one, *args)


def weakly(method: Method) -> Method:
    """Return a bound method that does nothing once its object is gone."""
    return cast(Method, _Weak(method))
