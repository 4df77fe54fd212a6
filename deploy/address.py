"""Where a sink sends to over the network: host, port and TLS out of its URI."""

from typing import Dict, NamedTuple, Optional
from urllib.parse import SplitResult, urlsplit

from deploy.core.errors import DeployError


class Address(NamedTuple):
    """parts: the rest of the URI."""

    host: str
    port: int
    is_tls: bool
    parts: SplitResult


def parse_address(uri: str, ports: Dict[str, int], *, secrets: str) -> Optional[Address]:
    """Read a URI whose scheme is a key of `ports`, the default ports; None for any other.

    Schemes that end in s are TLS. secrets: the environment's variables that a password belongs in;
    a URI that holds one raises DeployError, which does not repeat it.
    """
    parts = urlsplit(uri)
    if parts.username or parts.password:
        raise DeployError(f"sink {parts.scheme}: a URI shows its password; set {secrets}")
    try:
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ports or not parts.hostname or port == 0:
        return None
    return Address(parts.hostname, port or ports[parts.scheme], parts.scheme.endswith("s"), parts)
