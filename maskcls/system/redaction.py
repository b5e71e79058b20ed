"""Redaction of keys, tokens and passwords in files and terminal output."""

from __future__ import annotations

import os
import re

NAMED = re.compile(r"(\w*(?:api_?key|token|secret|password)\w*['\"]?\s*[=:]\s*['\"]?)[^\s'\",]+", re.IGNORECASE)
LOGIN = re.compile(r"(://[^\s/:@]+:)[^\s/@]+@")  # https://user:password@host
HIDDEN = "***"


def redact(text: str) -> str:
    """Return a text without the secrets of environment variables and without values named as secrets."""
    for name, value in os.environ.items():
        if len(value) >= 8 and re.search("KEY|TOKEN|SECRET|PASSW", name, re.IGNORECASE):
            text = text.replace(value, HIDDEN)
    return LOGIN.sub(rf"\1{HIDDEN}@", NAMED.sub(rf"\1{HIDDEN}", text))
