"""The dashboard behind jupyter-server-proxy: a card in JupyterLab's launcher, for Binder, a hub, or a laptop.

The server that it starts is for this user alone, on a loopback port, behind Jupyter's own login. Each start makes a
secret; only the proxy sends it, as a header, so that the page needs no token and no other local process gets in.
"""

from __future__ import annotations
