"""InstantID's `IdentityNet`: a ControlNet that reads the identity's tokens instead of the prompt's."""

from __future__ import annotations

import copy
from typing import Any

from diffusers import ControlNetModel
from torch import Tensor


class IdentityNet(ControlNetModel):
    """A ControlNet whose text tokens are replaced by the identity's.

    `identity` is the adapter's input, (B, 1, 1, 512), with guidance's negatives first; `projection` is a copy of the
    adapter's, so that the two can be moved between devices independently.
    """

    identity: Tensor | None = None

    def read_identity(self, projection: Any) -> None:
        """Copy the adapter's projection."""
        self.projection = copy.deepcopy(projection).requires_grad_(False)

    def forward(self, sample: Tensor, timestep: Any, encoder_hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self.identity is None:
            raise ValueError("IdentityNet needs an identity: set `identity` first")
        tokens = self.projection(self.identity[:, 0].to(sample))
        return super().forward(sample, timestep, tokens, *args, **kwargs)
