"""The shape of the project: imports only go down, words and modules agree, README's commands compose."""

from __future__ import annotations

import ast
import configparser
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from maskcls.cli import options, table
from maskcls.cli.options import options_table
from maskcls.config.compose import compose
from maskcls.config.config_folders import resource_dir
from maskcls.config.groups import GROUPS, MODULES
from maskcls.config.option_list import list_keys
from maskcls.config.validation import to_container, validate
from maskcls.core.config import Config
from maskcls.core.schema import option_descriptions, option_fields
from maskcls.inference.predict import PredictConfig
from maskcls.ladder.rungs import LADDERS
from maskcls.ladder.tables import markdown_tables

TOP = Path(__file__).parent.parent
LEVELS = {
    "core": 1, "ops": 1, "system": 2, "imaging": 3, "evaluation": 3, "storage": 4, "synthetic": 4, "components": 5, "reporting": 5,
    "config": 6, "data": 6, "inference": 7, "engine": 8, "ladder": 9, "search": 9, "benchmark": 9, "cli": 10, "run": 11, "__main__": 11,
}  # fmt: skip


def imported_folders(file: Path) -> set[str]:
    """Return the folders (or modules at the top) of the package that a file imports, at its top or within functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "maskcls":
            rest = node.module.split(".")[1:2]
            found |= set(rest or [alias.name for alias in node.names])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("maskcls.")}
    return found


@pytest.mark.parametrize("file", sorted((TOP / "maskcls").rglob("*.py")), ids=lambda path: str(path.relative_to(TOP)))
def test_imports_only_go_down(file: Path) -> None:
    own = file.relative_to(TOP / "maskcls").with_suffix("").parts[0]
    level = 8 if own == "__init__" else LEVELS[own]
    for folder in imported_folders(file) - {own}:
        assert LEVELS[folder] < level, f"{own} (level {level}) imports {folder}"


def test_no_two_test_files_have_one_name() -> None:
    """pytest imports a test file by its name alone, so a second one of that name is not collected."""
    names = [file.name for file in (TOP / "tests").rglob("*.py")]
    assert not {name for name in names if names.count(name) > 1}


def test_setup_cfg_lists_every_folder_of_the_package() -> None:
    cfg = configparser.ConfigParser()
    cfg.read(TOP / "setup.cfg", encoding="utf-8")
    listed = set(cfg["options"]["packages"].split()) - {"maskcls.conf", "maskcls.experiments"}
    assert listed == {".".join(file.parent.relative_to(TOP).parts) for file in (TOP / "maskcls").rglob("__init__.py")}


def test_the_folders_of_tests_are_those_of_the_package() -> None:
    folders = {file.parent.name for file in (TOP / "tests").glob("*/test_*.py")}
    assert folders - {"end_to_end"} <= LEVELS.keys() and len(folders) > 10
    assert not [file for file in (TOP / "tests").glob("test_*.py") if file.stem != "test_structure"]


UNIX = {
    "crypt",
    "curses",
    "fcntl",
    "grp",
    "nis",
    "ossaudiodev",
    "posix",
    "pty",
    "pwd",
    "readline",
    "resource",
    "spwd",
    "syslog",
    "termios",
    "tty",
}  # modules that Windows lacks


def imported_at_once(node: ast.AST) -> set[str]:
    """Return the modules that are imported when a file is, without those that a function imports when it is called."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return set()
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return {(node.module or "").split(".")[0]}
    return set().union(*map(imported_at_once, ast.iter_child_nodes(node)))


@pytest.mark.parametrize("file", sorted((TOP / "maskcls").rglob("*.py")), ids=lambda path: path.stem)
def test_no_module_that_windows_lacks_is_imported_with_the_package(file: Path) -> None:
    assert not imported_at_once(ast.parse(file.read_text())) & UNIX


def test_conf_groups_and_components_have_the_same_names() -> None:
    folders = {path.name for path in resource_dir("conf").iterdir() if path.is_dir() and not path.name.startswith("__")}
    folders -= {"hydra"}  # launchers
    modules = {path.stem for path in (TOP / "maskcls" / "components").glob("*.py")} - {"__init__"}
    assert folders == modules == set(GROUPS)
    assert [module.__name__.rsplit(".", 1)[1] for module in MODULES] == list(GROUPS)


@pytest.mark.parametrize("group", GROUPS)
def test_every_word_of_the_registry_has_a_file_and_every_file_composes(
    group: str, people: Path, tmp_path: Path
) -> None:
    files = {file.stem: yaml.safe_load(file.read_text()) for file in (resource_dir("conf") / group).glob("*.yaml")}
    assert {content["name"] for content in files.values()} == set(GROUPS[group].builders)
    assert set(GROUPS[group].builders) <= set(files)
    (tmp_path / "t.csv").write_text("path,label\n")
    (tmp_path / "eval.csv").write_text("id\n")
    given = {
        "timm": [{"model": "model.arch=resnet18"}.get(group, "optimizer.opt=lion")],
        "attributes": ["task.attributes=[{name: colour, values: [red, blue]}]"],
        "table": [f"{group}.file={tmp_path}/t.csv"],
        "competition": [f"data.root={people}"],
        "folder": [f"extra.root={tmp_path}"],
        "confident": [f"pseudo.run={tmp_path}"],
        "distil": [f"pseudo.runs=[{tmp_path}]"],
        "weighted": [],
    }
    for word in files:
        faults: list[str] = []
        words = [f"{group}={word}", *given.get(word, [])]
        if group == "blend":  # a word of maskcls.predict
            raw = compose(
                "runs=[a]", *words, *(["blend.weights=[1.0]"] if word == "weighted" else []), config="predict"
            )
        else:
            raw = compose("name=t", *words)
        found = GROUPS[group].check(to_container(raw)[group], faults)
        assert found and found.name == files[word]["name"], faults


