"""Proxies are for what lies outside this computer."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_proxies() -> Iterator[None]:
    """While gradio is imported, which makes its HTTP client then, and asks its own server whether it is there: a proxy knows
    no server of this computer, and of some kinds the client takes none. Downloads go by the proxies as before."""
    taken = {name: os.environ.pop(name) for name in list(os.environ) if name.lower().endswith("_proxy")}
    try:
        yield
    finally:
        os.environ.update(taken)
