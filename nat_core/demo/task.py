"""Chained one-digit arithmetic mod 10, one labelled operation after the other.

    prompt      7a+5b-8c*3:
    completion  a7+5=2 b2-8=4 c4*3=2 ####2

Every operation can be undone (times 3, 7 or 9 only), so a wrong digit anywhere in the chain makes
the final answer wrong, whichever operations follow. No torch here: the server's preflight and the
trainer read the same task.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

LABELS = "abcdefghijklmnopqrstuvwxyzABCDEF"
OPERANDS = {"+": "0123456789", "-": "0123456789", "*": "379"}


@dataclass(frozen=True)
class Chain:
    """A start digit and operations `(operator, operand)`."""

    start: int
    operations: tuple[tuple[str, int], ...]

    @property
    def prompt(self) -> str:
        steps = "".join(f"{LABELS[i]}{operator}{operand}" for i, (operator, operand) in enumerate(self.operations))
        return f"{self.start}{steps}:"

    def solution(self, slips: dict[int, int] | None = None) -> str:
        """The worked solution; `slips` maps an operation's index to an amount added to its result."""
        digit, steps = self.start, []
        for i, (operator, operand) in enumerate(self.operations):
            result = (apply(operator, digit, operand) + (slips or {}).get(i, 0)) % 10
            steps.append(f"{LABELS[i]}{digit}{operator}{operand}={result}")
            digit = result
        return " ".join(steps) + f" ####{digit}"

    @property
    def answer(self) -> str:
        digit = self.start
        for operator, operand in self.operations:
            digit = apply(operator, digit, operand)
        return str(digit)


def apply(operator: str, digit: int, operand: int) -> int:
    """`digit operator operand` mod 10."""
    if operator == "+":
        return (digit + operand) % 10
    if operator == "-":
        return (digit - operand) % 10
    return (digit * operand) % 10


def random_chain(rng: random.Random, min_operations: int, max_operations: int) -> Chain:
    """A chain with uniformly drawn length, operators and operands."""
    operations = []
    for _ in range(rng.randint(min_operations, max_operations)):
        operator = rng.choice("+-*")
        operations.append((operator, int(rng.choice(OPERANDS[operator]))))
    return Chain(rng.randrange(10), tuple(operations))
