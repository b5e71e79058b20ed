"""Full and read-only disks, broken and hostile files, secrets: a sentence that names the place, and no harm done."""

from __future__ import annotations

import ast
import ctypes
import fcntl
import os
import pickle
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import TINY, environment

from maskcls.components.hardware import cpu
from maskcls.config.compose import compose
from maskcls.core.errors import MaskclsError, RunError, as_user_error
from maskcls.engine.runner import run
from maskcls.inference.predictor import Predictor, load
from maskcls.storage import run as run_module
from maskcls.storage.checkpoint import save_tensors
from maskcls.storage.provenance import collect_provenance
from maskcls.storage.run import Run
from maskcls.storage.trained_model import open_model
from maskcls.system import console, files
from maskcls.system.files import atomic_write, check_writable, open_part_file, remove_stale_parts, write_json, write_npz
from maskcls.system.redaction import redact
from maskcls.system.safe_reading import YAML

Command = Callable[..., subprocess.CompletedProcess[str]]
PACKAGE = Path(run_module.__file__).parent.parent


class Bomb:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.mkdir, (str(self.mark),)


def only(folder: Path) -> Path:
    """Return the one run below a folder."""
    (place,) = [path for path in folder.iterdir() if path.is_dir()]
    return place


@pytest.fixture
def copied(finished: tuple[list[str], Path], tmp_path: Path) -> tuple[list[str], Path]:
    """Return the words of a finished run, and a copy of its folder that may be broken."""
    words, place = finished
    shutil.copytree(place, tmp_path / "runs" / place.name)
    return [*words, f"runs_dir={tmp_path}/runs"], tmp_path / "runs" / place.name


def begun(place: Path, *lost: str) -> Path:
    """Make a finished run one that was killed: metrics.json and the predictions of fold 1 are not there yet."""
    for name in ("metrics.json", "fold1/oof.npz", *lost):
        (place / name).unlink()
    return place


def refusal(*words: str) -> str:
    """Return the sentence with which a run is refused."""
    with pytest.raises(MaskclsError) as caught:
        run(compose(*words))
    return str(caught.value)


def bombed(path: Path, mark: Path, how: str) -> Path:
    """Write a bomb as a plain pickle, or in the form of torch's files."""
    if how == "plain":
        path.write_bytes(pickle.dumps(Bomb(mark)))
    else:
        torch.save({"model": Bomb(mark), "epoch": [1]}, path)
    return path


def test_the_bomb_goes_off_where_pickle_is_trusted(tmp_path: Path) -> None:
    torch.load(bombed(tmp_path / "x.pt", tmp_path / "mark", "torch"), weights_only=False)
    assert (tmp_path / "mark").is_dir()


@pytest.mark.parametrize("how", ["plain", "torch"])
@pytest.mark.parametrize("name", ["last.pt", "best.pt"])
def test_a_bomb_among_the_checkpoints_is_refused(
    how: str, name: str, copied: tuple[list[str], Path], tmp_path: Path
) -> None:
    words, place = copied
    bombed(begun(place) / "fold1" / name, tmp_path / "mark", how)
    said = refusal(*words)
    assert "cannot read checkpoint " in said and f"fold1/{name}" in said and "the other folds are kept" in said
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("how", ["plain", "torch"])
def test_a_bomb_as_weights_to_begin_with_is_refused(
    how: str, tiny: list[str], copied: tuple[list[str], Path], tmp_path: Path
) -> None:
    file, place = bombed(tmp_path / "w.pth", tmp_path / "mark", how), copied[1]
    assert f"cannot read weights from {file}" in refusal(*tiny, f"model.pretrained={file}")
    file = bombed(place / "fold0" / "best.pt", tmp_path / "mark", how)
    assert f"cannot read weights from {file}" in refusal(*tiny, f"model.init={place}")
    with pytest.raises(RunError, match=r"cannot read checkpoint .*fold0/best\.pt"):
        load(place)
    assert not (tmp_path / "mark").exists()


def test_a_bomb_among_the_arrays_is_refused(copied: tuple[list[str], Path], tmp_path: Path) -> None:
    words, place = copied
    (place / "metrics.json").unlink()
    np.savez(place / "fold0" / "oof.npz", ids=np.array([Bomb(tmp_path / "mark")], dtype=object))
    assert f"cannot read {place / 'fold0/oof.npz'} (" in refusal(*words)
    assert not (tmp_path / "mark").exists()


