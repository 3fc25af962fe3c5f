"""The server as a process of its own: what stops it from starting, and how it ends."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from server.__main__ import own_home
from server.errors import SettingsError
from server.settings import Settings, without_password
from tests.server.support import free_port, wait_until

pytestmark = pytest.mark.slow  # real processes, started and ended


def environment(home: Path, **variables: str) -> dict[str, str]:
    return {**os.environ, "NATLAB_HOME": str(home), **variables}


def start(env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "server"], env=env, capture_output=True, text=True, timeout=30)


def assert_one_sentence(ended: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("natlab server: ") and ended.stderr.count("\n") == 1
    for part in parts:
        assert part in ended.stderr


def test_import_loads_neither_torch_nor_transformers_and_opens_nothing(tmp_path: Path) -> None:
    program = "import sys, server.main\nprint([name for name in ('torch', 'transformers') if name in sys.modules])\n"
    env = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, "-c", program], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_runs_leave_is_the_owner_s_alone_in_a_home_that_is_open_to_all(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    own_home(Settings(home=tmp_path))
    assert stat.S_IMODE((tmp_path / "runs").stat().st_mode) == 0o700


def test_taken_port_is_one_sentence(tmp_path: Path, redis_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = start(environment(tmp_path, NATLAB_REDIS_URL=redis_url, NATLAB_PORT=port))
    assert_one_sentence(ended, f"NATLAB_PORT is {port}", "another port")


def test_what_is_no_name_of_a_host_is_one_sentence(tmp_path: Path, redis_url: str) -> None:
    ended = start(environment(tmp_path, NATLAB_REDIS_URL=redis_url, NATLAB_PORT="0", NATLAB_HOST="gpu..box"))
    assert_one_sentence(ended, "on gpu..box", "correct NATLAB_HOST")


def test_a_damaged_database_is_one_sentence(tmp_path: Path, redis_url: str) -> None:
    (tmp_path / "natlab.db").write_text("what a careless copy left behind")
    ended = start(environment(tmp_path, NATLAB_REDIS_URL=redis_url, NATLAB_PORT="0"))
    assert_one_sentence(ended, f"the database {tmp_path}/natlab.db cannot be opened", "file is not a database")


def test_unreachable_redis_is_one_sentence_without_the_password(tmp_path: Path) -> None:
    url = f"redis://:hunter2@127.0.0.1:{free_port()}/0"
    ended = start(environment(tmp_path, NATLAB_REDIS_URL=url, NATLAB_PORT="0"))
    assert_one_sentence(ended, "NATLAB_REDIS_URL is 'redis://:***@127.0.0.1", "start it or correct the address")
    assert "hunter2" not in ended.stderr
    assert not (tmp_path / "natlab.db").exists()


def test_listening_beyond_loopback_without_a_token_is_refused(tmp_path: Path, redis_url: str) -> None:
    ended = start(environment(tmp_path, NATLAB_REDIS_URL=redis_url, NATLAB_HOST="0.0.0.0", NATLAB_AUTH="none"))
    assert_one_sentence(ended, "NATLAB_HOST is '0.0.0.0'", "unset NATLAB_AUTH")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_serves_alone_on_its_home_and_ends_well_with_a_stream_open(
    tmp_path: Path, redis_url: str, stop: signal.Signals
) -> None:
    env = environment(tmp_path, NATLAB_REDIS_URL=redis_url, NATLAB_PORT="0")
    argv = [sys.executable, "-m", "server"]
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        url = process.stdout.readline().split()[-1]
        token = (tmp_path / "token").read_text().strip()
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}) as http:
            wait_until(lambda: http.get("/readyz").is_success)
            if stop == signal.SIGTERM:
                assert_one_sentence(start(env), f"NATLAB_HOME is '{tmp_path}'", "another natlab server")
            with http.stream("GET", "/api/v1/stream") as stream:
                assert stream.status_code == 200
                process.send_signal(stop)
                assert process.wait(60) == 0
        log = process.stderr.read()
        assert "Traceback" not in log and token not in log
        assert "graceful" not in log  # what uvicorn says where it had to cut a stream off


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "NATLAB_REDIS_URL is ''"),
        ({"NATLAB_REDIS_URL": "http://x"}, "NATLAB_REDIS_URL is 'http://x'"),
        ({"NATLAB_REDIS_URL": "redis://:hunter2@host:port/0"}, "NATLAB_REDIS_URL is 'redis://:***@host:port/0'"),
        ({"NATLAB_REDIS_URL": "redis://:hunter2#x@host/0"}, "NATLAB_REDIS_URL is 'redis://:***@host/0'"),
        ({"NATLAB_REDIS_URL": "redis://[::1/0"}, "NATLAB_REDIS_URL is 'redis://[::1/0'"),
        ({"NATLAB_HOME": "~nobody-at-all/x"}, "NATLAB_HOME is '~nobody-at-all/x'"),
        ({"NATLAB_ALLOWED_ROOTS": "/srv:~nobody-at-all"}, "NATLAB_ALLOWED_ROOTS is '~nobody-at-all'"),
        ({"NATLAB_TOKEN_FILE": "~nobody-at-all/token"}, "NATLAB_TOKEN_FILE is '~nobody-at-all/token'"),
        ({"NATLAB_PORT": "eighty"}, "NATLAB_PORT is 'eighty'"),
        ({"NATLAB_PORT": "70000"}, "NATLAB_PORT is '70000'"),
        ({"NATLAB_LEASE_S": "-1"}, "NATLAB_LEASE_S is '-1'"),
        ({"NATLAB_LEASE_S": "nan"}, "NATLAB_LEASE_S is 'nan'"),
        ({"NATLAB_HOST": "192.168.1.5", "NATLAB_AUTH": "none"}, "NATLAB_HOST is '192.168.1.5'"),
        ({"NATLAB_AUTH": "off"}, "NATLAB_AUTH is 'off'"),
        ({"NATLAB_TOKEN": "short"}, "NATLAB_TOKEN is 5 characters long"),
        ({"NATLAB_CHANGES_PER_S": "0"}, "NATLAB_CHANGES_PER_S is '0'"),
        ({"NATLAB_TOKEN_FILE": "/nowhere/token"}, "NATLAB_TOKEN_FILE is '/nowhere/token'"),
        ({"NATLAB_TOKEN": "two words"}, "NATLAB_TOKEN holds characters"),
    ],
)
def test_settings_name_the_variable_its_value_and_the_rule(variables: dict[str, str], words: str) -> None:
    env = {"NATLAB_REDIS_URL": "redis://127.0.0.1"} if variables and "NATLAB_REDIS_URL" not in variables else {}
    with pytest.raises(SettingsError) as raised:
        Settings.from_env({**env, **variables})
    assert words in raised.value.message and "hunter2" not in raised.value.message


def test_settings_beyond_loopback_with_a_token_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc123-abc123-abc123\n")
    settings = Settings.from_env(
        {
            "NATLAB_REDIS_URL": "redis://r:6379/0",
            "NATLAB_HOST": "0.0.0.0",
            "NATLAB_TOKEN_FILE": str(tmp_path / "token"),
            "NATLAB_ALLOWED_HOSTS": "Server, gpu-box",
        }
    )
    assert settings.token == "abc123-abc123-abc123" and settings.allowed_hosts == {"server", "gpu-box"}
    assert "abc123-abc123-abc123" not in repr(settings)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:pass@host:1/0", "redis://:***@host:1/0"),
        ("redis://user:p@ss@host/0", "redis://user:***@host/0"),
        ("redis://user:p#s/s[@host/0", "redis://user:***@host/0"),
        ("redis://user@host/0", "redis://user@host/0"),
        ("redis://host/0", "redis://host/0"),
        ("unix:///tmp/v.sock", "unix:///tmp/v.sock"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown
