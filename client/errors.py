"""What the client raises.

ClientError(NatlabError)
├── ApiError              the server answered with a problem document, kept in `.problem`
├── ServerUnreachable     nothing answers at the address
├── SetupError            `natlab up` cannot start as it was asked to
└── WaitedTooLong         what was waited for did not happen in the time given
"""

from __future__ import annotations

from nat_core.errors import NatlabError
from nat_core.records import Problem


class ClientError(NatlabError):
    """Base of what the client raises."""


class ApiError(ClientError):
    """The server refused a request; `problem` is its RFC 9457 document."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail or problem.title)
        self.problem = problem
        self.code = problem.code


class ServerUnreachable(ClientError):
    """Nothing answers at the server's address."""

    code = "server_unreachable"


class WaitedTooLong(ClientError):
    """What was waited for did not happen in the time given."""

    code = "waited_too_long"


class SetupError(ClientError):
    """The stack cannot start as it was asked to: a taken port, an unreachable Redis, a missing package."""

    code = "setup"