def test_yaml_makes_no_objects(copied: tuple[list[str], Path], tmp_path: Path) -> None:
    place = copied[1]
    (place / "config.yaml").write_text(f"seed: !!python/object/apply:os.mkdir ['{tmp_path}/mark']\n")
    with pytest.raises(RunError, match=r"cannot read .*config\.yaml \("):
        Run.open(place)
    assert not (tmp_path / "mark").exists()


def test_nothing_in_the_package_unpickles_evaluates_or_reaches_a_shell() -> None:
    """Every call is looked at: a process that is started gets a list of words."""
    started = []
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name, given = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
            assert name not in ("eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads"), file
            assert name != "yaml.load" or given.get("Loader") in ("YAML", "yaml.BaseLoader"), file  # texts alone
            assert given.get("shell", "False") == "False", file
            assert name != "torch.load" or given.get("weights_only") == "True", file
            assert name not in ("np.load", "numpy.load") or given.get("allow_pickle") == "False", file
            started += [file.name] if name.startswith(("subprocess.", "os.exec", "os.spawn")) else []
    assert set(started) == {"suites.py", "time_to_score.py", "provenance.py", "sync.py"}
    assert YAML in (yaml.CSafeLoader, yaml.SafeLoader)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def noise(file: Path) -> None:
    file.write_bytes(np.random.default_rng(0).bytes(4096))


def empty(file: Path) -> None:
    file.write_bytes(b"")


BREAKS = (cut, noise, empty)
NAMED = ("fold1/last.pt", "fold1/best.pt", "fold0/oof.npz", "data.json")  # a sentence names them
RENEWED = ("config.yaml", "about.json", "table.csv", "log.jsonl", "oof.csv", "report.html")  # written again


@pytest.mark.parametrize("name", NAMED)
def test_a_broken_file_of_a_run_is_named_and_once_removed_the_run_ends_the_same(
    name: str, finished: tuple[list[str], Path], copied: tuple[list[str], Path]
) -> None:
    words, place = copied
    begun(place)
    before = (place / name).read_bytes()
    for harm in BREAKS:
        (place / name).write_bytes(before)
        harm(place / name)
        said = refusal(*words)
        assert str(place / name) in said and "run again" in said and "are kept" in said
    shutil.rmtree(place / "fold1") if name.startswith("fold1") else (place / name).unlink()  # as it says
    run(compose(*words))
    assert (place / "metrics.json").read_bytes() == (finished[1] / "metrics.json").read_bytes()


@pytest.mark.parametrize("harm", BREAKS)
def test_what_a_run_can_write_again_it_does(
    harm: Callable[[Path], None], finished: tuple[list[str], Path], copied: tuple[list[str], Path]
) -> None:
    words, place = copied
    begun(place)
    for name in RENEWED:
        harm(place / name)
    run(compose(*words))
    for name in ("metrics.json", "oof.csv", "config.yaml", "table.csv"):
        own, other = ((folder / name).read_text().splitlines() for folder in (place, finished[1]))
        assert [line for line in own if "runs_dir" not in line] == [line for line in other if "runs_dir" not in line], (
            name
        )


@pytest.mark.parametrize("harm", BREAKS)
@pytest.mark.parametrize("name", ["metrics.json", "config.yaml", "table.csv", "fold0/best.pt"])
def test_a_broken_file_of_a_finished_run_is_named(
    name: str, harm: Callable[[Path], None], copied: tuple[list[str], Path]
) -> None:
    words, place = copied
    harm(place / name)
    with pytest.raises(MaskclsError) as caught:
        run(compose(*words)) if name == "metrics.json" else load(place)
    assert str(place / name) in str(caught.value)


def test_a_state_of_other_shapes_is_named(copied: tuple[list[str], Path]) -> None:
    words, place = copied
    last = begun(place) / "fold1" / "last.pt"
    content = torch.load(last, weights_only=True)
    name = next(iter(content["model"]))
    for other in (
        {**content, "model": {**content["model"], name: torch.zeros(3)}},
        {"model": content["model"]},
        [1, 2],
    ):
        torch.save(other, last)
        assert f"{last} does not fit this run" in refusal(*words)


