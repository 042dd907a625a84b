"""Says what an object store's refusal means, and what to do about it, in words for people."""

from __future__ import annotations

import re

STATUS = re.compile(r"status code: (\d{3}(?: [A-Z][A-Za-z ]+)?)")
CODE = re.compile(r"<Code>([\w.]{1,60})</Code>")
RETRIES = re.compile(r" in ([\d.]+\w+), after (\d+) retries")

SERVICE = "Check that its service answers, its quota, and that you may read and write there"
"""What to do where nothing better is known."""
_KEYS = "Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (with AWS_SESSION_TOKEN, if any)"
_RIGHT = "Give its keys the right to read, write and delete there, or use other keys"
_WAIT = "Wait until its service has recovered"
_REACH = "Is the service there, and reached from here?"
_REGION = "Set AWS_REGION to the region of the bucket"

MEANINGS = (
    (r"NoSuchBucket|ContainerNotFound|bucket does not exist", "there is no such bucket",
     "Make the bucket, or correct its name"),
    (r"InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|AuthenticationFailed",
     "it does not know these keys", _KEYS),
    (r"ExpiredToken|TokenRefreshRequired|token.{0,20}expired", "the session of the keys is over",
     "Put new keys into the environment"),
    (r"AuthorizationHeaderMalformed|PermanentRedirect|incorrectly configured region"
     r"|IllegalLocationConstraint|without LOCATION", "the bucket is in another region", _REGION),
    (r"RequestTimeTooSkewed", "the clock of this machine is wrong", "Set the clock"),
    (r"QuotaExceeded|StorageFull|507 ", "it is full", "Make room there, or raise the quota"),
    (r"NotImplemented|status code: 501", "it does not know this kind of request",
     "Use a service that speaks all of S3"),
    (r"169\.254\.|metadata\.google|metadata endpoint|No credentials|security-credentials",
     "no keys were found for it",
     "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or the variables of its "
     "cloud"),
    (r"AccessDenied|Forbidden|status code: 40[13]|Unauthenticated", "it refuses these keys",
     _RIGHT),
    (r"status code: (?:5\d\d|429)|SlowDown", "it is overloaded or out of order", _WAIT),
    (r"dns error|failed to lookup", "the name of its host is not known", _REACH),
    (r"[Cc]onnection ?[Rr]efused", "nothing listens there", _REACH),
    (r"certificate|UnknownIssuer|tls handshake", "its certificate is not trusted",
     "Name the file of its authority in AWS_CA_BUNDLE"),
    (r"URL scheme is not allowed", "its endpoint is plain http",
     "Name an endpoint that begins with https://"),
    (r"TimedOut|kind: Timeout|timed out|operation timed", "it does not answer in time", _REACH),
    (r"error sending request|error decoding response|connection (?:closed|reset)|Connect",
     "the connection broke", _REACH),
)  # fmt: skip
"""What is in an error's text -> what it means, and the mend; the first that fits counts."""
_MEANINGS = tuple((re.compile(pattern), said, mend) for pattern, said, mend in MEANINGS)


def explain(error: BaseException) -> tuple[str, str]:
    """Return what an error of obstore means, without a full stop, and what to do about it."""
    text = str(error)
    details = _details(text)
    for pattern, said, mend in _MEANINGS:
        if pattern.search(text):
            return f"{said}{details}", mend
    first = " ".join(text.partition("\n\nDebug source")[0].split())
    return first[:300].rstrip(".") or type(error).__name__, SERVICE


def is_missing_bucket(error: BaseException) -> bool:
    """Return whether what is not found is the bucket, and not the object."""
    return _MEANINGS[0][0].search(str(error)) is not None


def is_unsupported(error: BaseException) -> bool:
    """Return whether a service says that it does not know a kind of request."""
    return "501 Not Implemented" in str(error) or "<Code>NotImplemented" in str(error)


def _details(text: str) -> str:
    """Return status, code and number of retries, in brackets."""
    found = []
    if status := STATUS.search(text):
        found.append(status[1].strip())
    if code := CODE.search(text):
        found.append(code[1])
    if retries := RETRIES.search(text):
        found.append(f"after {retries[2]} retries")
    return f" ({', '.join(found)})" if found else ""
