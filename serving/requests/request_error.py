"""Why a request gets no prediction: an HTTP status, a code, a message. Never echoes input."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class RequestError(Exception):
    """A request that is not answered with a prediction.

    Attributes:
        status: HTTP status.
        code: stable, for programs.
        message: what was wrong and what to do. It repeats nothing that was sent, except names that
            the model knows.
        where: the place in the request, such as "features.head.data[17]", or "".
        retry_after_s: with 503: when to try again.
    """

    status: int
    code: str
    message: str
    where: str = ""
    retry_after_s: int | None = None

    @classmethod
    def unprocessable(cls, code: str, message: str, where: str = "") -> RequestError:
        """Return the error (422) of a request that can be read and does not fit model or limits."""
        return cls(422, code, message, where)

    def to_json(self) -> dict[str, dict[str, str]]:
        """Return the body of the response."""
        return {"error": {"code": self.code, "message": self.message, "where": self.where}}
