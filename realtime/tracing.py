"""Tracing: one trace from whoever publishes to the delivery, by OpenTelemetry.

The trace context rides in NATS headers and in the outbox as W3C's `traceparent`
(https://www.w3.org/TR/trace-context/). It takes opentelemetry-api, an SDK that the project or
`opentelemetry-instrument` sets up, and the setting TRACING. Otherwise `tracer` is None, and that
is all that is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Literal

import msgspec

from .protocol.messages import Event

try:
    from opentelemetry import context, trace
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:
    INSTALLED = False
else:
    INSTALLED = True
    _propagator = TraceContextTextMapPropagator()

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

TRACEPARENT = "traceparent"
"""Both W3C's name and the NATS header."""
LENGTH = 55
"""Characters of a `traceparent`; what has others is none, and is not carried along."""
MILLISECOND = 10**6
"""In nanoseconds."""

Headers = dict[str, str]

tracer: Tracer | None = None
"""None: off."""


def start() -> None:
    """Trace from now on, if the package is there; a system check says so when it is not."""
    global tracer
    if INSTALLED:
        tracer = trace.get_tracer("realtime")


def sending(
    name: Literal["publish", "request", "authenticate"], subject: str, headers: Headers | None
) -> AbstractContextManager[Headers | None]:
    """Return a context that yields the headers to send with, and is a span where tracing is on."""
    return nullcontext(headers) if tracer is None else _sending(tracer, name, subject, headers)


def continuing(traceparent: str) -> AbstractContextManager[None]:
    """Return a context within which a trace goes on that began elsewhere; empty: none did."""
    return nullcontext() if tracer is None or not traceparent else _continuing(traceparent)


def current() -> str:
    """Return the present trace context, empty without one."""
    carrier: Headers = {}
    if tracer is not None:
        _propagator.inject(carrier)
    return carrier.get(TRACEPARENT, "")


def carrying(event: Event, headers: Mapping[str, str]) -> Event:
    """Return an event with the trace context of the message that it comes from."""
    traceparent = headers.get(TRACEPARENT, "")
    if len(traceparent) != LENGTH:
        return event
    return msgspec.structs.replace(event, trace=traceparent)


def delivered(events: Iterable[Event], sockets: int) -> None:
    """Make a span of each event that is traced: from when it was stored to when it was written.

    Args:
        sockets: of this process, to which each was written.
    """
    for event in events:
        if tracer is None or not event.trace:
            continue
        attributes: dict[str, str | int] = {
            "messaging.system": "nats",
            "messaging.destination.name": event.topic,
            "messaging.message.id": event.message_id,
            "gateway.sequence": event.sequence,
            "gateway.deliveries": sockets,
        }
        tracer.start_span(
            "deliver",
            context=_propagator.extract({TRACEPARENT: event.trace}),
            kind=SpanKind.CONSUMER,
            attributes=attributes,
            start_time=event.timestamp * MILLISECOND,
        ).end()


@contextmanager
def _sending(
    tracer: Tracer, name: str, subject: str, headers: Headers | None
) -> Iterator[Headers | None]:
    kind = SpanKind.PRODUCER if name == "publish" else SpanKind.CLIENT
    attributes = {"messaging.system": "nats", "messaging.destination.name": subject}
    with tracer.start_as_current_span(name, kind=kind, attributes=attributes):
        carrier = dict(headers or {})
        _propagator.inject(carrier)
        yield carrier or None


@contextmanager
def _continuing(traceparent: str) -> Iterator[None]:
    token = context.attach(_propagator.extract({TRACEPARENT: traceparent}))
    try:
        yield
    finally:
        context.detach(token)
