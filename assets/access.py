"""Access classes: who may see what, and where derived things may go.

Every dataset, weight file and prompt set declares a class; everything made from it inherits the strictest one.
What is not open leaves this machine only to destinations that the settings allow for its class.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from models.errors import EinthovenError


class AccessError(EinthovenError):
    """Something restricted was about to leave the machine."""


class Access(StrEnum):
    """Who may see a thing, from everyone to the owner alone."""

    OPEN = "open"
    CREDENTIALED = "credentialed"
    PRIVATE = "private"

    @property
    def strictness(self) -> int:
        """0 for open, rising with restriction."""
        return list(Access).index(self)


def strictest(classes: Iterable[Access | str]) -> Access:
    """The class of something made from things of these classes; open if there are none."""
    return max((Access(c) for c in classes), key=lambda c: c.strictness, default=Access.OPEN)


def allows(limit: Access | str, access: Access | str) -> bool:
    """Whether a destination configured for classes up to `limit` may receive something of class `access`."""
    return Access(access).strictness <= Access(limit).strictness


def require_destination(name: str, limit: Access | str, access: Access | str, what: str) -> None:
    """Refuse to send `what` to the destination `name` where its class is stricter than the destination's limit.

    Raises:
        AccessError: names the thing, its class, the destination and the setting that would allow it.
    """
    if not allows(limit, access):
        raise AccessError(
            f"{what} is {Access(access)} and may not be sent to {name}, which is configured for {Access(limit)} data; "
            f"if that destination may hold it, set `destinations.{name}: {Access(access)}` in settings.yaml"
        )
