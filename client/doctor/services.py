"""What natlab talks to: Redis, and a server that runs already."""

from __future__ import annotations

import os
import subprocess

from client import valkey
from client.api import ApiError, NatLab, ServerUnreachable
from client.doctor.finding import Finding, bad, note, ok, warning
from client.errors import ClientError, SetupError
from client.up import Settings, check_port, check_redis
from nat_core.errors import NatlabError
from nat_core.version import __version__

_WITHIN_S = 5.0


def check_redis_or_valkey() -> Finding:
    """The Redis that NATLAB_REDIS_URL names, else the embedded Valkey."""
    url = os.environ.get("NATLAB_REDIS_URL")
    try:
        if url:
            check_redis(url)
            return ok("Redis", "the one of NATLAB_REDIS_URL answers")
        told = subprocess.run([str(valkey.binary()), "--version"], capture_output=True, text=True, timeout=20)
    except SetupError as error:
        return bad("Redis", *_parted(error))
    except (OSError, subprocess.SubprocessError) as error:
        return bad("Redis", f"the embedded Valkey does not start ({error})", "set NATLAB_REDIS_URL to a Redis")
    return ok("Redis", f"embedded: {' '.join(told.stdout.split()[:3])}")


def check_redis_named() -> Finding:
    """For a machine that runs the server or a worker alone: there must be a Redis that all of them reach."""
    if os.environ.get("NATLAB_REDIS_URL"):
        return check_redis_or_valkey()
    return bad("Redis", "NATLAB_REDIS_URL is not set", "set it to the Redis that server and workers share")


def check_server() -> Finding:
    """Whether the server at NATLAB_URL answers, lets us in and is of this version."""
    try:
        with NatLab(timeout_s=_WITHIN_S, retries=0) as lab:
            version = lab.server_version()
            lab.workers()
    except ServerUnreachable as error:
        return bad("server", *_parted(error))
    except ApiError as error:
        return bad("server", error.message, "set NATLAB_TOKEN, or NATLAB_HOME to the server's data folder")
    except ClientError as error:
        return bad("server", error.message, "correct it")
    if version != __version__:
        return warning("server", f"{lab.url} is natlab {version}, this is {__version__}", "use one version for both")
    return ok("server", f"{lab.url} answers, natlab {version}")


def check_own_server() -> Finding:
    """For a machine that is to run the server: one that answers, or a port that it can have."""
    try:
        settings = Settings.from_environment()
        try:
            with NatLab(settings.url, timeout_s=_WITHIN_S, retries=0) as lab:
                return ok("server", f"{settings.url} answers, natlab {lab.server_version()}")
        except ServerUnreachable:
            check_port(settings.host, settings.port)
    except SetupError as error:
        return bad("server", *_parted(error))
    except ClientError as error:
        return bad("server", error.message, "stop what answers there, or set NATLAB_PORT to a free port")
    return note("server", f"none runs at {settings.url}, and the port is free", "start it with `natlab up`")


def _parted(error: NatlabError) -> tuple[str, str]:
    """A message's problem and its remedy, which stand before and after its last semicolon."""
    problem, _, remedy = error.message.rpartition("; ")
    return problem or remedy, remedy
