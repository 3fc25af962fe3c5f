"""The application on a fresh database, filled through its own store; a Valkey only where a test launches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from server.main import create_app
from server.settings import Settings
from server.store import Store
from tests.web.browsing import browser, page, site

__all__ = ["app", "browser", "client", "page", "site", "store"]


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FastAPI]:
    app = create_app(Settings(home=tmp_path / "home"))
    yield app
    app.state.broker.close()
    app.state.store.close()


@pytest.fixture
def store(app: FastAPI) -> Store:
    filled: Store = app.state.store
    return filled


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    """Reads pages without a network and without the application's background threads."""
    return TestClient(app, base_url="http://127.0.0.1:8300")
