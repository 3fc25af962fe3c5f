"""Errors of the worker.

NatlabError
└── WorkerError          the worker cannot start or go on; its message is one sentence
    ├── ServerAwayError  the server does not answer now; trying again may help
    │   └── StrangerError    something else does: a proxy whose server is away, or a wrong address
    ├── RefusedError     the server answered, and said no; `status` and `code` say why
    └── FolderTakenError the run's folder is in use by another attempt
"""

from __future__ import annotations

from nat_core.errors import NatlabError


class WorkerError(NatlabError):
    code = "worker"


class ServerAwayError(WorkerError):
    code = "server_away"


class StrangerError(ServerAwayError):
    """Not the server answered."""


class RefusedError(WorkerError):
    """`code` is the problem document's."""

    def __init__(self, message: str, status: int, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class FolderTakenError(WorkerError):
    code = "folder_taken"
