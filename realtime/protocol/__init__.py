"""The protocol, pure: frames, messages, subjects, rules, chain, session.

Nothing here does I/O, reads a clock or imports asyncio, Django or nats, so all of it is
tested without a server and can be read without one.
"""
