"""A private redis-server and mongod for a notebook, a demo or a test: started, watched and always stopped.

    with start_local_stores() as stores:
        Settings(redis_url=stores.redis_url, atlas_uri=stores.atlas_uri, ...)

`programs` finds the programs; `servers` knows how to run each and when it is ready; `stores` starts and stops them;
`watcher` communicates with a small process, `watch`, which is the parent of the servers and stops them when this
process has ended, for whatever reason.
"""

from dtqkit.local.stores import LocalStores, start_local_stores

__all__ = ["LocalStores", "start_local_stores"]
