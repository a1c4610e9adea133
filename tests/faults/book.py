"""What a client keeps of its topics: positions, what was told, and what arrived."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.support.client import Frame
from tests.support.recorder import Recorder, Report


class Tap(Recorder):
    """A recorder that hands every frame on."""

    def __init__(self, take: Callable[[Frame], None]) -> None:
        super().__init__()
        self._take = take

    def record(self, frame: Mapping[str, Any]) -> None:
        super().record(frame)
        self._take(dict(frame))


class Book:
    """The last sequence of each topic, and all that the gateway said, over every connection.

    What arrives is recorded twice: `raw`, as it came over the socket, and `app`, as the
    application sees it once repeats are dropped. A handler named after a type of frame, such
    as `on_gap`, takes in the frames of that type.

    Args:
        since: positions to start from; the top of a topic when it is not among them.
    """

    def __init__(
        self, topics: Sequence[str], since: Mapping[str, int] | None, epoch: str | None
    ) -> None:
        self.topics = list(topics)
        self.raw = Tap(self._take)
        self.app = Recorder()
        self.last: dict[str, int] = dict(since or {})
        self.epoch = epoch
        self.held: set[str] = set()  # topics, on the present connection
        self.told: Counter[str] = Counter()  # frames by type, errors by code
        self.gaps: list[Frame] = []
        self.resets: list[Frame] = []
        self.unrecovered: list[Frame] = []
        self.silent_gaps = 0  # events after a hole that no `gap` frame had told of
        self.delays: list[float] = []  # latencies, in seconds
        self.after_ms: list[int] = []  # of `reconnect` frames
        self._lossy: set[str] = set()

    def report(self, published: Mapping[str, Sequence[str]]) -> tuple[Report, Report]:
        """Return what was lost, repeated and so on: at the socket, and in the application."""
        mine = {topic: ids for topic, ids in published.items() if topic in self.topics}
        return self.raw.report(mine), self.app.report(mine)

    def on_message(self, frame: Frame) -> None:
        topic, sequence = frame["topic"], frame.get("seqNo")
        if sequence is not None:
            last = self.last.get(topic)
            if last is not None and sequence <= last:
                return
            if last is not None and frame["prevSeqNo"] > last and topic not in self._lossy:
                self.silent_gaps += 1
            self._lossy.discard(topic)
            self.last[topic] = sequence
        data = frame.get("data")
        if isinstance(data, dict) and "at" in data:
            self.delays.append(time.time() - data["at"])
        self.app.record(frame)

    def on_subscribed(self, frame: Frame) -> None:
        topic = frame["topic"]
        if self.epoch is None:
            self.epoch = frame["epoch"]
        if not frame["recovered"]:
            self.unrecovered.append(frame)
            self._lossy.add(topic)
        self.last.setdefault(topic, frame["seqNo"])
        self.held.add(topic)

    def on_resumed(self, frame: Frame) -> None:
        for topic, recovery in frame["topics"].items():
            if not recovery["recovered"]:
                self.unrecovered.append({"topic": topic, **recovery})
                self._lossy.add(topic)
            self.held.add(topic)

    def on_unsubscribed(self, frame: Frame) -> None:
        self.held.discard(frame["topic"])

    def on_gap(self, frame: Frame) -> None:
        self.gaps.append(frame)
        self.last[frame["topic"]] = max(self.last.get(frame["topic"], 0), frame["toSeq"])

    def on_reset(self, frame: Frame) -> None:
        self.resets.append(frame)
        self.epoch = frame["epoch"]
        self.last[frame["topic"]] = 0

    def on_reconnect(self, frame: Frame) -> None:
        self.after_ms.append(frame["afterMs"])

    def _take(self, frame: Frame) -> None:
        kind = frame["type"]
        self.told[frame["code"] if kind == "error" else kind] += 1
        handler = getattr(self, f"on_{kind}", None)
        if handler is not None:
            handler(frame)
