"""Hosts on one machine: each with a network, a name and process numbers of its own, on a cable that can be pulled.

A host is a process tree in namespaces of its own, which are gone with it. The test's own side has an address that all
hosts reach, as a server's would be. That needs the rights to make namespaces and network devices; where they lack, this
says so and fails, since a test of separate hosts that saw none would be worth nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.server.support import wait_until

# Waits for its cable, then is the host; the shell stays, since a first process has to reap what others leave behind.
_HOST = """
read -r ready
hostname "$1"
ip link set lo up
ip address add "$2" dev "$4"
ip link set "$4" up
ip route add default via "$3"
shift 4
status=0
"$@" </dev/null || status=$?
exit $status
"""
_NEEDED = (
    "two hosts need network namespaces: run this test as root, or in a container with `--cap-add NET_ADMIN --cap-add "
    "SYS_ADMIN`, with iproute2 and util-linux installed"
)


class Lan:
    """The network that a test's hosts are on, and the address at which they reach the test's own side."""

    def __init__(self) -> None:
        self._tag = os.getpid() % 10_000
        self._net = f"10.231.{os.getpid() % 250}"
        self.address = f"{self._net}.1"
        self.hosts: dict[str, Host] = {}
        self._path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
        self.ip("address", "add", f"{self.address}/32", "dev", "lo")

    def ip(self, *arguments: str) -> None:
        """Run `ip`; a machine that does not let us is a failure that says what it needs."""
        program = shutil.which("ip", path=self._path)
        if program is None:
            pytest.fail(f"the program ip is missing: {_NEEDED}")
        done = subprocess.run([program, *arguments], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.fail(f"ip {' '.join(arguments)}: {done.stderr.strip()}; {_NEEDED}")

    def start(
        self, name: str, argv: Sequence[str], env: Mapping[str, str], log: Path, sees_processes: bool
    ) -> subprocess.Popen[bytes]:
        """Start a command on a host of its own.

        Args:
            sees_processes: whether it sees the other hosts' processes, as containers on one machine may.
        """
        number = len(self.hosts) + 1
        host = self.hosts[name] = Host(self, f"nl{self._tag}-{number}", f"{self._net}.{4 * number + 1}")
        apart = ["--net", "--uts"] + ([] if sees_processes else ["--mount", "--pid", "--fork", "--mount-proc"])
        inner = f"{self._net}.{4 * number + 2}"
        inside = ["sh", "-euc", _HOST, "sh", name, f"{inner}/30", host.address, host.inner, *argv]
        guard = ["--kill-child"] if not sees_processes else []
        with log.open("ab") as out:
            process = subprocess.Popen(
                ["unshare", *apart, *guard, *inside],
                env={**env, "PATH": self._path},
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        host.connect(process)
        return process

    def close(self) -> None:
        for host in self.hosts.values():
            host.close()
        self.ip("address", "del", f"{self.address}/32", "dev", "lo")


class Host:
    """One host's cable."""

    def __init__(self, lan: Lan, outer: str, address: str) -> None:
        self._lan = lan
        self.outer, self.inner = outer, f"{outer}i"
        self.address = address

    def connect(self, process: subprocess.Popen[bytes]) -> None:
        """Lay the cable into a process that waits for it."""
        assert process.stdin is not None
        ours = os.readlink("/proc/self/ns/net")
        wait_until(lambda: process.poll() is not None or os.readlink(f"/proc/{process.pid}/ns/net") != ours)
        if process.poll() is not None:
            pytest.fail(f"unshare ended with status {process.returncode}: {_NEEDED}")
        self._lan.ip("link", "add", self.outer, "type", "veth", "peer", "name", self.inner)
        self._lan.ip("link", "set", self.inner, "netns", str(process.pid))
        self._lan.ip("address", "add", f"{self.address}/30", "dev", self.outer)
        self.plug()
        process.stdin.write(b"ready\n")
        process.stdin.close()

    def pull(self) -> None:
        """From now on nothing gets through, and nobody is told."""
        self._lan.ip("link", "set", self.outer, "down")

    def plug(self) -> None:
        self._lan.ip("link", "set", self.outer, "up")

    def close(self) -> None:
        """Its namespace is gone with its last process, and with it the cable: sooner or later."""
        subprocess.run(["ip", "link", "del", self.outer], capture_output=True, env={"PATH": self._lan._path})
