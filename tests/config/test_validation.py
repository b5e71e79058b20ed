"""Config validation: all errors at once, defaults, and the hash of the values that change results."""

from __future__ import annotations

import copy
import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from made_tasks import STAGES, TWO

from maskcls.components import data, loss
from maskcls.config.compose import compose
from maskcls.config.groups import GROUPS
from maskcls.config.validation import validate
from maskcls.core.competition import MASK18
from maskcls.core.config import NOT_HASHED, UNHASHED_OPTIONS, Config
from maskcls.core.errors import ConfigError
from maskcls.core.task_options import describe_task
from maskcls.storage.run import run_content
from maskcls.system.files import content_hash

Raw = dict[str, Any]
QUICK = ("name=t", "model=timm", "model.arch=test_resnet")


@pytest.fixture(scope="module")
def base() -> Raw:
    return validate(compose(*QUICK)).to_dict()


def changed(base: Raw, path: str, value: Any) -> Raw:
    raw = copy.deepcopy(base)
    *parents, last = path.split(".")
    place = raw
    for key in parents:
        place = place[key]
    place[last] = value
    return raw


def sign(raw: Any) -> str:
    return content_hash(run_content(validate(raw)))


def sentences(*overrides: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        validate(compose(*QUICK, *overrides))
    return caught.value.messages


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ("loss=focal loss.gama=1", "unknown parameter 'gama' of loss=focal, did you mean 'gamma'?"),
        ("loss=focal loss.gamma=high", "loss.gamma (focal): expected float, got 'high'"),
        ("loss=focal loss.gamma=-1", "loss.gamma (focal) must be at least 0, got -1"),
        ("loss=focla", "unknown loss 'focla', did you mean 'focal'?"),
        ("loss.class_weights=[1,0,1]", "loss.class_weights (ce) must be greater than 0, got 0"),
        ("loss.class_weights=[1,a]", "loss.class_weights (ce): expected float, got 'a'"),
        ("loss.name=focla", "unknown loss 'focla', did you mean 'focal'?"),
        ("loss.class_weights=invers", "loss.class_weights (ce): unknown value 'invers', did you mean 'inverse'?"),
        ("optimzer=sgd", "unknown key 'optimzer', did you mean 'optimizer'?"),
        ("epohcs=3", "unknown key 'epohcs', did you mean 'epochs'?"),
        ("epochs=2.0", "epochs: expected int, got 2.0"),
        ("batch_size=0", "batch_size must be at least 1, got 0"),
        ("folds=1", "folds must be at least 2, got 1"),
        ("fold=5", "fold=5 is out of range: there are 5 folds, 0 to 4"),
        ("epochs=4 freeze_epochs=4 model.frozen=backbone", "freeze_epochs=4 must be less than epochs=4; without it, model.frozen is never trained"),
        ("freeze_epochs=2", "freeze_epochs=2 needs model.frozen, for example model.frozen=backbone"),
        ("model.frozen=3", "model.frozen (timm): expected list, got 3"),
        ("optimizer.head_lr=1", "unknown parameter 'head_lr' of optimizer=adamw, did you mean 'head_lr'?"),
        ("unfreeze_epoch=2", "unknown key 'unfreeze_epoch', did you mean 'freeze_epochs'?"),
        ("gradient_checkpointing=true", "unknown key 'gradient_checkpointing', did you mean 'model.grad_checkpointing'?"),
        ("size_schedule=[0.5,1.5]", "size_schedule must be at most 1, got 1.5"),
        ("crop.schedule=[0.5,1]", "unknown parameter 'schedule' of crop=resize, did you mean 'size_schedule'?"),
        ("fold=first", "fold: expected int, got 'first'"),
        ("precision=fp61", "precision: unknown value 'fp61', did you mean 'fp16'?"),
        ("select=bst", "select: unknown value 'bst', did you mean 'best'?"),
        ("name=a/b", "name: expected letters, digits, '_', '.' and '-' ('.' and '-' not first), got 'a/b'"),
        ("name=..", "name: expected letters, digits, '_', '.' and '-' ('.' and '-' not first), got '..'"),
        ("clip_grad=0", "clip_grad must be greater than 0, got 0"),
        ("scheduler=multistep scheduler.milestones=[1,a]", "scheduler.milestones (multistep): expected int, got 'a'"),
        ("scheduler=step scheduler.unit=epoch", "scheduler.unit (step): unknown value 'epoch', did you mean 'epochs'?"),
        ("model.arch=resnet18.tv", "model.arch (timm): unknown timm weights 'resnet18.tv', did you mean 'resnet18.tv_in1k'?"),
        ("model.arch=resnt18", "model.arch (timm): unknown timm architecture 'resnt18', did you mean 'resnet18'?"),
        ("model.pretrained=3", "model.pretrained (timm): expected bool (true or false) or str, got 3"),
        ("data=table", "data.file (table) has no default. Set data.file=…"),
        ("plugins=[no_such_module]", "plugins: cannot import 'no_such_module': No module named 'no_such_module'"),
    ],
)
def test_each_wrong_word_has_its_sentence(overrides: str, sentence: str) -> None:
    assert sentences(*overrides.split()) == (sentence,)


