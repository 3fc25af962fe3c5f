"""The seeded recipe that makes the demo model: `python -m nat_core.demo.pretrain`.

A Qwen3-shaped model (width 128, 4 layers, 0.8M parameters) learns worked solutions of which 70%
carry one wrong digit. It ends up knowing the task and slipping about every second time, which
leaves reinforcement learning something to do. Weights are stored as bfloat16.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from tokenizers.decoders import Fuse
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from nat_core.demo.task import LABELS, random_chain

MODEL_DIR = Path(__file__).parent / "model"
SPECIAL = ["<pad>", "<eos>"]
SYMBOLS = [*"0123456789", *"+-*=: ", "####", *LABELS]
SHARE_WITH_SLIP = 0.7  # slips fall anywhere in the chain, so sampled answers are right about exp(-0.7) of the time
SHORTEST, LONGEST = 1, 12


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character, `####` as one token."""
    vocabulary = {symbol: index for index, symbol in enumerate(SPECIAL + SYMBOLS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("####|."), behavior="isolated")
    tokenizer.decoder = Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", padding_side="left"
    )


def build_model(vocabulary_size: int) -> Qwen3ForCausalLM:
    """The untrained demo model."""
    config = Qwen3Config(
        vocab_size=vocabulary_size,
        hidden_size=128,
        intermediate_size=448,
        num_hidden_layers=4,
        num_attention_heads=2,  # few and ungrouped: on a CPU sampling spends its time on the cache, not on arithmetic
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    return Qwen3ForCausalLM(config)


def example(rng: random.Random) -> tuple[str, str]:
    """A prompt and a solution; most solutions carry one wrong digit and go on from it."""
    chain = random_chain(rng, SHORTEST, LONGEST)
    slips = {}
    if rng.random() < SHARE_WITH_SLIP:
        slips[rng.randrange(len(chain.operations))] = rng.randint(1, 9)
    return chain.prompt, chain.solution(slips)


def batch(tokenizer: PreTrainedTokenizerFast, rng: random.Random, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids [size, length] and labels with prompt and padding set to -100."""
    rows, starts = [], []
    for _ in range(size):
        prompt, solution = example(rng)
        prompt_ids = tokenizer.encode(prompt)
        rows.append(prompt_ids + tokenizer.encode(solution) + [tokenizer.eos_token_id])
        starts.append(len(prompt_ids))
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    labels = ids.clone()
    for i, (row, start) in enumerate(zip(rows, starts, strict=True)):
        labels[i, :start] = -100
        labels[i, len(row) :] = -100
    return ids, labels


def pretrain(steps: int, size: int, learning_rate: float, seed: int, output: Path) -> None:
    """Train from scratch and save a directory that transformers loads."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    tokenizer = build_tokenizer()
    model = build_model(len(tokenizer))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{parameters:,} parameters, {steps} steps of {size} examples")
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    started = time.monotonic()
    for step in range(1, steps + 1):
        ids, labels = batch(tokenizer, rng, size)
        logits = model(input_ids=ids).logits
        loss = cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps:
            print(f"step {step}/{steps}  loss {loss.item():.4f}  {time.monotonic() - started:.0f} s", flush=True)
    torch.nn.Module.to(model, torch.bfloat16)
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=MODEL_DIR)
    options = parser.parse_args()
    pretrain(options.steps, options.batch_size, options.learning_rate, options.seed, options.output)


if __name__ == "__main__":
    main()
