"""Plugins: error messages with the plugin, the function and the expected signature."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_tasks import TWO

from maskcls.config.groups import GROUPS
from maskcls.config.plugins import builder_error, import_plugins
from maskcls.core.errors import ConfigError, RunError, as_user_error
from maskcls.core.registry import Registry
from maskcls.core.task import Attribute, Task
from maskcls.imaging.face_detection import import_optional

NAME = "a_plugin_of_the_tests"
HEAD = "from __future__ import annotations\nimport torch\nfrom typing import Any, Literal\nfrom maskcls.components.loss import registry\n"
EXPECTED = "; expected def mine(class_counts, *, option: type = default), got mine("
WRONG = {
    "no star": ("@registry.register\ndef mine(counts, power: float = 2.0): ...", "mine: loss builders take (class_counts) and keyword-only options" + EXPECTED),
    "nothing before the star": ("@registry.register\ndef mine(*, power: float = 2.0): ...", "mine: loss builders take (class_counts)"),
    "no parameter": ("@registry.register\ndef mine(): ...", "mine: loss builders take (class_counts)"),
    "no annotation": ("@registry.register\ndef mine(counts, *, power=2.0): ...", "mine: the option 'power' has no type" + EXPECTED),
    "an unknown annotation": ("@registry.register\ndef mine(counts, *, power: Flaot = 2.0): ...", "mine: cannot evaluate a type (NameError: name 'Flaot' is not defined)"),
    "an annotation that is no type": ("@registry.register\ndef mine(counts, *, power: 3 = 2.0): ...", "mine: a type"),
    "an annotation that raises": ("@registry.register\ndef mine(counts, *, power: 1 / 0 = 2.0): ...", "mine: cannot evaluate a type (ZeroDivisionError"),
    "a type of no config": ("@registry.register\ndef mine(counts, *, power: torch.Tensor = None): ...", "mine: a type is not supported in a config"),
    "any option": ("@registry.register\ndef mine(counts, **options): ...", "mine: the option '**options' has no type" + EXPECTED),
    "a word for each attribute": ("@registry.register\ndef mine(counts, **words: str): ...", "mine: the type of ** must allow 1.0, the default of each attribute of the task" + EXPECTED),
    "a type of no config for each attribute": ("@registry.register\ndef mine(counts, **weights: torch.Tensor): ...", "mine: a type is not supported in a config"),
    "not callable": ("registry.register(3)", "loss: expected a function to register, got 3 (PLUGIN, line 5)"),
    "a class": ("@registry.register\nclass mine:\n    pass", "loss: expected a function to register, got <class"),
    "a name of ours": ("@registry.register\ndef focal(counts): ...", "NAME.focal: loss=focal is already registered by maskcls.components.loss.focal. Rename one (PLUGIN, line 5)"),
    "a name of ours with a bar": ("@registry.register\ndef ce_(counts): ...", "NAME.ce_: loss=ce is already registered by maskcls.components.loss.ce"),
    "a name twice": ("@registry.register\ndef mine(counts): ...\n@registry.register\ndef mine(counts): ...", "NAME.mine: loss=mine is already registered by NAME.mine"),
    "an error at import": ("1 / 0", "cannot import 'NAME': ZeroDivisionError: division by zero (PLUGIN, line 5)"),
    "an exit at import": ("raise SystemExit('bye')", "cannot import 'NAME': SystemExit: bye (PLUGIN, line 5)"),
    "no Python": ("def (", "cannot import 'NAME': invalid syntax (PLUGIN, line 5)"),
    "a package that is not installed": ("import not_there", "cannot import 'NAME': No module named 'not_there' (PLUGIN, line 5)"),
    "an option of a sampler without a star": ("from maskcls.components import sampler\n@sampler.registry.register\ndef mine(labels, power: float = 0.5): ...",
        "mine: sampler builders take (labels), optionally people, and keyword-only options"),
    "a sampler of one input too many": ("from maskcls.components import sampler\n@sampler.registry.register\ndef mine(labels, people, more): ...",
        "mine: sampler builders take (labels), optionally people, and keyword-only options; expected def mine(labels, *, option: type = default)"),
    "two faults": ("@registry.register\ndef mine(): ...\n@registry.register\ndef other(counts, *, a=1): ...", "other: the option 'a' has no type"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def restore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(tmp_path)
    for registry in GROUPS.values():
        monkeypatch.setattr(registry, "builders", dict(registry.builders))
    yield
    sys.modules.pop(NAME, None)


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_plugin_is_a_sentence_each_time_and_registers_nothing(kind: str, tmp_path: Path) -> None:
    code, sentence = WRONG[kind]
    (tmp_path / f"{NAME}.py").write_text(HEAD + textwrap.dedent(code) + "\n", encoding="utf-8")
    before = dict(GROUPS["loss"].builders)
    for _ in range(2):
        with pytest.raises(ConfigError) as caught:
            import_plugins([NAME], GROUPS)
        text = str(caught.value)
        assert sentence.replace("PLUGIN", f"{NAME}.py").replace("NAME", NAME) in text
        assert all(line.startswith("plugins: ") and NAME in line for line in caught.value.messages)
        assert GROUPS["loss"].builders == before


def test_a_right_plugin_of_many_groups_registers(tmp_path: Path) -> None:
    code = """
    from maskcls.components import crop, optimizer, sampler
    @registry.register
    def mine(counts: torch.Tensor, *, power: float = 2.0, kind: Literal["a", "b"] = "a"): ...
    @optimizer.registry.register
    def slow(*all: Any, lr: float): ...
    @sampler.registry.register
    def by_label(labels): ...
    @sampler.registry.register
    def by_person(labels, people, *, size: int = 2): ...
    @crop.registry.register
    def odd(*, height: int = 3): ...
    """
    (tmp_path / f"{NAME}.py").write_text(HEAD + textwrap.dedent(code), encoding="utf-8")
    for _ in range(2):
        import_plugins([NAME], GROUPS)
        assert (
            "mine" in GROUPS["loss"].builders
            and "slow" in GROUPS["optimizer"].builders
            and "odd" in GROUPS["crop"].builders
            and {"by_label", "by_person"} <= GROUPS["sampler"].builders.keys()
        )
    sys.modules.pop(NAME)  # imported anew, it takes its own place
    import_plugins([NAME], GROUPS)


def test_every_builder_of_ours_has_the_signature_that_plugins_must_have() -> None:
    for registry in GROUPS.values():
        assert isinstance(registry, Registry)
        assert [error for build in registry.builders.values() if (error := builder_error(build, registry))] == []


@pytest.mark.parametrize("code", ["raise RuntimeError('half built')", "import not_there", "def ("])
def test_a_broken_package_of_a_detector_is_a_sentence(code: str, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.py").write_text(code + "\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"^detector mtcnn: .*pip install 'maskcls\[faces\]'"):
        import_optional("mtcnn", NAME)


def test_a_package_that_cannot_be_imported_is_a_sentence_and_a_module_of_ours_a_trace() -> None:
    missing = as_user_error(ModuleNotFoundError("No module named 'cv2'", name="cv2"))
    assert isinstance(missing, RunError) and re.search(r"^cannot import cv2 .*Reinstall package opencv-\S+$", str(missing))
    with pytest.raises(ImportError):
        as_user_error(ImportError("cannot import name 'x'", name="maskcls.cli"))


def test_a_plugin_may_have_a_parameter_for_each_attribute(tmp_path: Path) -> None:
    code = """
    @registry.register
    def each(counts: torch.Tensor, *, power: float = 2.0, **weights: float): return weights
    """
    (tmp_path / f"{NAME}.py").write_text(HEAD + textwrap.dedent(code), encoding="utf-8")
    import_plugins([NAME], GROUPS)
    faults: list[str] = []
    found = GROUPS["loss"].check({"name": "each", "glasses": 3.0}, faults, task=TWO)
    assert found and not faults and found.params == {"power": 2.0, "glasses": 3.0, "colour": 1.0}
    assert found.build(None) == {"glasses": 3.0, "colour": 1.0}
    assert GROUPS["loss"].check({"name": "each", "age": 3.0}, faults, task=TWO) is None
    assert len(faults) == 1 and "unknown parameter 'age' of loss=each" in faults[0]
    clash = Task((Attribute("power", ("low", "high")),))
    assert GROUPS["loss"].check({"name": "each"}, faults, task=clash) is None
    assert faults[1] == "task.attributes: loss=each has an option power of its own. Choose another name for attribute 'power'"