@pytest.mark.parametrize("word", ["loss=3", "loss=null", "loss=[ce"])
def test_what_hydra_itself_refuses_is_a_config_error_too(word: str) -> None:
    with pytest.raises(ConfigError):
        validate(compose(*QUICK, word))


def test_all_faults_are_told_at_once() -> None:
    told = sentences(
        "epochs=x", "bacth_size=3", "loss=focal", "loss.gama=1", "loss.label_smoothing=no", "optimizer.lr=0", "crop.width=-1"
    )
    assert sorted(told) == sorted(
        [
            "epochs: expected int, got 'x'",
            "unknown key 'bacth_size', did you mean 'batch_size'?",
            "unknown parameter 'gama' of loss=focal, did you mean 'gamma'?",
            "loss.label_smoothing (focal): expected float, got 'no'",
            "optimizer.lr (adamw) must be greater than 0, got 0",
            "crop.width (resize) must be at least 1, got -1",
        ]
    )


def test_a_missing_group_and_a_missing_value_are_faults(base: Raw) -> None:
    raw = {key: value for key, value in base.items() if key not in ("loss", "epochs")}
    with pytest.raises(ConfigError) as caught:
        validate(raw)
    assert len(caught.value.messages) == 2
    assert caught.value.messages[0] == "epochs has no default. Set epochs=…"
    assert caught.value.messages[1].startswith("loss: expected a section with a name, got None")


def test_defaults_of_the_code_are_filled_in() -> None:
    cfg = validate(compose(*QUICK, "loss=focal"))
    assert cfg.to_dict()["loss"] == {"name": "focal", "gamma": 2.0, "class_weights": "none", "label_smoothing": 0.0, "beta": 0.999}
    assert cfg.loss.params["gamma"] == 2.0
    assert cfg.hashed_items()["loss"] == cfg.to_dict()["loss"]


def test_a_filled_config_checks_to_itself(base: Raw) -> None:
    assert validate(copy.deepcopy(base)).to_dict() == base


def test_what_stands_in_a_default_may_be_said_without_changing_the_hash(base: Raw) -> None:
    assert sign(compose(*QUICK)) == sign(base) == sign(compose(*QUICK, "loss.label_smoothing=0", "crop.height=80"))


def test_the_order_of_keys_does_not_change_the_hash(base: Raw) -> None:
    assert sign(dict(reversed(base.items()))) == sign(base)


OTHER = {
    "name": "other", "fold": 2, "hardware": {"name": "cpu", "workers": 3}, "logger": {"name": "none"},
    "runs_dir": "elsewhere", "cache_dir": "elsewhere", "on_error": "skip", "train_score": True,
    "data.root": "elsewhere",
}  # fmt: skip


@pytest.mark.parametrize("path", OTHER)
def test_what_does_not_change_results_is_not_in_the_hash(base: Raw, path: str) -> None:
    assert sign(changed(base, path, OTHER[path])) == sign(base)


