"""How the work of a step is divided: its rows over the ranks by what they cost, a rank's rows into micro-batches."""

from __future__ import annotations

from nat_core.batch import CompletionBatch
from nat_core.dealing import Cost, Shares, deal
from nat_core.microbatch import MicroBatch, plan_microbatches
from nat_core.model import Policy
from nat_core.spec import ResourcesSpec
from nat_core.token_selection import TokenSelection


def share_out(policy: Policy, rows: CompletionBatch, selection: TokenSelection) -> Shares | None:
    """Which rank gets which rows, by what they cost as far as they are kept; None where there is one rank."""
    if policy.ranks.alone:
        return None
    cost, packed = policy.token_cost, policy.layout == "packed"
    kept, selected = selection.kept_length.tolist(), selection.keep.sum(dim=1).tolist()
    costs = []
    for row, prompt in enumerate(rows.prompts):
        if kept[row] > 0:
            length = len(prompt) + kept[row] - 1
            shared = float(cost.linear(len(prompt))) if packed else 0.0
            own = float(cost.trunk(length) + cost.head(selected[row])) - shared
            costs.append(Cost(row, prompt.numpy().tobytes(), own, shared))
    return deal(costs, policy.ranks.size)


def plan_passes(
    policy: Policy,
    rows: CompletionBatch,
    selection: TokenSelection,
    resources: ResourcesSpec,
    shares: Shares | None = None,
) -> list[MicroBatch]:
    """This rank's micro-batches.

    Args:
        shares: the rows of each rank, where there are several.
    """
    return plan_microbatches(
        rows.prompts,
        rows.completions,
        selection,
        resources,
        policy.layout,
        None if shares is None else shares.rows,
        policy.ranks.rank,
        policy.token_cost,
    )
