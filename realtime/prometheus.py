"""`/metrics`: what this process and its fellow workers counted, for Prometheus."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from .conf import settings
from .metrics import Histogram
from .runtime import get_runtime
from .snapshot import Snapshot, shared_by_others

GAUGES = {
    "connections": "Open sockets.",
    "users": "Users with a session.",
    "subscriptions": "Topics held by sockets, each socket counted.",
    "topics": "Topics that this process is joined to.",
    "ring_bytes": "Text of recent events kept in memory.",
    "nats": "1 when NATS is reachable.",
    "memory": "Resident memory in bytes.",
}
COUNTERS = {
    "deliveries": "Events written to sockets.",
    "repeats": "Events that came again and were dropped.",
    "holes": "Holes read from the stream.",
    "gaps": "Holes that the stream could not fill.",
    "redelivered": "Events sent again for want of an acknowledgement.",
    "compressions": "Texts compressed, each once for all sockets.",
    "layer_losses": "Times the channel layer was away and came back.",
    "canary_failures": "Events of the canary that did not come back in time.",
}
LABELLED = {
    "events": ("source", "Events taken from the channel layer."),
    "auth": ("outcome", "Answers of the backend to authentication."),
    "published": ("outcome", "Events that clients published."),
    "closes": ("code", "Sockets closed by the gateway."),
    "errors": ("code", "Error frames sent."),
    "refused": ("reason", "Connections refused because a limit was reached."),
}
HISTOGRAMS = {
    "latency": ("delivery_latency_seconds", "From the stream's timestamp to the socket's write."),
    "auth_seconds": ("auth_seconds", "Time the backend took to authenticate."),
    "lag": ("loop_lag_seconds", "How late the event loop ran a timer."),
}
NAMES = {
    "holes": "holes_repaired",
    "redelivered": "redeliveries",
    "memory": "memory_bytes",
    "layer_losses": "layer_reconnects",
}
"""Names that differ from those of the attributes."""


class SnapshotCollector(Collector):
    """Turns snapshots into metric families, one series a worker.

    Each worker keeps its own series, so that the counters of one that is restarted start anew
    for themselves: a sum over all would fall, which Prometheus takes for a restart of everything.
    """

    def __init__(self, snapshots: Iterable[Snapshot]) -> None:
        self._snapshots = list(snapshots)

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        for name, text in GAUGES.items():
            yield self._gauge(_name(name), text, lambda one, name=name: getattr(one, name))
        yield self._sessions()
        yield self._gauge(
            "gateway_canary_seconds",
            "Last round trip of the canary.",
            lambda one: one.metrics.canary,
        )
        yield self._counter("gateway_cpu_seconds", "Processor time used.", lambda one: one.cpu)
        yield self._counter(
            "gateway_nats_reconnects", "Times NATS came back.", lambda one: one.nats_reconnects
        )
        yield self._counter(
            "gateway_slow_readers",
            "Sockets closed because too much waited to be read.",
            lambda one: one.metrics.closes["4001"],
        )
        for name, text in COUNTERS.items():
            yield self._counter(
                _name(name), text, lambda one, name=name: getattr(one.metrics, name)
            )
        for name, (label, text) in LABELLED.items():
            yield self._labelled(name, label, text)
        for name, (shown, text) in HISTOGRAMS.items():
            yield self._histogram(name, f"gateway_{shown}", text)

    def _gauge(self, name: str, text: str, value: Any) -> Metric:
        family = GaugeMetricFamily(name, text, labels=["worker"])
        for one in self._snapshots:
            if (found := value(one)) is not None:
                family.add_metric([one.worker], float(found))
        return family

    def _sessions(self) -> Metric:
        family = GaugeMetricFamily(
            "gateway_sessions", "Sockets by state.", labels=["worker", "state"]
        )
        for one in self._snapshots:
            state = "draining" if one.draining else "authenticated"
            family.add_metric([one.worker, state], one.sessions)
            family.add_metric([one.worker, "connecting"], one.connections - one.sessions)
        return family

    def _counter(self, name: str, text: str, value: Any) -> Metric:
        family = CounterMetricFamily(name, text, labels=["worker"])
        for one in self._snapshots:
            family.add_metric([one.worker], value(one))
        return family

    def _labelled(self, name: str, label: str, text: str) -> Metric:
        family = CounterMetricFamily(_name(name), text, labels=["worker", label])
        for one in self._snapshots:
            counts: Counter[str] = getattr(one.metrics, name)
            for value, count in sorted(counts.items()):
                family.add_metric([one.worker, value], count)
        return family

    def _histogram(self, name: str, shown: str, text: str) -> Metric:
        family = HistogramMetricFamily(shown, text, labels=["worker"])
        for one in self._snapshots:
            histogram: Histogram = getattr(one.metrics, name)
            family.add_metric([one.worker], _buckets(histogram), histogram.total)
        return family


def exposition(snapshots: Iterable[Snapshot]) -> bytes:
    """Return snapshots in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(snapshots))
    return generate_latest(registry)


@require_safe
@never_cache
async def metrics(request: HttpRequest) -> HttpResponse:
    """Answer with the metrics of all workers on this port, to whom they concern."""
    if not _may_read(request):
        # Whoever may not read them need not learn that they are here.
        raise Http404
    snapshots = [get_runtime().snapshot(), *shared_by_others()]
    return HttpResponse(exposition(snapshots), content_type=CONTENT_TYPE_LATEST)


def _may_read(request: HttpRequest) -> bool:
    if settings.METRICS_TOKEN:
        given = request.headers.get("Authorization", "")
        return constant_time_compare(given, f"Bearer {settings.METRICS_TOKEN}")
    try:
        return ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False


def _name(name: str) -> str:
    return f"gateway_{NAMES.get(name, name)}"


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*(f"{bound:g}" for bound in histogram.bounds), "+Inf"]
    seen, buckets = 0, []
    for bound, count in zip(bounds, histogram.counts, strict=True):
        seen += count
        buckets.append((bound, float(seen)))
    return buckets
