"""How fast a device does the parts of an update step, for one model: what turns counted work into seconds."""

from __future__ import annotations

from dataclasses import dataclass

from nat_core.cost.flops import TokenCost


@dataclass(frozen=True)
class Rates:
    """Seconds of forward and backward passes, as `python -m nat_core.measure` finds them.

    Attributes:
        microbatch: of a micro-batch, however small: launching kernels, adding to every weight's gradient.
        token: of a token in all layers, attention apart.
        attention_flop: of one floating-point operation of attention.
        selected: of a selected token in the head, its recomputation included.
    """

    microbatch: float
    token: float
    attention_flop: float
    selected: float

    @classmethod
    def at(cls, flops_per_s: float, cost: TokenCost) -> Rates:
        """Of a device of which only the speed over whole runs is known: every operation takes as long."""
        return cls(0.0, cost.linear(1) / flops_per_s, 1 / flops_per_s, cost.head(1) / flops_per_s)

    def seconds(self, num_microbatches: float, tokens: float, attention_flops: float, selected: float) -> float:
        """Of the passes of one update step."""
        return (
            num_microbatches * self.microbatch
            + tokens * self.token
            + attention_flops * self.attention_flop
            + selected * self.selected
        )
