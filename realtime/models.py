"""The outbox table."""

from __future__ import annotations

import uuid

from django.db import models


def new_message_id() -> str:
    """Return a `messageId` that nobody else uses."""
    return str(uuid.uuid4())


class Gateway(models.Model):  # type: ignore[misc]
    """No table: what users may do with the gateway, as permissions of Django's."""

    class Meta:
        managed = False
        default_permissions = ()
        verbose_name_plural = "live gateway"
        permissions = (
            ("publish_event", "Can publish on every topic and to every user"),
            ("disconnect_user", "Can end a user's sockets and subscriptions"),
            ("view_stats", "Can see sessions, topics and the stream"),
        )


class OutboxMessage(models.Model):  # type: ignore[misc]
    """An event that a committed transaction wants published; gone once the stream has it.

    Its `message_id` becomes the `Nats-Msg-Id`, which makes publishing it again harmless.
    """

    message_id = models.CharField(max_length=128, default=new_message_id, editable=False)
    topic = models.CharField(max_length=200, editable=False)
    payload = models.BinaryField()
    traceparent = models.CharField(max_length=55, default="", db_default="", editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "outbox message"
        ordering = ("pk",)

    def __str__(self) -> str:
        return f"{self.topic} ({self.message_id})"