def test_a_prediction_by_weights_of_other_shapes_is_refused(copied: tuple[list[str], Path]) -> None:
    best = copied[1] / "fold0" / "best.pt"
    content = torch.load(best, weights_only=True)
    content["model"][next(iter(content["model"]))] = torch.zeros(3)
    torch.save(content, best)
    with pytest.raises(MaskclsError, match=r"fold0/best\.pt"):
        Predictor(open_model(copied[1]), cpu()).predict_pixels(np.zeros((1, 32, 24, 3), np.uint8))


@pytest.mark.parametrize("harm", BREAKS)
@pytest.mark.parametrize("name", ["pixels.npy", "facts.json"])
def test_a_broken_cache_is_named(name: str, harm: Callable[[Path], None], tiny: list[str], tmp_path: Path) -> None:
    words = [*tiny, "epochs=1", "fold=0", f"cache_dir={tmp_path}/cache"]
    run(compose(*words))
    (file,) = (tmp_path / "cache").glob(f"*/{name}")
    harm(file)
    assert f"cannot read {file.parent}" in refusal(*words, "fold=1")
    shutil.rmtree(file.parent)
    run(compose(*words, "fold=1"))


def without_rights() -> None:
    """Give up root's right to write anywhere, for this process and what it becomes; others have no such right."""
    for right in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, out of the bounding set
        system = ctypes.CDLL(None)
        assert system.prctl(23, right, 0, 0, 0) == 0 or system.prctl(24, right, 0, 0, 0) == 0 or os.geteuid()


