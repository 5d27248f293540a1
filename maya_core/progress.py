"""How far something is, as whoever does it says it."""

from collections.abc import Callable

OnProgress = Callable[[float], None]  # is told the share that is done; what it raises ends what is being done


def untold(share: float) -> None:
    """For nobody who asks."""
