"""Token budgets: which selector, how many tokens. One class a selector; `BudgetSpec` is their union."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from nat_core.errors import register_union_tags
from nat_core.spec.section import Section


class Budget(Section):
    """Base of the budgets; `biased` ones are contrasts, not estimates of the full gradient."""

    @property
    def biased(self) -> bool:
        return False

    @property
    def needs_cost(self) -> bool:
        """Whether its probabilities depend on what each position costs."""
        return False

    @property
    def needs_law_state(self) -> bool:
        """Whether its probabilities depend on where the gradient lay in earlier steps."""
        return False


Fraction = Annotated[
    float,
    Field(gt=0, le=1, description="Expected share of live completion tokens to train on: above 0, at most 1."),
]


_FLOOR = 0.2

Floor = Annotated[
    float,
    Field(
        gt=0,
        le=1,
        description="Smallest probability, as a share of `fraction`: no weight exceeds 1 / (floor x fraction).",
    ),
]


class FullBudget(Budget):
    """Train on every token."""

    selector: Literal["full"] = "full"

    @property
    def label(self) -> str:
        return "full"


class UrsBudget(Budget):
    """Uniform random sampling: each token alone, with probability `fraction`."""

    selector: Literal["urs"] = "urs"
    fraction: Fraction = 0.5
    design: Literal["bernoulli", "fixed"] = Field(
        "bernoulli",
        description="`bernoulli`: independent draws; `fixed`: a simple random sample of fixed size of each completion.",
    )

    @property
    def label(self) -> str:
        design = "" if self.design == "bernoulli" else f" · {self.design}"
        return f"urs · {_share(self.fraction)}{design}"


class RpcBudget(Budget):
    """Random prefix cut: tokens 1..K of a completion, K random."""

    selector: Literal["rpc"] = "rpc"
    fraction: Fraction = 0.5
    law: Literal["linear", "uniform", "optimal"] = Field(
        "linear",
        description="Law of the cut: `linear` keeps every weight bounded and the mean share exact; `uniform` is the "
        "plain one and needs fraction >= 0.5; `optimal` learns from earlier steps where along a completion the "
        "gradient lies.",
    )
    coupling: Literal["antithetic", "systematic", "iid"] = Field(
        "antithetic",
        description="How the cuts of a step go together, which steadies its cost: `antithetic` pairs neighbours in "
        "length, one cut early where the other is cut late (best at half); `systematic` spreads all cuts evenly "
        "(better for smaller budgets); `iid` cuts independently.",
    )
    floor: Floor = _FLOOR

    @model_validator(mode="after")
    def _floor_is_used(self) -> RpcBudget:
        if self.law != "optimal" and self.floor != _FLOOR:
            raise ValueError(
                f"budget.floor is {self.floor:g}, but rpc has one with law optimal only; remove it or change the law"
            )
        return self

    @model_validator(mode="after")
    def _uniform_reaches_half(self) -> RpcBudget:
        if self.law == "uniform" and self.fraction < 0.5:
            raise ValueError(
                f"budget.fraction is {self.fraction:g}, but rpc with law uniform keeps at least half; "
                "use 0.5 or more, or law linear"
            )
        return self

    @property
    def label(self) -> str:
        coupling = "" if self.coupling == "antithetic" else f" · {self.coupling}"
        return f"rpc · {self.law} · {_share(self.fraction)}{coupling}{_floor(self.floor)}"

    @property
    def needs_cost(self) -> bool:
        return self.law == "optimal"

    @property
    def needs_law_state(self) -> bool:
        return self.law == "optimal"


class CompletionsBudget(Budget):
    """Whole completions, each alone: dropping some of them outright."""

    selector: Literal["completions"] = "completions"
    fraction: Fraction = 0.5
    weighting: Literal["advantage", "flat"] = Field(
        "advantage",
        description="`advantage`: probability in proportion to the completion's weight in the loss; `flat`: the same "
        "for all.",
    )
    floor: Floor = _FLOOR

    @property
    def label(self) -> str:
        weighting = "" if self.weighting == "advantage" else f" · {self.weighting}"
        return f"completions · {_share(self.fraction)}{weighting}{_floor(self.floor)}"

    @property
    def needs_cost(self) -> bool:
        return self.weighting == "advantage"


class ImportanceBudget(Budget):
    """Each token alone, more likely where the rollout was unsure and the advantage is large."""

    selector: Literal["importance"] = "importance"
    fraction: Fraction = 0.5
    floor: Floor = _FLOOR

    @property
    def label(self) -> str:
        return f"importance · {_share(self.fraction)}{_floor(self.floor)}"


class TopSurprisalBudget(Budget):
    """The tokens with the lowest rollout probability, unweighted: biased, kin of TRL's `top_entropy_quantile`."""

    selector: Literal["top_surprisal"] = "top_surprisal"
    fraction: Fraction = 0.5

    @property
    def label(self) -> str:
        return f"top surprisal · {_share(self.fraction)}"

    @property
    def biased(self) -> bool:
        return True


class TruncateBudget(Budget):
    """The first part of every completion, always: biased, here as a contrast."""

    selector: Literal["truncate"] = "truncate"
    fraction: Fraction = 0.5

    @property
    def label(self) -> str:
        return f"truncate · {_share(self.fraction)}"

    @property
    def biased(self) -> bool:
        return True


BudgetSpec = Annotated[
    FullBudget | UrsBudget | RpcBudget | CompletionsBudget | ImportanceBudget | TruncateBudget | TopSurprisalBudget,
    Field(discriminator="selector"),
]

_SHARES = {0.5: "½", 0.25: "¼", 0.75: "¾", 0.125: "⅛", 0.375: "⅜", 0.625: "⅝", 0.875: "⅞"}


def _floor(floor: float) -> str:
    return "" if floor == _FLOOR else f" · floor {floor:g}"


def _share(fraction: float) -> str:
    return _SHARES.get(fraction, f"{fraction:g}")


register_union_tags(("full", "urs", "rpc", "completions", "importance", "truncate", "top_surprisal"))
