"""Views: in which positions and overlaps the network is shown each window."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from tesela.mapping.blending import Blend, BlendedEngine
from tesela.mapping.engines import Engine
from tesela.mapping.turns import TurnedEngine


@dataclass(frozen=True)
class Views:
    """How many answers of the network each pixel is made of; by default one."""

    turned: bool = False
    """Eight positions of each window."""
    blend: Blend | None = None
    """Overlapping windows, weighed."""

    def of(self, engine: Engine) -> Engine:
        """The engine that joins the answers of these views."""
        if self.turned:
            engine = TurnedEngine(engine)
        return engine if self.blend is None else BlendedEngine(engine, self.blend)

    def to_dict(self) -> dict[str, object]:
        """As JSON types."""
        return asdict(self)
