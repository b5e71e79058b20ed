"""In every locale, with any encoding of the terminal and with closed streams: a command ends as it does elsewhere."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import TINY, environment
from rich.console import Console

from maskcls.system import console

TOP = Path(__file__).parents[2]


def is_text_mode(call: ast.Call) -> bool:
    """Return True if a call of `open` or of a path's `open` reads or writes text."""
    is_method = isinstance(call.func, ast.Attribute)
    modes = [word.value for word in call.keywords if word.arg == "mode"] + call.args[0 if is_method else 1 :]
    if not modes:
        return not is_method or not call.args
    return isinstance(modes[0], ast.Constant) and isinstance(modes[0].value, str) and "b" not in modes[0].value


def unencoded(tree: ast.AST) -> Iterator[int]:
    """Yield the line of each call that opens text, or reads it from a process, and names no encoding."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or any(word.arg in ("encoding", None) for word in node.keywords):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        is_method = isinstance(node.func, ast.Attribute)
        opens = name == "open" and is_text_mode(node)
        reads = is_method and ((name == "read_text" and not node.args) or (name == "write_text" and len(node.args) < 2))
        runs = any(word.arg in ("text", "universal_newlines") for word in node.keywords) and name in (
            "run",
            "Popen",
            "check_output",
        )
        if opens or reads or runs:
            yield node.lineno


@pytest.mark.parametrize("file", sorted((TOP / "maskcls").rglob("*.py")), ids=lambda path: path.stem)
def test_every_text_file_and_process_is_opened_with_its_encoding(file: Path) -> None:
    assert [f"{file}:{line}" for line in unencoded(ast.parse(file.read_text(encoding="utf-8")))] == []


@pytest.mark.parametrize(
    "line", ["open('a')", "open('a', 'w')", "p.open()", "p.open('w')", "p.open(mode='a')", "p.read_text()", "p.write_text('a')",
             "p.read_text(errors='replace')", "subprocess.run(call, text=True)"],
)  # fmt: skip
def test_what_names_no_encoding_is_found(line: str) -> None:
    assert [*unencoded(ast.parse(line))] == [1]


@pytest.mark.parametrize(
    "line",
    [
        "open('a', 'rb')",
        "p.open('ab+')",
        "pil.open(file)",
        "p.read_text('utf-8')",
        "write_text(p, 'a')",
        "os.open(a, b)",
    ],
)
def test_what_needs_none_is_not(line: str) -> None:
    assert [*unencoded(ast.parse(line))] == []


@pytest.fixture(scope="session")
def euckr(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the variables of the locale ko_KR.EUC-KR, made for the tests; its encoding alone where it cannot be made."""
    folder = tmp_path_factory.mktemp("locale")
    call = ["localedef", "--no-archive", "-i", "ko_KR", "-f", "EUC-KR", str(folder / "ko_KR.EUC-KR")]
    if shutil.which("localedef"):
        subprocess.run(call, capture_output=True, check=False)
    if (folder / "ko_KR.EUC-KR").is_dir():
        return {"LC_ALL": "ko_KR.EUC-KR", "LOCPATH": str(folder), "PYTHONUTF8": "0"}
    return {"PYTHONIOENCODING": "euc-kr", "PYTHONUTF8": "0"}


PLACES: dict[str, tuple[dict[str, str], str]] = {
    "EUC-KR": ({}, ""),
    "C": ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, ""),
    "ASCII": ({"PYTHONIOENCODING": "ascii"}, ""),
    "no stdout": ({}, ">&-"), "no stdin": ({}, "<&-"), "no stderr": ({}, "2>&-"), "nothing": ({}, "<&- >&- 2>&-"),
    "narrow": ({"COLUMNS": "60"}, ""),
}  # fmt: skip


