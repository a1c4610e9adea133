"""Floor 0: the pure protocol, without settings, database or server."""
