"""A private redis-server and mongod for a notebook, a demo or a test: started, watched and always stopped.

    with start_local_stores() as stores:
        Settings(redis_url=stores.redis_url, atlas_uri=stores.atlas_uri, ...)

The way of a start: `programs` finds the programs; `servers` knows how each is run and when it is ready; `stores` puts
them together; `watcher` talks to the small process, `watch`, that is the servers' parent and ends them when
this process is gone, however it went.
"""

from dtqkit.local.stores import LocalStores, start_local_stores

__all__ = ["LocalStores", "start_local_stores"]