def test_every_key_and_parameter_has_a_line_in_words_and_every_line_a_parameter() -> None:
    for config, kind in {"config": Config, "predict": PredictConfig}.items():
        assert [key.name for key in list_keys(kind, config) if not is_sentence(key.description)] == []
    for registry in GROUPS.values():
        for build in registry.builders.values():
            lines, where = option_descriptions(build), f"Args: of {build.__module__}.{build.__name__}"
            each = [p.name for p in inspect.signature(build).parameters.values() if p.kind is p.VAR_KEYWORD]
            assert list(lines) == [*option_fields(build), *each], where  # `**weights`: one line for all attributes
            assert [name for name, line in lines.items() if not is_sentence(line)] == [], where


def is_sentence(line: str) -> bool:
    """Return True if a description has two words or more and fits on a line."""
    return len(re.findall(r"[a-z]+", line)) > 1 and 10 <= len(line) <= 110 and not line.endswith(".")


def test_the_experiments_page_holds_the_table_of_options() -> None:
    text, (begin, end) = (TOP / "experiments" / "README.md").read_text(encoding="utf-8"), options.MARKERS
    assert text.split(begin)[1].split(end)[0].strip() == options_table()


def test_the_experiments_page_holds_the_tables_of_the_ladders() -> None:
    text, (begin, end) = (TOP / "experiments" / "README.md").read_text(encoding="utf-8"), table.MARKERS
    found = [markdown_tables(resource_dir("experiments") / "results", ladder) for ladder in LADDERS]
    assert text.split(begin)[1].split(end)[0].strip() == "\n\n".join(filter(None, found)).strip()


def commands() -> list[str]:
    """Return the run commands of README and of the page of experiments, without their comments."""
    text = (TOP / "README.md").read_text() + (TOP / "experiments" / "README.md").read_text()
    return re.findall(r"^(?:\$ )?python -m maskcls\.run ([^#\n]+)", text, re.MULTILINE)


@pytest.mark.parametrize("words", commands())
def test_every_command_of_readme_composes(
    words: str, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASKCLS_DATA", str(people))
    monkeypatch.chdir(tmp_path)
    for name in ("photos.csv", "data/digits/digits.csv"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("path,label\n")
    given = [word for word in shlex.split(words) if not word.startswith(("-", "hydra", "data.root"))]
    for name in ("runs/effnet_lite0-1a2b3c4d", "outside"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("metrics.json", "eval.csv"):
        (tmp_path / "runs/effnet_lite0-1a2b3c4d" / name).write_text("id\n")
    swept = [word if {*"[{"} & {*word} else word.split(",")[0] for word in given if "glob(" not in word]
    assert validate(compose("name=t", *swept))


WORDS_OF_ONE_TASK = re.compile(r"(?<![a-z])(masks?|genders?|ages?)(?![a-z])", re.IGNORECASE)
PACKAGE = TOP / "maskcls"
COMPETITIONS_OWN = {  # the data of the competition, and what is drawn like it
    "core/competition.py", "components/sources/competition_layout.py", "components/data.py", "components/extra.py", "components/overlay.py",
    "components/split.py", "reporting/limits_of_use.py", "benchmark/scaling.py", "synthetic/appearance.py", "synthetic/dataset.py",
}  # fmt: skip
NAMES_THAT_STAY = {"ages", "eval_ages", "predict_ages", "drawn masks"}  # arrays on disk, a method, a kind of cache


def test_only_the_competitions_own_modules_know_the_words_of_its_task() -> None:
    modules = [path for path in PACKAGE.rglob("*.py") if str(path.relative_to(PACKAGE)) not in COMPETITIONS_OWN]
    assert {str(path): words for path in modules if (words := list(task_words(path)))} == {}


def test_each_of_the_competitions_own_modules_needs_its_words() -> None:
    assert [name for name in COMPETITIONS_OWN if not any(task_words(PACKAGE / name))] == []


def task_words(path: Path) -> Iterator[str]:
    """Yield the strings and names of a module that speak of masks, genders or ages; a name `mask` may be an array of True and False."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    docstrings = {body[0].value for body in bodies if body and isinstance(body[0], ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
            text = node.value.replace("overlay=masks", "")
            yield from [text] if WORDS_OF_ONE_TASK.search(text) and text not in NAMES_THAT_STAY else []
        names = [getattr(node, key, None) for key in ("id", "arg", "attr", "name")]
        for name in [name for name in names if isinstance(name, str) and name not in NAMES_THAT_STAY]:
            found = WORDS_OF_ONE_TASK.search(name.replace("_", " "))
            yield from [name] if found and not found[1].lower().startswith("mask") else []
