"""The gateway: NATS topics to browsers' WebSockets, as a Django app."""
