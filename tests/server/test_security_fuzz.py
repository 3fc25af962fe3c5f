"""The whole OpenAPI document against a real server: whatever is sent, no 5xx, and every answer as documented."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from server.main import create_app
from server.settings import Settings
from tests.server.support import served, valkey
from tests.web.building import finished_experiment, small_spec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TOKEN = "an-operators-own-token"
CASES = 2000


def test_no_request_that_the_document_allows_or_forbids_breaks_the_server(tmp_path: Path) -> None:
    with valkey() as redis_url:
        settings = Settings(
            home=tmp_path / "home", redis_url=redis_url, token=TOKEN, changes_per_s=1e5, max_queued=1_000_000
        )
        app = create_app(settings)
        finished_experiment(app.state.store, small_spec(steps=4), evaluate_every=2)
        with served(app) as url:
            app.state.hub.close()  # so that the stream, which has no end, ends
            options = ["--max-examples", "20", "--seed", "1", "--checks", "all", "--no-color"]
            argv = [sys.executable, "-m", "schemathesis.cli"]
            argv += ["--config-file", str(Path(__file__).with_name("schemathesis.toml")), "run"]
            argv += [f"{url}/api/v1/openapi.json", "--header", f"Authorization: Bearer {TOKEN}", *options]
            ended = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=580)
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
    (generated,) = re.findall(r"(\d+) generated", ended.stdout)
    assert int(generated) >= CASES
