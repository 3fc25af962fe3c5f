"""What completions are worth. Cheap verifiers run here; others in processes of their own, with a time limit each.

No torch here, nor in those processes. A verifier that raises stops the run and names the sample.
"""

from nat_core.reward.sample import Sample, Score
from nat_core.reward.scorer import Scorer

__all__ = ["Sample", "Score", "Scorer"]
