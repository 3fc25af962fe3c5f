"""Launching once: an `Idempotency-Key` names a launch, and the same launch again answers with what it made.

The key is kept with its experiment, in the transaction that stores it: whatever breaks in between, either both are
there or neither is. It goes when the experiment is deleted.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sqlmodel import Session, select

from nat_core.spec import ExperimentSpec
from server.errors import KeyReusedError
from server.tables import ExperimentRow


class AlreadyLaunched(Exception):
    """The key's launch is done: `experiment_id` is what it made."""

    def __init__(self, experiment_id: str) -> None:
        super().__init__(experiment_id)
        self.experiment_id = experiment_id


@dataclass(frozen=True)
class LaunchKey:
    """A caller's key, and a digest of what was asked for under it."""

    key: str
    digest: str

    @classmethod
    def of(cls, key: str, spec: ExperimentSpec, priority: int) -> LaunchKey:
        """Two bodies that mean the same experiment have the same digest, however they are written."""
        asked = f"{priority} {spec.model_dump_json()}"
        return cls(key, hashlib.blake2b(asked.encode(), digest_size=16).hexdigest())


def demand_new(session: Session, launch: LaunchKey | None) -> None:
    """Pass a launch without a key, or with one that is new.

    Raises:
        AlreadyLaunched: the same was launched with this key.
        KeyReusedError: something else was.
    """
    if launch is None:
        return
    row = session.exec(select(ExperimentRow).where(ExperimentRow.launch_key == launch.key)).first()
    if row is None:
        return
    if row.launch_digest != launch.digest:
        raise KeyReusedError(
            f"Idempotency-Key {launch.key[:80]!r} launched {row.id}, which is another experiment than this body; "
            "use a fresh key for each launch"
        )
    raise AlreadyLaunched(row.id)
