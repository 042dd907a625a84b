"""Why a request is not answered: an HTTP status, a code for programs, a sentence for people. Never echoes input."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class RequestError(Exception):
    """A request that is refused.

    Attributes:
        status: HTTP status.
        code: stable, for programs.
        message: what was wrong and what to do; nothing of what was sent, but for names that the model knows.
        where: the place in the request, such as "features.head.data[17]", or "".
        retry_after_s: with 503: when to try again.
    """

    status: int
    code: str
    message: str
    where: str = ""
    retry_after_s: int | None = None

    def to_json(self) -> dict[str, dict[str, str]]:
        """The body of the response."""
        return {"error": {"code": self.code, "message": self.message, "where": self.where}}


def unfit(code: str, message: str, where: str = "") -> RequestError:
    """The request can be read, and does not fit the model or the limits."""
    return RequestError(422, code, message, where)
