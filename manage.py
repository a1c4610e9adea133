#!/usr/bin/env python
"""Django's command-line entry point; installs the fast event loop before anything makes one."""

import os
import sys


def data_dir(argv: list[str]) -> str | None:
    """Return the value of --data-dir: the settings depend on it, so it is read before them."""
    for position, argument in enumerate(argv):
        if argument == "--data-dir" and position + 1 < len(argv):
            return argv[position + 1]
        if argument.startswith("--data-dir="):
            return argument.partition("=")[2]
    return None


def main() -> None:
    """Run a management command."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
    if (directory := data_dir(sys.argv)) is not None:
        os.environ["DATA_DIR"] = directory
    if os.environ.get("EVENT_LOOP", "uvloop") == "uvloop":
        # Daphne makes its reactor's loop when it is first imported, so this has to come first.
        import asyncio

        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        # Most of all while modules are still being loaded; commands that run see to it themselves.
        sys.exit(130)  # as a shell reports SIGINT
