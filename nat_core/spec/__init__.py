"""What a run is, and what an experiment is: the one spec that every way into natlab shares.

`RunSpec` is the stored JSON, the worker's input and the file of `natlab train FILE`.
`ExperimentSpec` is the body of `POST /api/v1/experiments`: a base run, budgets to compare and seeds.
Unknown keys are refused everywhere. No torch here.
"""

from nat_core.spec.budget import (
    Budget,
    BudgetSpec,
    CompletionsBudget,
    FullBudget,
    ImportanceBudget,
    RpcBudget,
    TopSurprisalBudget,
    TruncateBudget,
    UrsBudget,
)
from nat_core.spec.objective import (
    ObjectiveSpec,
)
from nat_core.spec.reading import (
    load_document,
    parse_experiment_spec,
    parse_run_spec,
    set_field,
)
from nat_core.spec.run import (
    ExperimentSpec,
    RunSpec,
    demo_experiment,
)
from nat_core.spec.section import (
    Section,
)
from nat_core.spec.sections import (
    CheckpointSpec,
    DataSpec,
    DemoArithmetic,
    EvaluationSpec,
    ExactMatch,
    JsonlData,
    ModelSpec,
    OptimSpec,
    ResourcesSpec,
    RewardSpec,
    RolloutSpec,
)

__all__ = [
    "Budget",
    "BudgetSpec",
    "CheckpointSpec",
    "CompletionsBudget",
    "DataSpec",
    "DemoArithmetic",
    "EvaluationSpec",
    "ExactMatch",
    "ExperimentSpec",
    "FullBudget",
    "ImportanceBudget",
    "JsonlData",
    "ModelSpec",
    "ObjectiveSpec",
    "OptimSpec",
    "ResourcesSpec",
    "RewardSpec",
    "RolloutSpec",
    "RpcBudget",
    "RunSpec",
    "Section",
    "TopSurprisalBudget",
    "TruncateBudget",
    "UrsBudget",
    "demo_experiment",
    "load_document",
    "parse_experiment_spec",
    "parse_run_spec",
    "set_field",
]
