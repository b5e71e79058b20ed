"""The model hub: whether an architecture's weights can be loaded from it or from its local cache."""

from __future__ import annotations

import contextlib
import functools
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import getproxies

from maskcls.core.errors import ConfigError

TIMEOUT = 3  # seconds that a connection to the hub may take
ALTERNATIVES = (
    "model.pretrained=false, model.pretrained=auto (the weights that this machine can load, or none), the path of a "
    ".pth or .safetensors file, or package:<name> of an installed package"
)


@contextlib.contextmanager
def hub_access(arch: str, is_pretrained: bool) -> Iterator[None]:
    """Context manager in which timm loads weights, offline if they are cached; ConfigError for any error of the hub."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    try:
        constants.HF_HUB_OFFLINE = (is_pretrained and is_cached(arch)) or before
        yield
    except (ConfigError, TypeError):
        raise
    except Exception as error:
        if not is_pretrained:
            raise
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"model.pretrained: cannot load weights for {arch} ({reason}). Alternatives: {ALTERNATIVES}"
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = before


def is_cached(arch: str) -> bool:
    """Return True if the weights are in the hub's cache; ConfigError within seconds if the hub cannot be reached."""
    if find_in_cache(arch) is not None:
        return True
    if reason := unavailable_reason(arch, connection_error):
        raise ConfigError(f"model.pretrained: {reason}. Alternatives: {ALTERNATIVES}")
    return False


def missing_weights_reason(arch: str) -> str | None:
    """Return why neither the hub nor its cache has weights for an architecture, None if one of them has.

    This process tries to connect only once, so that the jobs of a sweep agree.
    """
    return None if find_in_cache(arch) is not None else unavailable_reason(arch, first_connection_error)


def unavailable_reason(arch: str, connect: Any) -> str | None:
    """Return why weights cannot be downloaded, None if they can; `connect` returns the error of a connection."""
    import timm
    from huggingface_hub import constants

    facts: Any = timm.get_pretrained_cfg(arch)
    if facts is None or not facts.has_weights:
        return f"timm has no weights for {arch}"
    error = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else connect(constants.ENDPOINT)
    return error and f"cannot connect to the hub of {arch}'s weights ({error})"


def connection_error(endpoint: str) -> str | None:
    """Return the error of a connection to the hub, directly or through the proxy, None if it can be reached."""
    errors = [f"no answer in {TIMEOUT} s"]

    def connect() -> None:
        address = urlparse(endpoint)
        try:
            if getproxies().get(address.scheme):
                from huggingface_hub.utils import get_session

                get_session().head(endpoint, timeout=TIMEOUT)
            else:
                socket.create_connection((address.hostname or "", address.port or 443), timeout=TIMEOUT).close()
            errors.clear()
        except Exception as error:  # requests or httpx, by the version of huggingface_hub
            errors[:] = [" ".join(str(error).split())[:200] or type(error).__name__]

    thread = threading.Thread(target=connect, daemon=True)  # a name server that does not answer has no timeout
    thread.start()
    thread.join(TIMEOUT + 1)
    return next(iter(errors), None)


first_connection_error = functools.cache(connection_error)


def find_in_cache(arch: str) -> Path | None:
    """Return the file of an architecture's weights in the hub's cache, or None."""
    import timm
    from huggingface_hub import constants, try_to_load_from_cache

    facts: Any = timm.get_pretrained_cfg(arch)
    names = ("model.safetensors", "pytorch_model.bin") if facts is not None and facts.hf_hub_id else ()
    files = [try_to_load_from_cache(facts.hf_hub_id, name, constants.HF_HUB_CACHE) for name in names]
    return next((Path(file) for file in files if isinstance(file, str)), None)
