"""`manage.py consume -u ADDRESS -t TOPIC`: print what arrives, as a client or as a backend."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import Any

from django.core.management import BaseCommand, CommandError

from realtime.conf import settings
from realtime.tools.consume import consume
from realtime.tools.nats_side import Backend
from realtime.tools.options import add_consume_options, consume_job
from realtime.tools.outcome import UsageError
from realtime.tools.output import Output
from realtime.tools.running import run


class Command(BaseCommand):
    """Consume; docs/tools.md has examples and the exit codes."""

    help = "Prints what arrives on topics of a gateway (ws://…) or of NATS (nats://…)."
    requires_system_checks = ()  # it may run where no gateway does

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the options."""
        add_consume_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Consume, and exit with the code that says how it ended."""
        try:
            durable = tuple(settings.DURABLE_TOPICS)
            backend = Backend(settings.STREAM, durable, settings.NATS_INBOX_PREFIX)
            job = consume_job(options, backend)
        except UsageError as exc:
            raise CommandError(exc.message, returncode=exc.code) from exc
        output = Output(options["log"])
        work = partial(consume, job, output)
        sys.exit(run(work, form=options["log"], endless=job.count is None, prints=True))
