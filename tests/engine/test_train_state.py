"""State: the moving average against its formula, learning rates by depth, the epochs that are chosen, restoring to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.core.errors import RunError
from maskcls.engine.fold import remove_unused_weights
from maskcls.engine.train_state import TrainState, build_train_state
from maskcls.engine.training_loop import backward_and_step
from maskcls.inference.forward import autocast
from maskcls.storage.checkpoint import average_weights
from maskcls.storage.run import Run

SIZE = (32, 24)


def state(*words: str) -> tuple[object, TrainState]:
    """Return a config and the state it builds, of a tiny network."""
    cfg = validate(
        compose("name=t", "model=timm", "model.arch=test_efficientnet", "hardware=cpu", "batch_size=4", *words)
    )
    return cfg, build_train_state(cfg, cfg.head.build(), cfg.hardware.build(), SIZE, 0)


def step(cfg: object, one: TrainState, seed: int) -> None:
    """Take one step on random photos."""
    torch.manual_seed(seed)
    one.step += 1
    backward_and_step(cfg, one, one.model(torch.randn(4, 3, *SIZE)).square().mean(), 1, 1)  # type: ignore[arg-type]


def test_the_moving_average_follows_its_formula() -> None:
    cfg, one = state("ema=0.6")
    shadow = [parameter.detach().clone() for parameter in one.model.parameters()]
    for i in range(1, 7):
        step(cfg, one, i)
        age = max(i - 1, 0)  # warm-up: 1 − (1 + age)^(−2/3), at most the decay
        decay = min(1 - (1 + age) ** (-2 / 3), 0.6) if age else 0.0
        shadow = [
            decay * old + (1 - decay) * new.detach() for old, new in zip(shadow, one.model.parameters(), strict=True)
        ]
        for expected, found in zip(shadow, one.eval_model.parameters(), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert any(not torch.equal(a, b) for a, b in zip(one.model.parameters(), one.eval_model.parameters(), strict=True))


def test_a_restored_state_takes_the_same_steps_to_the_bit(tmp_path: Path) -> None:
    cfg, one = state("ema=0.9", "optimizer=adamp")
    for i in range(3):
        step(cfg, one, i)
    one.history += [0.1, 0.3]
    one.save(tmp_path / "last.pt")
    _, two = state("ema=0.9", "optimizer=adamp", "seed=7")
    two.load(tmp_path / "last.pt")
    for i in range(3, 6):
        step(cfg, one, i)
        step(cfg, two, i)
    assert two.history == one.history and (two.step, two.updates) == (one.step, one.updates) == (6, 6)
    for a, b in ((one.model, two.model), (one.eval_model, two.eval_model)):
        assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize(("batches", "accumulate"), [(7, 2), (6, 2), (5, 1), (7, 3)])
def test_the_moving_average_counts_the_optimizers_steps(
    batches: int, accumulate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg, one = state("ema=0.9", f"grad_accum_steps={accumulate}")
    told: list[int] = []
    monkeypatch.setattr(one.ema, "update", lambda model, step: told.append(step))
    for _ in range(2):
        for count in range(1, batches + 1):
            one.step += 1
            backward_and_step(cfg, one, one.model(torch.randn(4, 3, *SIZE)).square().mean(), count, batches)  # type: ignore[arg-type]
    assert told == list(range(1, 2 * -(-batches // accumulate) + 1)) and one.updates == told[-1]
    assert one.step == 2 * batches


def test_a_step_that_fp16_skips_moves_no_weight_and_is_counted() -> None:
    cfg, one = state("ema=0.9", "precision=fp16")
    one.scaler = torch.amp.GradScaler("cpu", 2.0**127)  # any gradient overflows
    before = [parameter.detach().clone() for parameter in one.eval_model.parameters()]
    step(cfg, one, 0)
    step(cfg, one, 1)
    assert (one.step, one.updates, one.skipped) == (2, 0, 2) and one.scaler.get_scale() == 2.0**125
    for weights in (one.model.parameters(), one.eval_model.parameters()):
        assert all(torch.equal(a, b) for a, b in zip(before, weights, strict=True))
    one.scaler = torch.amp.GradScaler("cpu", 2.0**10)
    step(cfg, one, 2)
    assert (one.step, one.updates, one.skipped) == (3, 1, 2)
    assert any(not torch.equal(a, b) for a, b in zip(before, one.model.parameters(), strict=True))


def test_fp16_learns_from_its_first_step() -> None:
    cfg, one = state("precision=fp16")
    objective = cfg.head.build().build_criterion(cfg.loss.build, torch.ones(18))  # type: ignore[attr-defined]
    for seed in range(3):  # at torch's own first scale of 2^16 they are all skipped
        torch.manual_seed(seed)
        with autocast(torch.device("cpu"), "fp16"):
            logits = one.model(torch.randn(8, 3, *SIZE))
        one.step += 1
        backward_and_step(cfg, one, objective(logits, torch.eye(18)[torch.randint(0, 18, (8,))]), 1, 1)  # type: ignore[arg-type]
    assert (one.updates, one.skipped) == (3, 0)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "adamp", "madgrad"])
def test_an_optimizers_state_of_other_weights_is_refused(name: str, tmp_path: Path) -> None:
    cfg, one = state(f"optimizer={name}")
    step(cfg, one, 0)
    one.save(tmp_path / "last.pt")
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    states = content["optimizer"]["state"]
    states[0], states[2] = states[2], states[0]
    torch.save(content, tmp_path / "last.pt")
    _, two = state(f"optimizer={name}")
    with pytest.raises(RunError, match=r"last.pt does not fit this run \(.* shape "):
        two.load(tmp_path / "last.pt")


@pytest.mark.parametrize(("changed", "message"), [
    ({"history": "none"}, "history: expected a list of scores up to 1, got 'none'"),
    ({"history": [0.5, 7.0]}, "history: expected a list of scores up to 1, got 7.0"),
    ({"optimizer": {"weight_decay": 7.0}}, "optimizer weight_decay: expected "),
])  # fmt: skip
def test_a_wrong_value_of_a_saved_state_is_named(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    _, one = state()
    one.save(tmp_path / "last.pt")
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    for key, value in changed.items():
        if key == "optimizer":
            content[key]["param_groups"][0] |= value
        else:
            content[key] = value
    torch.save(content, tmp_path / "last.pt")
    with pytest.raises(RunError) as caught:
        state()[1].load(tmp_path / "last.pt")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("mine", "theirs", "reason"),
    [("ema=0.9", "ema=null", "expected no EMA weights"), ("ema=null", "ema=0.9", "expected EMA weights")],
)
def test_a_moving_average_is_not_passed_over(mine: str, theirs: str, reason: str, tmp_path: Path) -> None:
    state(mine)[1].save(tmp_path / "last.pt")
    with pytest.raises(RunError, match=reason):
        state(theirs)[1].load(tmp_path / "last.pt")


def test_layer_decay_gives_deeper_layers_larger_steps() -> None:
    _, one = state("layer_decay=0.5", "optimizer.lr=0.1")
    one.set_lr(0.5)
    rates = {id(p): group["lr"] for group in one.optimizer.param_groups for p in group["params"]}
    own = dict(one.model.named_parameters())
    assert set(rates) == {id(parameter) for parameter in own.values()}
    first, last = rates[id(own["conv_stem.weight"])], rates[id(own["classifier.weight"])]
    assert last == pytest.approx(0.05) and 0 < first < last
    assert one.lr == last, "what is logged is the rate of the config"


def test_the_chosen_epochs_are_the_best_or_the_last() -> None:
    _, one = state()
    one.history += [0.1, 0.5, 0.3, 0.5, 0.2]
    assert one.selected_epochs("best", 1) == [2] and one.selected_epochs("best", 3) == [2, 3, 4]
    assert (
        one.selected_epochs("last", 1) == [5]
        and one.selected_epochs("last", 2) == [4, 5]
        and one.selected_epochs("last", 9) == [1, 2, 3, 4, 5]
    )
    assert one.out_of_patience(3) and not one.out_of_patience(4) and not one.out_of_patience(None)


@pytest.mark.parametrize(
    ("scores", "min_delta", "waited"),
    [
        ([], 0.0, 0), ([0.1], 0.0, 0), ([0.1, 0.2, 0.2], 0.0, 1), ([-0.9, -0.7, -0.8, -0.75], 0.0, 2),
        ([0.1, 0.14, 0.18], 0.05, 0), ([0.1, 0.14, 0.14], 0.05, 2), ([-2.0, -1.96, -1.97, -1.95], 0.05, 3),
    ],
)  # fmt: skip
def test_a_gain_must_exceed_the_smallest_one(scores: list[float], min_delta: float, waited: int) -> None:
    _, one = state()
    one.history += scores
    for patience in range(1, 5):
        assert one.out_of_patience(patience, min_delta) == (waited >= patience)


def test_weights_are_averaged_number_by_number(tmp_path: Path) -> None:
    files = []
    for i in range(3):
        files.append(tmp_path / f"epoch{i}.pt")
        torch.save({"model": {"w": torch.full((2,), float(i)), "n": torch.tensor(i)}}, files[-1])
    mean = average_weights(files)
    assert torch.equal(mean["w"], torch.ones(2)) and int(mean["n"]) == 2


@pytest.mark.slow
def test_a_compiled_model_learns_too(tiny: list[str], tmp_path: Path) -> None:
    from maskcls.engine.runner import run

    words = ("model.arch=mobilenetv3_small_050", "epochs=1", "fold=0", "hardware.compile=true")
    assert 0 <= run(compose(*tiny, *words)) <= 1


def test_of_the_epochs_only_the_wanted_weights_stay(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.fold_dir(1).mkdir()
    for name in ("epoch1.pt", "epoch2.pt", "epoch12.pt", "best.pt", "last.pt"):
        (run.fold_dir(1) / name).touch()
    remove_unused_weights(run, 1, [2, 12])
    assert {file.name for file in run.fold_dir(1).iterdir()} == {"epoch2.pt", "epoch12.pt", "best.pt", "last.pt"}
    remove_unused_weights(run, 1, ())
    assert {file.name for file in run.fold_dir(1).iterdir()} == {"best.pt", "last.pt"}


def test_the_last_step_of_an_epoch_moves_to_lookaheads_slow_weights() -> None:
    cfg, one = state("optimizer=timm", "optimizer.opt=lookahead_sgd", "optimizer.lr=0.1")
    for count in range(1, 9):
        one.step += 1
        backward_and_step(cfg, one, one.model(torch.randn(4, 3, *SIZE)).square().mean(), count, 8)  # type: ignore[arg-type]
        slow = [entry.get("lookahead_slow_buff") for entry in one.optimizer.state_dict()["state"].values()]
        is_slow = all(
            value is not None and torch.equal(value, parameter)
            for value, parameter in zip(slow, one.model.parameters(), strict=True)
        )
        assert is_slow == (count in (6, 8)), count
