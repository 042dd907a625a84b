"""The S3 server that tests of the store share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.s3 import Proxy, s3


@pytest.fixture(scope="session")
def s3_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Yield a proxy before an S3 server, for the whole session."""
    with s3(tmp_path_factory.mktemp("s3")) as proxy:
        yield proxy


@pytest.fixture
def service(s3_proxy: Proxy) -> Proxy:
    """Return the proxy, which fails nothing and has not been asked yet."""
    s3_proxy.fail()
    s3_proxy.requests.clear()
    s3_proxy.bytes_per_s = None
    return s3_proxy
