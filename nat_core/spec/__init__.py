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
from nat_core.spec.data import (
    CsvData,
    DataSpec,
    DemoArithmetic,
    FileData,
    Gsm8kData,
    HubData,
    JsonlData,
    Math500Data,
    ParquetData,
    PresetData,
    ReasoningGymData,
)
from nat_core.spec.model import (
    LoraSpec,
    ModelSpec,
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
from nat_core.spec.repeated import first_repeated
from nat_core.spec.reward import (
    CustomReward,
    ExactMatch,
    FormatReward,
    LengthReward,
    MathVerify,
    ReasoningGymReward,
    RewardPart,
    RewardSpec,
    SingleReward,
    WeightedSum,
)
from nat_core.spec.run import (
    ExperimentSpec,
    RunSpec,
    demo_experiment,
)
from nat_core.spec.section import (
    Closed,
    Section,
)
from nat_core.spec.sections import (
    CheckpointSpec,
    EvaluationSpec,
    OptimSpec,
    QuestionSetSpec,
    ResourcesSpec,
    RolloutSpec,
)

__all__ = [
    "Budget",
    "BudgetSpec",
    "CheckpointSpec",
    "Closed",
    "CompletionsBudget",
    "CsvData",
    "CustomReward",
    "DataSpec",
    "DemoArithmetic",
    "EvaluationSpec",
    "ExactMatch",
    "ExperimentSpec",
    "FileData",
    "FormatReward",
    "FullBudget",
    "Gsm8kData",
    "HubData",
    "ImportanceBudget",
    "JsonlData",
    "LengthReward",
    "LoraSpec",
    "Math500Data",
    "MathVerify",
    "ModelSpec",
    "ObjectiveSpec",
    "OptimSpec",
    "ParquetData",
    "PresetData",
    "QuestionSetSpec",
    "ReasoningGymData",
    "ReasoningGymReward",
    "ResourcesSpec",
    "RewardPart",
    "RewardSpec",
    "RolloutSpec",
    "RpcBudget",
    "RunSpec",
    "Section",
    "SingleReward",
    "TopSurprisalBudget",
    "TruncateBudget",
    "UrsBudget",
    "WeightedSum",
    "demo_experiment",
    "first_repeated",
    "load_document",
    "parse_experiment_spec",
    "parse_run_spec",
    "set_field",
]
