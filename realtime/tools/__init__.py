"""The command-line tools `consume` and `produce`, without Django: docs/tools.md."""
