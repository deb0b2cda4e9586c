"""Hold both stores for as long as whoever started this lives; write their addresses to the file given, for a shell."""

import os
import shlex
import sys
import time
from pathlib import Path

from dtqkit.local import start_local_stores

target = Path(sys.argv[1])
parent = os.getppid()
with start_local_stores() as stores:
    new = target.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(
        f"export REDIS_URL={shlex.quote(stores.redis_url)}\nexport ATLAS_URI={shlex.quote(stores.atlas_uri)}\n"
    )
    new.replace(target)
    while os.getppid() == parent:
        time.sleep(1)
