"""The application on a fresh database, filled through its own store; a Valkey only where a test launches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal
from fastapi import FastAPI
from fastapi.testclient import TestClient

from server.settings import Settings
from server.store import Store
from tests.server.conftest import portal
from tests.server.support import opened
from tests.web.browsing import browser, page, site

__all__ = ["app", "browser", "client", "page", "portal", "site", "store"]


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FastAPI]:
    with opened(Settings(home=tmp_path / "home")) as app:
        yield app


@pytest.fixture
def store(app: FastAPI) -> Store:
    filled: Store = app.state.store
    return filled


@pytest.fixture
def client(app: FastAPI, portal: BlockingPortal) -> TestClient:
    """Reads pages without a network and without the application's background threads."""
    client = TestClient(app, base_url="http://127.0.0.1:8300")
    client.portal = portal
    return client