def small_files() -> None:
    """Let no file grow over 200 kB, as a disk would that has no more room."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def called(words: list[str], place: Path, first: Callable[[], None]) -> subprocess.CompletedProcess[str]:
    """Run the command in a process that has lost something first; it is not measured, since coverage would write too."""
    call = [sys.executable, "-m", "maskcls.run", *words]
    unmeasured = {key: value for key, value in environment().items() if not key.startswith("COVERAGE_")}
    return subprocess.run(
        call, cwd=place, env=unmeasured, capture_output=True, text=True, check=False, preexec_fn=first, timeout=300
    )


@pytest.mark.parametrize("key", ["runs_dir", pytest.param("cache_dir", marks=pytest.mark.slow)])
def test_a_place_that_cannot_be_written_to_is_named_before_any_work(key: str, tiny: list[str], tmp_path: Path) -> None:
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o555)
    below = shut / "below"
    for folder, message in ((shut, f"{shut} is not writable"), (below, f"cannot create {below} (Permission denied)")):
        result = called([*tiny, f"{key}={folder}"], tmp_path, without_rights)
        assert result.returncode == 2 and f"{key}: {message}. Choose another folder" in result.stderr, result.stderr
        assert (
            "Traceback" not in result.stderr and not list(tmp_path.rglob("*.pt")) and not list(tmp_path.rglob("*.npy"))
        )


@pytest.mark.parametrize("folder", ["/sys/maskcls", "/dev/null/runs", "/proc/maskcls"])
def test_a_place_that_cannot_be_made_is_named(folder: str) -> None:
    with pytest.raises(RunError, match=rf"runs_dir: cannot create {folder} \(.*\)\. Choose another folder with runs_dir="):
        check_writable(runs_dir=folder)


@pytest.mark.slow
def test_a_disk_that_is_full_gives_a_sentence_and_with_room_the_run_goes_on(
    finished: tuple[list[str], Path], tmp_path: Path
) -> None:
    words = [*finished[0], f"runs_dir={tmp_path}/runs"]
    run(compose(*words, "fold=0"))
    place = only(tmp_path / "runs")
    earlier = {file: file.read_bytes() for file in (place / "fold0").iterdir()}
    result = called(words, tmp_path, small_files)
    assert result.returncode == 2 and "Traceback" not in result.stderr, result.stderr
    assert "fold1/epoch1.pt: File too large after" in result.stderr and "MB free). Free disk space" in result.stderr
    assert earlier == {file: file.read_bytes() for file in (place / "fold0").iterdir()}
    assert not list(place.rglob(".*")) and not (place / "metrics.json").exists()
    run(compose(*words))
    assert (place / "metrics.json").read_bytes() == (finished[1] / "metrics.json").read_bytes()


TIGHT = """
mount -t tmpfs -o size=$1k none disk || exit 77
"$2" -m maskcls.run $3 > first 2>&1; echo $? > code
cp -r disk/runs before
mount -o remount,size=100m disk && "$2" -m maskcls.run $3 > second 2>&1 && cp -r disk/runs after
"""


@pytest.mark.slow
def test_a_small_file_system_that_fills_up_keeps_what_was_earlier_and_grows(
    finished: tuple[list[str], Path], tmp_path: Path
) -> None:
    words, whole = finished
    last, best = ((whole / "fold0" / name).stat().st_size for name in ("last.pt", "best.pt"))
    (tmp_path / "disk").mkdir()
    room = (2 * best + last + (best + last) // 2) // 1024  # for the first fold, and not for the second one
    call = [
        "unshare",
        "-rm",
        "sh",
        "-c",
        TIGHT,
        "sh",
        str(room),
        sys.executable,
        " ".join([*words, "runs_dir=disk/runs"]),
    ]
    done = subprocess.run(
        call, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False, timeout=300
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
    said = (tmp_path / "first").read_text()
    assert (tmp_path / "code").read_text().strip() == "2" and "Traceback" not in said, said
    assert "fold1/" in said and ": No space left on device" in said and "MB free). Free disk space" in said
    before, after = only(tmp_path / "before"), only(tmp_path / "after")
    assert not list(before.rglob(".*")) and not (before / "metrics.json").exists()
    for name in ("fold0/oof.npz", "fold0/best.pt", "fold0/last.pt"):
        assert (before / name).read_bytes() == (after / name).read_bytes()
    assert (after / "metrics.json").read_bytes() == (whole / "metrics.json").read_bytes(), (
        tmp_path / "second"
    ).read_text()


@pytest.mark.slow
def test_a_run_that_has_begun_and_may_no_longer_be_written_to_is_named(
    finished: tuple[list[str], Path], tmp_path: Path
) -> None:
    words = [*finished[0], f"runs_dir={tmp_path}/runs"]
    run(compose(*words, "fold=0"))
    place = only(tmp_path / "runs")
    for folder in (place, *(path for path in place.iterdir() if path.is_dir())):
        folder.chmod(0o555)
    result = called(words, tmp_path, without_rights)
    assert result.returncode == 2 and str(place) in result.stderr and "Traceback" not in result.stderr, result.stderr
    for folder in (place, *(path for path in place.iterdir() if path.is_dir())):
        folder.chmod(0o755)
    run(compose(*words))
    assert (place / "metrics.json").read_bytes() == (finished[1] / "metrics.json").read_bytes()


@pytest.mark.slow
def test_a_slow_disk_changes_no_number(
    finished: tuple[list[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow: list[str] = []
    for name in ("fsync", "replace"):
        fast = getattr(os, name)

        def late(*given: object, fast: Callable[..., None] = fast, name: str = name) -> None:
            slow.append(name)
            time.sleep(0.1)
            fast(*given)

        monkeypatch.setattr(os, name, late)
    run(compose(*finished[0], f"runs_dir={tmp_path}/runs"))
    assert len(slow) > 10
    for name in ("metrics.json", "oof.csv", "eval.csv"):
        assert (only(tmp_path / "runs") / name).read_bytes() == (finished[1] / name).read_bytes()


def test_a_full_disk_is_named_whatever_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's own device that is always full stands for the disk."""
    monkeypatch.setattr(files, "open_part_file", lambda path: (Path("/dev/full").open("wb"), tmp_path / "none"))  # noqa: SIM115
    for save in (
        lambda: write_json(tmp_path / "a.json", {"a": 1}),
        lambda: write_npz(tmp_path / "a.json", a=np.zeros(9999)),
        lambda: save_tensors(tmp_path / "a.json", {"a": torch.zeros(9999)}),
    ):
        with pytest.raises(OSError) as caught:
            save()
        said = str(as_user_error(caught.value))
        assert said.startswith(f"{tmp_path}/a.json: No space left on device") and "Free disk space" in said


def test_what_is_no_fault_of_the_machine_keeps_its_trace() -> None:
    for bug in (KeyError("x"), RuntimeError("shapes"), OSError("no file is named")):
        with pytest.raises(type(bug)):
            as_user_error(bug)


def test_sweeping_spares_what_is_being_written(tmp_path: Path) -> None:
    file, part = open_part_file(tmp_path / "a.txt")
    dead = tmp_path / ".b.txt.0000.part"
    dead.write_text("half")
    remove_stale_parts(tmp_path)
    assert part.exists() and not dead.exists()
    file.close()
    remove_stale_parts(tmp_path)
    assert not part.exists()


