"""Both stores, and workers for the demo's tasks, for as long as the process lives whose id is given.

The stores' addresses are written to the file given, for a shell. The dashboard shows this queue: its form has the
demo's tasks, and there is somebody to run them. (A notebook's `TaskQueue.local()` is a queue of its own.)
"""

import os
import shlex
import sys
import time
from pathlib import Path

from dtqkit import TaskQueue

target, parent = Path(sys.argv[1]), int(sys.argv[2])
with TaskQueue.local(workers=0) as queue:
    queue.start_workers(3, app="dtqkit.demo:queue")
    new = target.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(
        f"export REDIS_URL={shlex.quote(queue.settings.redis_url)}\n"
        f"export ATLAS_URI={shlex.quote(queue.settings.atlas_uri)}\n"
    )
    new.replace(target)
    while os.getppid() == parent:
        time.sleep(1)
