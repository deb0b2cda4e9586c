"""Find the present primary: at the URL's address, by Sentinels, or the node of a cluster that has our keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

import redis
from redis.backoff import NoBackoff
from redis.exceptions import MovedError, RedisError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from dtqkit.broker.address import Address
from dtqkit.broker.refusals import UnusableServer, refusal_of

#: Timeout for one Sentinel, or one node of a cluster, in seconds.
ASK_S: Final = 1.0
#: Maximum number of redirections between nodes.
_HOPS: Final = 8

Place = tuple[str, int]


class Route:
    """The route of one client. Thread-safe."""

    def __init__(self, address: Address, key: str, *, cluster: bool = False) -> None:
        """`key`: one of the queue's keys, as named in a cluster, where all of them are on one node."""
        self.address: Final = address
        self._key = key
        #: Whether the server at the address is part of a cluster.
        self.cluster = cluster
        #: Number of connections made so far.
        self.made = 0
        self._known: Place | None = None

    @property
    def moves(self) -> bool:
        return self.cluster or self.address.sentinel is not None

    def locate(self) -> Place:
        """The address of the primary. Raises RedisError when it cannot be found."""
        return self._by_sentinels(self.address.sentinel) if self.address.sentinel else self._in_cluster()

    def check(self, hello: Sequence[Any]) -> None:
        """Look at the answer to HELLO of a new connection, and count it.

        Raises UnusableServer when it is of the wrong server: the next try may find another.
        """
        facts = dict(zip(hello[::2], hello[1::2], strict=False))
        mode = facts.get("mode", "cluster" if self.cluster else "standalone")
        if mode == "sentinel":
            raise UnusableServer(
                "unusable", "it is a Sentinel: write redis+sentinel://HOST:26379/NAME/0, with the name of its primary"
            )
        if (mode == "cluster") is not self.cluster:
            self.cluster = mode == "cluster"
            raise UnusableServer("moved", f"it is {'a cluster' if self.cluster else 'no longer a cluster'}")
        if facts.get("role") in ("replica", "slave"):
            raise UnusableServer("moved", "it is a read-only replica, and another server is the primary")
        self.made += 1

    def _by_sentinels(self, name: str) -> Place:
        options = {"socket_timeout": ASK_S, "socket_connect_timeout": ASK_S, **self._tls(), "decode_responses": True}
        options |= {"retry": Retry(NoBackoff(), 0), **self.address.sentinel_options}
        sentinel = Sentinel(list(self.address.hosts), sentinel_kwargs=options)
        asked = sentinel.sentinels
        try:
            host, port = cast(Place, sentinel.discover_master(name))  # pyright: ignore[reportUnknownMemberType]
        except MasterNotFoundError as error:
            # After the colon: the answer of each Sentinel, if one did not answer.
            why = str(error).partition(" : ")[2]
            detail = f"no Sentinel knows a primary {name!r} that is up{f' ({why[:300]})' if why else ''}"
            raise UnusableServer("away", detail) from None
        finally:
            for one in asked:
                one.close()
        return str(host), int(port)

    def _in_cluster(self) -> Place:
        """Ask any node about one of our keys: a node that does not have it names the one that does."""
        places = [self._known] if self._known else []
        places += [place for place in self.address.hosts if place not in places]
        last: Exception = UnusableServer("away", "no node of the cluster answers")
        for _ in range(_HOPS):
            if not places:
                break
            place = places.pop(0)
            try:
                moved = self._ask_node(place)
            except (RedisError, OSError) as error:
                last = error
                continue
            if moved is None:
                self._known = place
                return place
            places.insert(0, moved)
        raise UnusableServer(
            "away", f"no node of the cluster knows the node of the queue's keys: {refusal_of(last).detail}"
        ) from None

    def _ask_node(self, place: Place) -> Place | None:
        """The node that has our keys; None: this one."""
        kind: Any = redis.SSLConnection if self.address.tls else redis.Connection
        node = kind(
            host=place[0],
            port=place[1],
            **{**self.address.options, "socket_timeout": ASK_S, "socket_connect_timeout": ASK_S},
            protocol=2,
            driver_info=None,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            node.connect()
            node.send_command("TYPE", self._key)
            node.read_response()
        except MovedError as moved:
            return str(cast(Any, moved).host) or place[0], int(moved.port)
        finally:
            node.disconnect()
        return None

    def _tls(self) -> dict[str, Any]:
        if not self.address.tls:
            return {}
        return {"ssl": True} | {key: value for key, value in self.address.options.items() if key.startswith("ssl_")}
