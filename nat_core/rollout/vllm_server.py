"""A `vllm serve` elsewhere: token ids in and out over its HTTP API, weights over its weight transfer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nat_core.errors import RolloutError
from nat_core.model import Policy
from nat_core.rollout.completion import Completion
from nat_core.rollout.vllm_engine import VllmEngine, completion
from nat_core.rollout.vllm_http import Server
from nat_core.rollout.vllm_transfer import open_transfer
from nat_core.spec import RunSpec

_TICK_S = 0.5  # how often a stop is looked for while the server samples


class ServerEngine(VllmEngine):
    """Asks a server that several GPUs, or another machine, may stand behind."""

    def __init__(
        self,
        spec: RunSpec,
        policy: Policy,
        run_dir: Path,
        between: Callable[[], None],
        tell: Callable[[str], None],
    ) -> None:
        """Connect.

        Args:
            run_dir: the run's folder, through which weights go by `disk`.

        Raises:
            RolloutError: the server does not answer, or cannot take weights.
        """
        super().__init__(spec, policy, between, tell)
        rollout = spec.rollout
        self._server = Server(str(rollout.vllm_server_base_url), rollout.vllm_server_timeout)
        self._served = self._server.get("/v1/models")["data"][0]
        self._transfer = open_transfer(spec, policy, self._server, run_dir)

    @property
    def description(self) -> str:
        """How completions are sampled, for the log."""
        sync = self._spec.rollout.vllm_weight_sync
        return f"vLLM at {self._server.url}, weights by {sync}; a resumed run samples nearly the same, not to the bit"

    def close(self) -> None:
        """Part from the server, which runs on."""
        self._transfer.close()

    def _bring_weights(self) -> None:
        self._transfer.push()

    def _sample(self, prompts: list[list[int]], asked: list[dict[str, Any]]) -> list[list[Completion]]:
        bodies = [self._body(prompt, parameters) for prompt, parameters in zip(prompts, asked, strict=True)]
        return [self._completions(answer) for answer in asyncio.run(self._ask(bodies))]

    def _body(self, prompt: list[int], asked: dict[str, Any]) -> dict[str, Any]:
        room = int(self._served.get("max_model_len") or 0) - len(prompt)
        if 0 < room < asked["max_tokens"]:
            asked = asked | {"max_tokens": room}
        return {"model": self._served["id"], "prompt": prompt, "return_token_ids": True, **asked}

    async def _ask(self, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The answers, at most `max_batch_size` completions at a time; a stop closes what is still open."""
        rollout = self._spec.rollout
        places = asyncio.Semaphore(max(1, rollout.max_batch_size // bodies[0]["n"]))
        async with self._server.opened() as http:

            async def ask(body: dict[str, Any]) -> dict[str, Any]:
                async with places:
                    return await self._server.complete(http, body)

            tasks = [asyncio.create_task(ask(body)) for body in bodies]
            try:
                waiting = set(tasks)
                while waiting:
                    self._between()
                    done, waiting = await asyncio.wait(waiting, timeout=_TICK_S, return_when=asyncio.FIRST_EXCEPTION)
                    for task in done:
                        task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        return [task.result() for task in tasks]

    def _completions(self, answer: dict[str, Any]) -> list[Completion]:
        try:
            return [
                completion(choice["token_ids"], (choice["logprobs"] or {}).get("token_logprobs"), self._policy.eos_ids)
                for choice in sorted(answer["choices"], key=lambda choice: int(choice["index"]))
            ]
        except (KeyError, TypeError) as error:
            raise RolloutError(
                f"the vLLM server {self._server.url} answered without {error}; natlab needs one that knows "
                "return_token_ids (vLLM 0.11 or newer)"
            ) from None