def test_a_file_that_is_swept_before_it_is_locked_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, swept = fcntl.flock, []

    def late(file: object, how: int) -> None:
        if not swept:
            swept.extend(tmp_path.glob(".*.part"))
            swept[0].unlink()
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    atomic_write(tmp_path / "a.txt", lambda file: file.write(b"whole"))
    assert swept and os.listdir(tmp_path) == ["a.txt"] and (tmp_path / "a.txt").read_bytes() == b"whole"


KEY = "0123456789abcdef" * 2 + "deadbeef"


@pytest.mark.slow
def test_a_key_is_in_no_file_and_on_no_terminal(tiny: list[str], tmp_path: Path, command: Command) -> None:
    told = [result := command(*tiny, f"+logger.api_key={KEY}"), command(*tiny, f"WANDB_API_KEY={KEY}"),
            command(*tiny, f"WANDB_API_KEY={KEY},"), command(*tiny, "epochs=1", f"plugins=[{KEY}]", WANDB_API_KEY=KEY)]  # fmt: skip
    assert result.returncode == 2
    words = [word for word in tiny if word != "logger=none"]
    told.append(done := command(*words, "epochs=1", "fold=0", WANDB_API_KEY=KEY))
    assert done.returncode == 0, done.stderr
    assert not [result.args for result in told if KEY in result.stdout + result.stderr]
    files = [file for file in (tmp_path / "runs").glob("*/*") if file.is_file()]
    assert {"about.json", "log.jsonl"} <= {file.name for file in files}
    assert [file.name for file in files if KEY.encode() in file.read_bytes()] == []


def test_secrets_are_redacted_by_name_and_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "s3cret-value")
    monkeypatch.setattr(
        sys, "argv", ["run", f"wandb_api_key={KEY}", "name=s3cret-value", "model.drop_rate=0.2", "+my.Password=abc"]
    )
    assert collect_provenance(cpu().facts())["command"] == [
        "run",
        "wandb_api_key=***",
        "name=***",
        "model.drop_rate=0.2",
        "+my.Password=***",
    ]
    assert redact("keys: 3, lr=0.1") == "keys: 3, lr=0.1"


def test_a_table_shows_no_secret_and_reads_no_cell_as_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "s3cret-value")
    with console.console.capture() as shown:
        console.print_table(
            "of [bold]s3cret-value", ["run", "score"], [["[red]a[/red] s3cret-value", 0.5], ["b", "[c]"]]
        )
    text = shown.get()
    assert "s3cret-value" not in text and "of [bold]***" in text
    assert "[red]a[/red] ***" in text and "0.5000" in text and "[c]" in text


EVIL = "<script>alert(1)</script>\"'&amp;<img src=x onerror=alert(2)>"


def test_names_of_files_people_and_folders_are_text_in_the_report(people: Path, drawn: Path, tmp_path: Path) -> None:
    base = tmp_path / "data"
    base.mkdir()
    rows = ["path,mask,gender,age,person"]
    for i, photo in enumerate(sorted((people / "train" / "images").glob("*/normal.*"))):
        name = f"{i} <script>alert('{i}')<&script>\"&amp;.jpg".replace("/", "")
        shutil.copy(photo, base / name)
        cell = name.replace('"', '""')
        rows.append(
            f'"{cell}",none,{("male", "female")[i % 2]},{20 + 3 * i},"{i} {EVIL.replace(chr(34), chr(34) * 2)}"'
        )
    (base / "t.csv").write_text("\n".join(rows) + "\n")
    words = [word for word in TINY if not word.startswith(("data.", "batch_size"))]
    evil = tmp_path / "c<script>alert(3)"
    run(
        compose(
            *words,
            "epochs=1",
            "batch_size=4",
            "data=table",
            f"data.file={base}/t.csv",
            f"runs_dir={tmp_path}/runs",
            f"cache_dir='{evil}'",
        )
    )
    page = (only(tmp_path / "runs") / "report.html").read_text()
    assert "&lt;script&gt;alert(" in page
    assert "<script" not in page and "<img src=x" not in page and 'alt="0 <' not in page


def test_a_runs_own_plugins_are_not_imported(
    copied: tuple[list[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = copied[1]
    (tmp_path / "payload.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = place / "config.yaml"
    config.write_text(config.read_text().replace("plugins: []", "plugins: [payload]"))
    load(place)
    assert "plugins: [payload]" in config.read_text() and not (tmp_path / "executed").exists()
