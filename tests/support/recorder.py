"""What was published against what arrived: lost, duplicated, misordered, leaked."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Receipt:
    """One `message` frame as it arrived.

    Attributes:
        sequence: its `seqNo`, None on an ephemeral topic.
        hole: its `prevSeqNo` is past the last sequence that was held of its topic.
        at: when, in seconds of `time.monotonic`.
    """

    message_id: str
    sequence: int | None
    hole: bool
    redelivered: bool
    at: float


@dataclass(frozen=True)
class Report:
    """How what arrived differs from what was published; each entry is (topic, messageId).

    Attributes:
        lost: published, never arrived.
        duplicated: arrived again without being marked as redelivered.
        misordered: arrived first after one of a higher sequence (without sequences: after one
            that was published later).
        holes: arrived though the event before it on its topic had not.
        leaked: arrived though it was not published for this client.
        received: how many different ones arrived.
    """

    lost: list[tuple[str, str]] = field(default_factory=list)
    duplicated: list[tuple[str, str]] = field(default_factory=list)
    misordered: list[tuple[str, str]] = field(default_factory=list)
    holes: list[tuple[str, str]] = field(default_factory=list)
    leaked: list[tuple[str, str]] = field(default_factory=list)
    received: int = 0

    @property
    def clean(self) -> bool:
        """Say whether everything arrived once, in order, and nothing else did."""
        return not (self.lost or self.duplicated or self.misordered or self.holes or self.leaked)

    def __str__(self) -> str:
        faults = ("lost", "duplicated", "misordered", "holes", "leaked")
        counts = (f"{name}={len(getattr(self, name))}" for name in faults)
        return f"received={self.received} {' '.join(counts)}"


class Run:
    """The messages that one test publishes, each with its run, topic, number and id."""

    def __init__(self) -> None:
        self.id = uuid.uuid4().hex[:8]
        self.published: dict[str, list[str]] = {}

    def message(self, topic: str) -> tuple[str, dict[str, Any]]:
        """Return the messageId and payload of the next message on `topic`; counts as published."""
        ids = self.published.setdefault(topic, [])
        number = len(ids) + 1
        message_id = f"{self.id}-{topic}-{number}"
        ids.append(message_id)
        return message_id, {
            "run": self.id,
            "topic": topic,
            "sequence": number,
            "messageId": message_id,
        }


class Recorder:
    """Every `message` frame that a client got; it may outlive the client's connections."""

    def __init__(self) -> None:
        self.receipts: dict[str, list[Receipt]] = {}
        self._last: dict[str, int] = {}

    def record(self, frame: Mapping[str, Any]) -> None:
        """Take in one gateway frame; only `message`, `gap` and `reset` matter."""
        topic = frame.get("topic", "")
        match frame.get("type"):
            case "message":
                sequence = frame.get("seqNo")
                self.receipts.setdefault(topic, []).append(
                    Receipt(
                        frame["messageId"],
                        sequence,
                        topic in self._last and frame.get("prevSeqNo", 0) > self._last[topic],
                        frame.get("redelivered", False),
                        time.monotonic(),
                    )
                )
                if sequence is not None:
                    self._last[topic] = max(sequence, self._last.get(topic, 0))
            case "gap":
                self._last[topic] = max(frame["toSeq"], self._last.get(topic, 0))
            case "reset":
                self._last[topic] = 0

    def last(self, topic: str) -> int:
        """Return the last sequence held of `topic`, 0 when none: what `since` takes."""
        return self._last.get(topic, 0)

    def count(self, topic: str | None = None) -> int:
        """Return how many different messages arrived, on one topic or on all."""
        topics = self.receipts if topic is None else [topic]
        return sum(len(set(self.ids(name))) for name in topics)

    def ids(self, topic: str) -> list[str]:
        """Return the messageIds of `topic` as they arrived."""
        return [receipt.message_id for receipt in self.receipts.get(topic, ())]

    def has_all(self, published: Mapping[str, Sequence[str]]) -> bool:
        """Say whether everything published has arrived."""
        return all(set(ids) <= set(self.ids(topic)) for topic, ids in published.items())

    def first_after(self, moment: float) -> float | None:
        """Return how many seconds after `moment` (time.monotonic) the next message arrived."""
        later = [one.at for many in self.receipts.values() for one in many if one.at > moment]
        return min(later) - moment if later else None

    def longest_silence(self) -> float:
        """Return the longest time between two messages, in seconds."""
        times = sorted(one.at for many in self.receipts.values() for one in many)
        return max((b - a for a, b in itertools.pairwise(times)), default=0.0)

    def report(self, published: Mapping[str, Sequence[str]]) -> Report:
        """Return how what arrived differs from what was published for this client.

        Args:
            published: the messageIds on each topic that the client may see, as published.
        """
        report = Report(received=self.count())
        for topic, ids in published.items():
            arrived = set(self.ids(topic))
            report.lost.extend((topic, one) for one in ids if one not in arrived)
        for topic, receipts in self.receipts.items():
            _compare(topic, receipts, published.get(topic, ()), report)
        return report


def _compare(
    topic: str, receipts: Sequence[Receipt], published: Sequence[str], report: Report
) -> None:
    position = {message_id: number for number, message_id in enumerate(published)}
    seen: set[str] = set()
    highest = -1
    for receipt in receipts:
        entry = (topic, receipt.message_id)
        if receipt.message_id in seen:
            if not receipt.redelivered:
                report.duplicated.append(entry)
            continue
        seen.add(receipt.message_id)
        if receipt.message_id not in position:
            report.leaked.append(entry)
            continue
        place = position[receipt.message_id] if receipt.sequence is None else receipt.sequence
        if place < highest:
            report.misordered.append(entry)
        highest = max(highest, place)
        if receipt.hole:
            report.holes.append(entry)
