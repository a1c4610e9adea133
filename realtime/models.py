"""The outbox table."""

from __future__ import annotations

import uuid

from django.db import models


def new_message_id() -> str:
    """Return a `messageId` that nobody else uses."""
    return str(uuid.uuid4())


class OutboxMessage(models.Model):  # type: ignore[misc]
    """An event that a committed transaction wants published; gone once the stream has it.

    Its `message_id` becomes the `Nats-Msg-Id`, which makes publishing it again harmless.
    """

    message_id = models.CharField(max_length=128, default=new_message_id, editable=False)
    topic = models.CharField(max_length=200, editable=False)
    payload = models.BinaryField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "outbox message"
        ordering = ("pk",)

    def __str__(self) -> str:
        return f"{self.topic} ({self.message_id})"