def call(
    place: str, euckr: dict[str, str], folder: Path, module: str, *words: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a command in one of the places."""
    variables, redirects = PLACES[place]
    variables = euckr if place == "EUC-KR" else variables
    shell = ["sh", "-c", f'exec "$@" {redirects}', "sh", sys.executable, "-m", "maskcls", module, *words]
    return subprocess.run(
        shell, cwd=folder, env=environment(**variables), capture_output=True, check=False, timeout=300
    )


QUICK = {
    "run --help": 0, "run --cfg job data.root=/abc": 0, "run loss=focla": 2, "run -sc query=bash": 0,
    "predict --help": 0, "reproduce --help": 0, "sync runs_dir=nowhere": 2, "options --help": 0,
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("line", [line if "focla" in line else pytest.param(line, marks=pytest.mark.slow) for line in QUICK])
def test_a_command_ends_as_elsewhere(line: str, place: str, euckr: dict[str, str], tmp_path: Path) -> None:
    result = call(place, euckr, tmp_path, *line.split())
    assert b"Traceback" not in result.stderr and b"rror in" not in result.stderr
    assert result.returncode == QUICK[line], result.stderr
    assert (
        result.stdout or result.stderr or place == "nothing" or f"no std{'out' if QUICK[line] == 0 else 'err'}" == place
    )


@pytest.mark.parametrize("place", ["EUC-KR", "C", "ASCII"])
def test_letters_that_a_terminal_lacks_are_escaped(place: str, euckr: dict[str, str], tmp_path: Path) -> None:
    result = call(
        place, euckr, tmp_path, "run", "loss=ñ데".encode("utf-8" if place == "ASCII" else "ascii", "replace").decode()
    )
    assert result.returncode == 2 and b"unknown loss" in result.stderr and b"Traceback" not in result.stderr


def test_what_standard_output_lacks_is_escaped(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "maskcls.run", "--cfg", "job", "-p", "data", "data.root=/ñ"]
    variables = environment(PYTHONIOENCODING="ascii", PYTHONUTF8="1")
    result = subprocess.run(words, cwd=tmp_path, env=variables, capture_output=True, check=False)
    assert result.returncode == 0 and rb"root: /\xf1" in result.stdout and not result.stderr


@pytest.fixture(scope="session")
def done(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run."""
    folder = tmp_path_factory.mktemp("done")
    words = [*TINY, "epochs=1", f"data.root={drawn}", f"runs_dir={folder}/runs", f"cache_dir={folder}/cache"]
    result = subprocess.run(
        [sys.executable, "-m", "maskcls.run", *words], env=environment(), cwd=folder, capture_output=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_training_prediction_and_tables_end_as_elsewhere(
    place: str, euckr: dict[str, str], done: Path, drawn: Path, tmp_path: Path
) -> None:
    (run,) = (done / "runs").glob("t-*")
    words = [*TINY, "epochs=1", "fold=0", "name=u", f"data.root={drawn}", f"cache_dir={drawn}/cache"]
    lines = {
        "run": words, "predict": [f"runs=[{run}]", f"out={tmp_path}/s.csv"], "compare": [f"runs={run}"],
        "options": ["group=loss"],
    }  # fmt: skip
    for module, arguments in lines.items():
        result = call(place, euckr, tmp_path, module, *arguments)
        assert (result.returncode, b"Traceback" in result.stderr) == (0, False), (module, result.stderr)
        assert b"\xe2\x80\xa6" not in result.stdout, "a number was cut"


@pytest.mark.slow
def test_data_with_korean_names_in_a_locale_without_them_is_a_sentence(drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "사진").mkdir()
    (source,) = drawn.glob("people-*")
    photo = next(source.rglob("mask1.*"))
    lines = [f"사진/{i}{photo.suffix},{i % 18}\n" for i in range(40)]
    for i in range(40):
        shutil.copy(photo, tmp_path / "사진" / f"{i}{photo.suffix}")
    (tmp_path / "t.csv").write_text("path,label\n" + "".join(lines), encoding="utf-8")
    words = [word for word in TINY if not word.startswith("data.")]
    result = call("C", {}, tmp_path, "run", *words, "data=table", "data.file=t.csv", "epochs=1")
    assert result.returncode == 2 and b"Traceback" not in result.stderr, result.stderr
    assert b"this locale (ascii) cannot encode some characters above. Set PYTHONUTF8=1" in result.stderr


def test_an_argument_that_the_locale_cannot_read_is_a_sentence(tmp_path: Path) -> None:
    variables = environment(**PLACES["C"][0])
    words = [sys.executable, "-m", "maskcls.run", "data.root=/데이터".encode()]
    result = subprocess.run(words, cwd=tmp_path, env=variables, capture_output=True, check=False)
    assert result.returncode == 2 and b"Set PYTHONUTF8=1" in result.stderr and b"Traceback" not in result.stderr


def test_a_full_disk_behind_standard_output_is_a_sentence(tmp_path: Path) -> None:
    shell = ["sh", "-c", f"exec {sys.executable} -m maskcls.run --cfg job > /dev/full"]
    result = subprocess.run(shell, cwd=tmp_path, env=environment(), capture_output=True, check=False)
    assert result.returncode == 2 and b"cannot write to standard output" in result.stderr and b"Traceback" not in result.stderr


def test_a_folder_that_is_gone_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    shell = ["sh", "-c", f"rmdir ../gone && exec {sys.executable} -m maskcls.run --cfg job"]
    result = subprocess.run(shell, cwd=tmp_path / "gone", env=environment(), capture_output=True, check=False)
    assert result.returncode == 2 and b"current folder" in result.stderr and b"Traceback" not in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["/proc", "/sys"])
def test_a_folder_that_cannot_be_written_to_is_a_sentence(folder: str, drawn: Path) -> None:
    words = [sys.executable, "-m", "maskcls.run", *TINY, f"data.root={drawn}"]
    result = subprocess.run(words, cwd=folder, env=environment(), capture_output=True, check=False)
    assert result.returncode == 2 and b"runs_dir" in result.stderr and b"Traceback" not in result.stderr


def test_a_narrow_table_cuts_no_number(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "console", Console(width=40, highlight=False, soft_wrap=True))
    row = ["a-run-with-a-long-name", *[f"0.{i}234 [0.1{i}, 0.9{i}]" for i in range(6)]]
    console.print_table("a title", ["run", *"abcdef"], [row])
    out = capsys.readouterr().out
    assert "…" not in out and all(word in out for cell in row[1:] for word in cell.split())
    letters = "".join(line.split("│")[1].strip() for line in out.splitlines() if "│" in line)
    assert letters == row[0], "a name was cut"
