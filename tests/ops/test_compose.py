"""docker-compose.yml: valid, hardened, and its services' own commands complete a run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from jsonschema import Draft201909Validator

from client.api import ApiError, NatLab
from nat_core.spec import demo_experiment
from tests.e2e.support import REPOSITORY, free_port, processes_of
from tests.ops.compose import LocalBox, interpolate, load

COMPOSE = load()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SCHEMA = json.loads((Path(__file__).parent / "compose_spec" / "compose-spec.json").read_text(encoding="utf-8"))


def test_the_file_keeps_to_the_compose_specification() -> None:
    errors = [f"{error.json_path}: {error.message}" for error in Draft201909Validator(SCHEMA).iter_errors(COMPOSE)]
    assert errors == []


def test_the_schema_does_find_a_mistake() -> None:
    wrong = {"services": {"server": SERVICES["server"] | {"restarts": "always"}}}
    errors = list(Draft201909Validator(SCHEMA).iter_errors(wrong))
    assert any("restarts" in error.message for error in errors)


def test_interpolation_is_compose_s() -> None:
    assert interpolate("a ${B:-c} $${D} ${E:-f}", {"E": "g"}) == "a c ${D} g"


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_checked_restarted_and_not_root(name: str) -> None:
    service = SERVICES[name]
    assert service["healthcheck"]["test"]
    assert service["restart"] == "unless-stopped"
    assert not re.fullmatch(r"(0|root)(:.*)?", service["user"])
    assert service["cap_drop"] == ["ALL"]


def test_secrets_come_as_files_and_ports_stay_on_loopback() -> None:
    assert {name: secret["file"] for name, secret in COMPOSE["secrets"].items()} == {
        "redis_password": "./secrets/redis_password",
        "natlab_token": "./secrets/natlab_token",
    }
    for service in SERVICES.values():
        assert set(service["secrets"]) <= COMPOSE["secrets"].keys()
        for key, value in service.get("environment", {}).items():
            places = ("/run/secrets/", "/var/lib/natlab/worker-token")
            assert not re.search("PASSWORD|TOKEN", key) or str(value).startswith(places)
    assert "natlab_token" not in SERVICES["worker"]["secrets"]  # a worker's own token opens what it needs
    assert [port for service in SERVICES.values() for port in service.get("ports", [])] == ["127.0.0.1:8300:8300"]


def test_the_worker_reserves_the_gpus_and_everything_kept_lies_in_named_volumes() -> None:
    devices = SERVICES["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}]
    mounts = {name: [mount.split(":")[:2] for mount in service["volumes"]] for name, service in SERVICES.items()}
    assert ["redis-data", "/data"] in mounts["redis"]
    for name in ("server", "worker"):
        assert ["natlab-home", SERVICES[name]["environment"]["NATLAB_HOME"]] in mounts[name]
    assert ["huggingface-cache", SERVICES["worker"]["environment"]["HF_HOME"]] in mounts["worker"]
    assert {"redis-data", "natlab-home", "huggingface-cache"} == COMPOSE["volumes"].keys()


def test_a_profile_starts_one_kind_of_worker_and_only_the_gpu_s_asks_for_gpus() -> None:
    profiles = {name: service.get("profiles") for name, service in SERVICES.items()}
    assert profiles == {"redis": None, "server": None, "worker": ["gpu"], "worker-cpu": ["cpu"]}
    assert "deploy" not in SERVICES["worker-cpu"]
    own = {"profiles", "image", "build", "deploy", "hostname"}
    gpu, cpu = (
        {key: value for key, value in SERVICES[name].items() if key not in own} for name in ("worker", "worker-cpu")
    )
    assert gpu == cpu


def test_a_worker_of_a_further_box_is_told_two_addresses_and_its_name() -> None:
    there = {"NATLAB_REDIS_ADDRESS": "first:6379", "NATLAB_SERVER_URL": "http://first:8300", "NATLAB_WORKER_NAME": "b2"}
    for name in ("worker", "worker-cpu"):
        service = load(there)["services"][name]
        assert service["hostname"] == "b2"
        assert service["environment"]["NATLAB_REDIS_ADDRESS"] == "first:6379"
        assert (
            service["environment"]["NATLAB_SERVER_URL"] == service["environment"]["NATLAB_URL"] == "http://first:8300"
        )
        assert "natlab_token" not in service["secrets"]


def test_the_worker_s_trainer_gets_most_of_the_time_that_a_stop_may_take() -> None:
    worker = SERVICES["worker"]
    grace = float(worker["environment"]["NATLAB_SHUTDOWN_GRACE_S"])
    minutes = re.fullmatch(r"(\d+)m", worker["stop_grace_period"])
    assert minutes is not None
    assert 120 <= grace <= 60 * int(minutes[1]) - 30  # the last events are handed over, and the end is told


def test_the_recipe_at_the_top_is_the_one_in_the_documentation() -> None:
    def commands(text: str) -> list[str]:
        return [line.partition("  #")[0].strip() for line in text.splitlines() if line.strip()]

    head = (REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8").partition("\nx-")[0]
    recipe = commands("\n".join(line[4:] for line in head.splitlines() if line.startswith("#   ")))
    documented = (REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8")
    block = documented.split("## One box with Docker Compose", 1)[1].split("```sh\n", 1)[1].split("```", 1)[0]
    assert recipe and recipe == commands(block)[: len(recipe)]


def test_dockerfile_makes_what_the_file_builds() -> None:
    lines = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    stages: dict[str, list[str]] = {}
    for line in lines:
        if match := re.match(r"FROM (\S+) AS ([\w-]+)", line):
            stage = stages[match[2]] = [*stages.get(match[1], [])]  # what it is built on counts for it, too
        elif stages:
            stage.append(line)
    for service in SERVICES.values():
        if "build" not in service:
            continue
        stage = stages[service["build"]["target"]]
        users = [line.split()[1] for line in stage if line.startswith("USER ")]
        assert users[-1] == service["user"]
        entry = next(json.loads(line.removeprefix("ENTRYPOINT ")) for line in stage if line.startswith("ENTRYPOINT "))
        assert entry == service["entrypoint"]
        assert json.loads(next(line[4:] for line in stage if line.startswith("CMD "))) == service["command"]
        for line in stage:
            if line.startswith("COPY ") and not line.startswith("COPY --from="):
                for source in line.split()[1:-1]:
                    assert (REPOSITORY / source).exists(), line
                    assert f"!{source}" in (REPOSITORY / ".dockerignore").read_text().splitlines()


# --- the services' own commands as local processes ------------------------------------------------


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalBox, dict[str, subprocess.Popen[bytes]]]]:
    """The services of profile cpu, started in the order of their dependencies once those are healthy."""
    box = LocalBox(tmp_path_factory.mktemp("box"), free_port(), free_port())
    box.prepare({"redis_password": "0123456789abcdef", "natlab_token": "fedcba9876543210"})
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name in ("redis", "server", "worker-cpu"):
            assert set(SERVICES[name].get("depends_on", {})) <= processes.keys()
            processes[name] = box.start(name, SERVICES[name])
            await_healthy(box, name, processes[name])
        yield box, processes
    finally:
        for name in reversed(processes):
            processes[name].terminate()
            try:
                processes[name].wait(30)
            except subprocess.TimeoutExpired:
                processes[name].kill()
                processes[name].wait()
    assert processes_of(box.root) == []


def await_healthy(box: LocalBox, name: str, process: subprocess.Popen[bytes], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        assert process.poll() is None, f"{name} ended with {process.returncode}{box.logs()}"
        if name == "redis" and shutil.which("redis-cli") is None:
            healthy = answers(box)
        else:
            healthy = box.is_healthy(SERVICES[name])
        if healthy:
            return
        assert time.monotonic() < deadline, f"{name} did not become healthy{box.logs()}"
        time.sleep(0.3)


def answers(box: LocalBox) -> bool:
    try:
        return bool(redis.Redis(port=box.redis_port, password="0123456789abcdef").ping())
    except redis.RedisError:
        return False


@pytest.mark.slow
def test_redis_wants_the_password_keeps_what_it_is_told_and_throws_nothing_away(
    box: tuple[LocalBox, dict[str, subprocess.Popen[bytes]]],
) -> None:
    local, processes = box
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=local.redis_port).ping()
    client = redis.Redis(port=local.redis_port, password="0123456789abcdef", decode_responses=True)
    assert client.config_get("appendonly", "maxmemory-policy") == {
        "appendonly": "yes",
        "maxmemory-policy": "noeviction",
    }
    assert (local.root / "redis" / "appendonlydir").is_dir()
    assert "0123456789abcdef" not in Path(f"/proc/{processes['redis'].pid}/cmdline").read_text()


@pytest.mark.slow
def test_a_run_launched_by_rest_completes_through_the_file_s_services(
    box: tuple[LocalBox, dict[str, subprocess.Popen[bytes]]],
) -> None:
    local, _ = box
    url = f"http://127.0.0.1:{local.server_port}"
    with NatLab(url, token="wrong") as stranger, pytest.raises(ApiError) as refused:
        stranger.experiments()
    assert refused.value.problem.status == 401

    demo = demo_experiment(steps=2)
    base = demo.base.model_copy(
        update={"evaluation": demo.base.evaluation.model_copy(update={"num_prompts": 8, "greedy": False})}
    )
    spec = demo.model_copy(update={"base": base, "budgets": demo.budgets[:2]})
    with NatLab(url, token="fedcba9876543210") as lab:
        experiment = lab.launch(spec)
        deadline = time.monotonic() + 240
        ended = lab.wait(experiment.id, lambda _: None if time.monotonic() < deadline else pytest.fail(local.logs()))
        assert [run.state for run in ended.runs] == ["succeeded", "succeeded"], local.logs()
        assert [run.step for run in ended.runs] == [2, 2]
        [series, *_] = lab.metric_series([run.id for run in ended.runs], ["reward"])
        assert len(series.x) == 2
        assert len(lab.compare(experiment.id).cells) == 2
    run_folder = local.root / "home" / "runs" / experiment.runs[0].id
    assert (run_folder / "events.jsonl").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(("auth", "said"), [("none", "NATLAB_HOST is '0.0.0.0'"), ("token", "NATLAB_REDIS_URL is")])
def test_a_token_is_made_or_nothing_listens_beyond_loopback(tmp_path: Path, auth: str, said: str) -> None:
    box = LocalBox(tmp_path, free_port(), free_port())
    box.prepare({})
    environment = box.environment(SERVICES["server"]) | {
        "NATLAB_HOST": "0.0.0.0",
        "NATLAB_REDIS_URL": "redis://127.0.0.1:1/0",
        "NATLAB_AUTH": auth,
    }
    del environment["NATLAB_TOKEN_FILE"], environment["NATLAB_REDIS_PASSWORD_FILE"]
    done = subprocess.run(box.argv(SERVICES["server"]), env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert said in done.stderr
    made = tmp_path / "home" / "token"
    assert made.exists() == (auth == "token") and (auth == "none" or made.stat().st_mode & 0o777 == 0o600)
