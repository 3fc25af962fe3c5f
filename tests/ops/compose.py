"""Reads docker-compose.yml as Compose does, and runs its services as local processes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from client import valkey
from tests.e2e.support import REPOSITORY

_VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?::-([^}]*))?\})")


def interpolate(value: Any, variables: Mapping[str, str]) -> Any:
    """Replace `${NAME:-default}` and `$$` in every string, as Compose does."""
    if isinstance(value, dict):
        return {key: interpolate(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolate(item, variables) for item in value]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda m: "$" if m[1] else variables.get(m[2]) or m[3] or "", value)
    return value


def load(variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    document = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8"))
    loaded: dict[str, Any] = interpolate(document, variables or {})
    return loaded


@dataclass
class LocalBox:
    """A folder that stands for the box: paths, ports and host names of the file are mapped into it, nothing else."""

    root: Path
    redis_port: int
    server_port: int

    def prepare(self, secrets: Mapping[str, str]) -> None:
        for folder in ("secrets", "home", "redis", "cache", "bin"):
            (self.root / folder).mkdir(parents=True)
        for name, content in secrets.items():
            (self.root / "secrets" / name).write_text(content)
        # Where Debian's redis-server is not installed, Valkey takes the same arguments.
        if shutil.which("redis-server") is None:
            (self.root / "bin" / "redis-server").symlink_to(valkey.binary())

    def localize(self, value: Any) -> Any:
        """The same value with the box's paths, ports and hosts."""
        if isinstance(value, dict):
            return {key: self.localize(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.localize(item) for item in value]
        text = str(value)
        for there, here in (
            ("redis:6379", f"127.0.0.1:{self.redis_port}"),
            ("//server:8300", f"//127.0.0.1:{self.server_port}"),
            ("0.0.0.0", "127.0.0.1"),
            ("6379", str(self.redis_port)),
            ("8300", str(self.server_port)),
            ("/run/secrets", str(self.root / "secrets")),
            ("/var/lib/natlab", str(self.root / "home")),
            ("/var/cache/huggingface", str(self.root / "cache")),
            ("--dir /data", f"--dir {self.root / 'redis'}"),
            ("/app/", f"{REPOSITORY}/"),
        ):
            text = text.replace(there, here)
        return text

    def argv(self, service: Mapping[str, Any]) -> list[str]:
        """Entry point and command of a service."""
        argv: list[str] = self.localize([*service.get("entrypoint", []), *service["command"]])
        return argv

    def environment(self, service: Mapping[str, Any]) -> dict[str, str]:
        """The file's environment, with nothing of the caller's but where programs and home lie."""
        path = os.pathsep.join([str(self.root / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
        home = os.environ.get("HOME", str(self.root))
        # What runs is this repository's code, as an image is built from it, wherever else natlab may be installed.
        base = {"PATH": path, "PYTHONPATH": str(REPOSITORY), "HOME": home, "OMP_NUM_THREADS": "1"}
        return base | self.localize(service.get("environment", {}))

    def start(self, name: str, service: Mapping[str, Any]) -> subprocess.Popen[bytes]:
        with (self.root / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                self.argv(service),
                cwd=self.root,
                env=self.environment(service),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def is_healthy(self, service: Mapping[str, Any]) -> bool:
        """Run the service's own health check."""
        kind, *command = self.localize(service["healthcheck"]["test"])
        argv = ["/bin/sh", "-c", *command] if kind == "CMD-SHELL" else command
        done = subprocess.run(argv, cwd=self.root, env=self.environment(service), capture_output=True, timeout=30)
        return done.returncode == 0

    def logs(self) -> str:
        return "".join(f"\n--- {log.name}\n{log.read_text()[-3000:]}" for log in sorted(self.root.glob("*.log")))
