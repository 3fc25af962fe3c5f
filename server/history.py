"""A run's samples and events as its pages browse them: an index without bodies, a search from the newest back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import text

from nat_core.events import AnyEvent, SampleEvent, parse_event
from server.attempts import COUNTS
from server.event_log import ATTEMPT_STRIDE
from server.store import Store
from web.history import AttemptEvent
from web.tokens import Place, SampleFilter, matches

_OF_RUN = f"FROM event {COUNTS} WHERE event.run_id = :run"
_AT_ONCE = 400
_MOST_SEARCHED = 20_000


def sample_places(store: Store, run_id: str) -> dict[Place, int]:
    """Where each sample of a run stands, in order, and the row that holds it; the bodies are not read."""
    query = text(
        f"SELECT event.rowid, event.step {_OF_RUN} AND type = 'sample' ORDER BY event.step, event.attempt, event.seq"
    )
    with store.db.read() as session:
        rows = session.execute(query, {"run": run_id}).all()
    counts: dict[int, int] = {}
    places: dict[Place, int] = {}
    for rowid, step in rows:
        index = counts.get(step, 0)
        counts[step] = index + 1
        places[Place(step, index)] = rowid
    return places


def read_samples(store: Store, rowids: Sequence[int]) -> list[SampleEvent]:
    """The samples of these rows, in the order asked for."""
    found = {rowid: parse_event(body) for rowid, body in _bodies(store, rowids)}
    samples = (found[rowid] for rowid in rowids if rowid in found)
    return [sample for sample in samples if isinstance(sample, SampleEvent)]


def search_samples(
    store: Store, places: dict[Place, int], wanted: SampleFilter, limit: int
) -> tuple[list[Place], bool]:
    """The newest places whose samples match, newest first, and whether all that were asked about were searched."""
    newest = [place for place in reversed(places) if wanted.step is None or place.step == wanted.step]
    if wanted.is_plain:
        return newest[:limit], len(newest) <= limit
    hits: list[Place] = []
    for start in range(0, min(len(newest), _MOST_SEARCHED), _AT_ONCE):
        part = newest[start : start + _AT_ONCE]
        bodies = dict(_bodies(store, [places[place] for place in part]))
        for place in part:
            body: dict[str, Any] = json.loads(bodies.get(places[place], "{}"))
            if body and matches(body, wanted):
                hits.append(place)
                if len(hits) == limit:
                    return hits, place == newest[-1]
    return hits, len(newest) <= _MOST_SEARCHED


def newest_events(
    store: Store, run_id: str, types: Sequence[str], limit: int, before: int | None = None
) -> list[AttemptEvent]:
    """The newest events of these types, newest first, each with its attempt; `before` is a number of the API's."""
    kinds = ", ".join(f":type{i}" for i in range(len(types)))
    names: dict[str, Any] = {"run": run_id, "limit": limit, **{f"type{i}": kind for i, kind in enumerate(types)}}
    older = ""
    if before is not None:
        older = "AND (event.attempt, event.seq) < (:attempt, :seq)"
        names |= {"attempt": before // ATTEMPT_STRIDE + 1, "seq": before % ATTEMPT_STRIDE}
    query = text(
        f"SELECT event.attempt, event.body {_OF_RUN} AND type IN ({kinds}) {older} "
        "ORDER BY event.attempt DESC, event.seq DESC LIMIT :limit"
    )
    with store.db.read() as session:
        rows = session.execute(query, names).all()
    return [AttemptEvent(attempt, _counted(attempt, parse_event(body))) for attempt, body in rows]


def _counted(attempt: int, event: AnyEvent) -> AnyEvent:
    return event.model_copy(update={"seq": (attempt - 1) * ATTEMPT_STRIDE + event.seq})


def _bodies(store: Store, rowids: Sequence[int]) -> Iterator[tuple[int, str]]:
    with store.db.read() as session:
        for start in range(0, len(rowids), _AT_ONCE):
            numbers = ", ".join(str(int(rowid)) for rowid in rowids[start : start + _AT_ONCE])
            rows = session.execute(text(f"SELECT rowid, body FROM event WHERE rowid IN ({numbers})"))
            yield from ((rowid, body) for rowid, body in rows)
