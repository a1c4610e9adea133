"""The project's settings with tracing on; each process appends its spans to a file in $SPANS."""

from __future__ import annotations

import os
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from gateway_project.settings import *  # noqa: F403
from gateway_project.settings import REALTIME as _REALTIME

REALTIME = {**_REALTIME, "TRACING": True}

_provider = TracerProvider()
_provider.add_span_processor(
    SimpleSpanProcessor(
        ConsoleSpanExporter(
            out=Path(os.environ["SPANS"], f"{os.getpid()}.jsonl").open("a"),  # noqa: SIM115
            formatter=lambda span: f"{span.to_json(indent=None)}\n",
        )
    )
)
trace.set_tracer_provider(_provider)