def test_every_word_that_is_outside_the_hash_was_tried() -> None:
    assert set(NOT_HASHED) == set(OTHER) - {"data.root"}


ROWS = "path,mask,gender,age,person\na.jpg,worn,male,30,p\nb.jpg,none,female,60,q\n"
SAME_ROWS: dict[str, tuple[str, Raw]] = {
    "as it is": (ROWS, {}),
    "absolute paths": (ROWS.replace("a.jpg", "{}/a.jpg").replace("b.jpg", "{}/b.jpg"), {}),
    "paths elsewhere": (ROWS.replace("a.jpg", "/elsewhere/a.jpg").replace("b.jpg", "/elsewhere/b.jpg"), {}),
    "other words": (ROWS.replace("gender", "sex").replace("female", "F").replace(",male", ",M"), {}),
    "given words": (ROWS.replace("mask", "m").replace("worn", "0"), {"columns": {"mask": "m"}, "values": {"mask": {"0": "worn"}}}),
    "another order": (ROWS.replace("a.jpg,worn,male,30,p\nb.jpg,none,female,60,q", "b.jpg,none,female,60,q\na.jpg,worn,male,30,p"), {}),
    "a spreadsheet's": ("\ufeff" + ROWS.replace(",", ";").replace("\n", "\r\n"), {}),
    "a column that is not read": (ROWS.replace("person", "person,note").replace(",p\n", ",p,x\n").replace(",q\n", ",q,\n"), {}),
}  # fmt: skip
OTHER_ROWS = {"age": ("60", "61"), "a person": ("q", "r"), "a name": ("a.jpg", "c.jpg"), "gender": (",male", ",female"),
              "a row less": ("b.jpg,none,female,60,q\n", ""), "a part": (ROWS, ROWS.replace("person", "part").replace(",p\n", ",eval\n").replace(",q\n", ",\n"))}  # fmt: skip


def sign_table(base: Raw, folder: Path, text: str, group: str = "data", **params: Any) -> str:
    """Return the hash of a config over a CSV of this text, in a folder of its own."""
    folder.mkdir()
    (folder / "t.csv").write_text(text.format(folder, folder) if "{}" in text else text)
    return sign(changed(base, group, {"name": "table", "file": str(folder / "t.csv"), **params}))


@pytest.mark.parametrize("how", SAME_ROWS)
def test_one_content_is_one_hash_wherever_and_however_a_table_lies(base: Raw, tmp_path: Path, how: str) -> None:
    text, params = SAME_ROWS[how]
    assert sign_table(base, tmp_path / "a", ROWS) == sign_table(base, tmp_path / "b", text, **params) != sign(base)


@pytest.mark.parametrize("group", ["data", "extra"])
@pytest.mark.parametrize("what", OTHER_ROWS)
def test_two_contents_of_a_table_are_two_hashes(base: Raw, tmp_path: Path, what: str, group: str) -> None:
    other = ROWS.replace(*OTHER_ROWS[what])
    assert sign_table(base, tmp_path / "a", ROWS, group) != sign_table(base, tmp_path / "b", other, group)


def test_two_lists_of_people_and_two_folders_are_two_hashes(base: Raw, people: Path, tmp_path: Path) -> None:
    for copy_of in "abc":
        (tmp_path / copy_of / "train").mkdir(parents=True)
        (tmp_path / copy_of / "train" / "train.csv").write_text("id,gender,race,age,path\n" + "1,male,Asian,30,x\n" * (copy_of == "c"))
    one, same, other = (sign(changed(base, "data", {"name": "competition", "root": str(tmp_path / name)})) for name in "abc")
    assert one == same != other
    one, same, other = (sign(changed(base, "extra", {"name": "folder", "root": str(tmp_path / name)})) for name in "abc")
    assert one == same == other  # no image in any
    (tmp_path / "b" / "30_0_x.jpg").write_bytes(b"")
    assert sign(changed(base, "extra", {"name": "folder", "root": str(tmp_path / "b")})) != one


