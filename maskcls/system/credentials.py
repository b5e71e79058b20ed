"""Credentials for servers."""

from __future__ import annotations

import os


def has_netrc(host: str) -> bool:
    """Return True if the user's netrc file contains a login for a host."""
    import netrc

    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
