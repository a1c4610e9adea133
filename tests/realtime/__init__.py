"""Floors 0 to 2, against real servers where they talk to one."""