def test_the_order_of_transforms_names_a_run_and_that_of_arguments_does_not(base: Raw) -> None:
    def named(transforms: Raw) -> str:
        return sign(changed(base, "augmentation", {"name": "albumentations", "transforms": transforms}))

    flip, turn = {"HorizontalFlip": {"p": 0.5}}, {"Rotate": {"limit": 9, "p": 0.5}}
    assert named(flip | turn) == named(flip | {"Rotate": {"p": 0.5, "limit": 9}}) != named(turn | flip)
    one, same, other = ({"OneOf": {"transforms": inside}} for inside in (flip | turn, [flip, turn], turn | flip))
    assert named(one) == named(same) != named(other)


def test_a_table_is_read_once_for_the_names_of_a_config_with_other_epochs(base: Raw, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(ROWS)
    cfg = validate(changed(base, "data", {"name": "table", "file": str(tmp_path / "t.csv")}))
    first = run_content(cfg)
    (tmp_path / "t.csv").unlink()
    assert run_content(dataclasses.replace(cfg, epochs=9)) == first | {"epochs": 9}


def test_the_digest_of_a_table_makes_as_many_calls_as_it_has_rows(tmp_path: Path) -> None:
    """A digest that compared rows with rows would take hours for a table of 19,000."""

    def count_calls(rows: int) -> int:
        lines = [f"{i // 7:06d}/mask{i % 7}.jpg,worn,female,{20 + i % 60},{i // 7:06d}" for i in range(rows)]
        (tmp_path / "t.csv").write_text("\n".join(["path,mask,gender,age,person", *lines]))
        calls: list[str] = []
        before = sys.getprofile()
        sys.setprofile(lambda frame, event, argument: calls.append(event))
        try:
            data.table_content(MASK18, file=str(tmp_path / "t.csv"), root=None, links=False, columns={}, values={})
        finally:
            sys.setprofile(before)
        return sum(event in ("call", "c_call") for event in calls)

    count_calls(700)  # fills what is cached
    few, many = count_calls(700), count_calls(2100)
    assert few < many < 3.1 * few and many < 100 * 2100


BORDERS = [*describe_task(MASK18)["attributes"][:2], {"name": "age", "borders": [30, 58]}]
INSIDE = {
    "seed": 1, "epochs": 5, "batch_size": 24, "folds": 3, "people": 9, "eval_fraction": 0.2, "select": "last", "precision": "bf16", "clip_grad": 1.0, "patience": 2,
    "monitor": "val_loss", "min_delta": 0.01,
    "plugins": ["json"], "data.people": 121, "data.seed": 1, "split": {"name": "holdout"}, "crop.width": 80,
    "augmentation.transforms": {}, "augmentation.p": 0.5, "sampler": {"name": "weighted"}, "model.arch": "test_vit",
    "model.drop_rate": 0.1, "model.frozen": ["conv1"], "model.normalize": "competition", "head": {"name": "single"},
    "extra": {"name": "folder", "root": "."}, "labels.border": 58, "overlay": {"name": "masks", "of": "train"},
    "mixing": {"name": "mixup"}, "tta": {"name": "flip"}, "average_epochs": 2, "grad_accum_steps": 2, "ema": 0.9, "layer_decay": 0.8,
    "head_lr": 0.1, "freeze_epochs": 1, "size_schedule": [0.5, 1.0], "ensemble_epochs": 2,
    "loss.label_smoothing": 0.1, "loss.beta": 0.9, "optimizer.lr": 3e-3, "scheduler.warmup": 1,
    "decision": {"name": "bias"}, "task": {"name": "attributes", "attributes": BORDERS},
}  # fmt: skip


@pytest.mark.parametrize("path", INSIDE)
def test_anything_else_changes_the_hash(base: Raw, path: str) -> None:
    if path == "freeze_epochs":  # has no meaning without it
        base = changed(base, "model.frozen", ["conv1"])
    assert sign(changed(base, path, INSIDE[path])) != sign(base)


def test_a_group_of_a_later_version_leaves_the_ids_of_runs_without_it(base: Raw) -> None:
    cfg = validate(base)
    assert UNHASHED_OPTIONS.keys() <= cfg.to_dict().keys() and not UNHASHED_OPTIONS.keys() & cfg.hashed_items().keys()


VALUES = [{"name": "mask", "values": ["on", "half", "off"]}, *describe_task(MASK18)["attributes"][1:]]
TASKS = [describe_task(TWO)["attributes"], describe_task(STAGES)["attributes"], VALUES, BORDERS]


@pytest.mark.parametrize("order", range(len(TASKS)))
def test_a_run_of_another_task_has_another_id_which_its_looks_do_not_change(order: int, base: Raw, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label\na.jpg,0\n")
    base = changed(base, "data", {"name": "table", "file": str(tmp_path / "t.csv")})
    base = changed(changed(base, "labels", {"name": "plain"}), "head", {"name": "triple"})
    signs = [sign(changed(base, "task", {"name": "attributes", "attributes": attributes})) for attributes in TASKS]
    assert len({*signs, sign(base)}) == len(TASKS) + 1
    shown = [{**attribute, "short": "x", "colour": "#0a0b0c"} | ({"unit": "weeks"} if attribute.get("borders") else {}) for attribute in TASKS[order]]
    assert sign(changed(base, "task", {"name": "attributes", "attributes": shown})) == signs[order]
    assert sign(changed(base, "task", {"name": "attributes", "attributes": TASKS[order], "group": "site"})) != signs[order]
    turned = {"name": "attributes", "attributes": TASKS[order][::-1]}
    assert sign(changed(base, "task", turned)) != signs[order], "the order of attributes is that of the classes"


def test_the_looks_of_the_competitions_attributes_leave_its_ids(base: Raw) -> None:
    shown = [{**attribute, "short": attribute["name"][0], "colour": "#0a0b0c"} for attribute in describe_task(MASK18)["attributes"]]
    assert sign(changed(base, "task.attributes", shown)) == sign(base) != sign(changed(base, "task.attributes", BORDERS))


def test_every_word_that_is_in_the_hash_was_tried() -> None:
    assert {path.split(".")[0] for path in INSIDE} | {"pseudo"} == set(Config.__dataclass_fields__) - set(NOT_HASHED)
    assert set(GROUPS) - {"blend"} <= set(Config.__dataclass_fields__)  # blend is a word of maskcls.predict


def test_a_new_default_in_the_code_changes_the_hash(base: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    def first(counts: torch.Tensor, *, power: float = 1.0) -> None: ...
    def second(counts: torch.Tensor, *, power: float = 2.0) -> None: ...

    raw, signs = changed(base, "loss", {"name": "mine"}), set()
    for build in (first, second):
        monkeypatch.setitem(loss.registry.builders, "mine", build)
        signs.add(sign(raw))
    assert len(signs) == 2


def test_a_plugin_brings_a_loss_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_losses_for_maskcls.py").write_text(
        "import torch\nfrom maskcls.components.loss import registry\n\n"
        "@registry.register\ndef mine(counts: torch.Tensor, *, power: float = 2.0):\n"
        "    return lambda logits, targets: ((logits.softmax(1) - targets).abs() ** power).sum()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(loss.registry, "builders", dict(loss.registry.builders))
    plugins = "plugins=[my_losses_for_maskcls]"
    try:
        cfg = validate(compose(*QUICK, plugins, "loss.name=mine", "loss.power=1.0"))
        value = cfg.loss.build(torch.ones(2))(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
        assert value.item() == pytest.approx(1.0)
        told = sentences(plugins, "loss.name=mine", "loss.pwoer=1.0")
        assert told == ("unknown parameter 'pwoer' of loss=mine, did you mean 'power'?",)
    finally:
        sys.modules.pop("my_losses_for_maskcls", None)


def test_without_its_plugin_the_word_is_unknown() -> None:
    assert sentences("loss.name=mine") == ("unknown loss 'mine', expected one of ce, f1, focal",)


def test_an_interpolation_that_leads_nowhere_is_a_sentence() -> None:
    with pytest.raises(ConfigError):
        validate(compose(*QUICK, "epochs=${nowhere}"))
