"""The `natlab` command line and the Python client: `from client import NatLab, AsyncNatLab`."""

from client.aio import AsyncNatLab
from client.api import NatLab
from client.errors import ApiError, ClientError, ServerUnreachable, WaitedTooLong
from client.live import NewMetrics, Resync, RunChanged

__all__ = [
    "ApiError",
    "AsyncNatLab",
    "ClientError",
    "NatLab",
    "NewMetrics",
    "Resync",
    "RunChanged",
    "ServerUnreachable",
    "WaitedTooLong",
]
