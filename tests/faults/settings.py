"""The project's settings, with single values of `REALTIME` changed for a fault.

A fault that takes a minute at the defaults (a heartbeat lost, an event never acknowledged)
takes seconds here; the table says which settings a row ran with.
"""

import json
import os

from gateway_project.settings import *  # noqa: F403
from gateway_project.settings import REALTIME as _REALTIME

REALTIME = {**_REALTIME, **json.loads(os.environ.get("FAULTS_REALTIME", "{}"))}
ROOT_URLCONF = "tests.faults.urls"
