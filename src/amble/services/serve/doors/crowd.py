"""How many connections each client may have."""

from __future__ import annotations

from dataclasses import dataclass, field

from amble.services.serve.requests.elsewhere import Elsewhere, Nowhere

__all__ = ["Crowd"]


@dataclass(slots=True)
class Crowd:
    """Connections by client. One client may have as many as would stay free for others (see `quota`).

    ``elsewhere``: those that other processes of this server have.
    """

    most: int
    total: int = 0
    by_client: dict[str, int] = field(default_factory=dict)
    elsewhere: Elsewhere = field(default_factory=Nowhere)

    def enter(self, client: str) -> bool:
        """Count a connection; False when there is no place for one more of this client's."""
        own = self.by_client.get(client, 0) + 1
        others, all_others = self.elsewhere.held(client)
        if own + others > max(1, self.most - self.total - all_others - 1):
            return False
        self.by_client[client] = own
        self.total += 1
        self.elsewhere.add(client, 1)
        return True

    def leave(self, client: str) -> None:
        """Count one less."""
        self.total -= 1
        self.elsewhere.add(client, -1)
        self.by_client[client] -= 1
        if not self.by_client[client]:
            del self.by_client[client]
