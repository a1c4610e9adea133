"""Ports for servers that a test starts."""

from realtime.embedded import free_port

__all__ = ["free_port"]
