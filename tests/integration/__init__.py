"""The gateway as processes, held to its contract."""
