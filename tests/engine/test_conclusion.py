"""A stopped run is finished with the weights that it has, says so, and can still be trained to its end."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from maskcls.cli.compare import compare
from maskcls.config.compose import compose
from maskcls.config.groups import GROUPS
from maskcls.core.errors import RunError
from maskcls.engine import fold as folds
from maskcls.engine.conclusion import conclude, restore_config
from maskcls.engine.runner import run
from maskcls.inference.ensemble import blend_runs
from maskcls.reporting.sweep_table import print_sweep_table
from maskcls.storage.run import Run
from maskcls.system.files import file_lock


def stop_after(count: int, words: list[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a config, stop it after `count` epochs over all folds, as Ctrl-C does, and return its directory."""
    save, saved = folds.save_epoch, []

    def save_and_stop(*arguments: Any) -> None:
        save(*arguments)
        saved.append(1)
        if len(saved) == count:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(folds, "save_epoch", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            run(compose(*words))
    (folder,) = (path.parent for path in Path(words_dir(words)).glob("t-*/config.yaml"))
    return Run(folder)


def words_dir(words: list[str]) -> str:
    """Return the folder of the runs of a config."""
    return [word for word in words if word.startswith("runs_dir=")][-1].partition("=")[2]


def test_a_stopped_run_is_concluded_and_marked(
    tiny: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = stop_after(3, tiny, monkeypatch)
    score = conclude(stopped.id, str(stopped.path.parent), [])
    note = "concluded early: fold 0 after epoch 2, fold 1 after epoch 1 of 2. Scores are not those"
    assert note in " ".join(capsys.readouterr().out.split())
    metrics = stopped.metrics() or {}
    assert [row["epochs"] for row in metrics["folds"]] == [2, 1] and metrics["folds"][1]["concluded"] is True
    assert score == metrics["oof"]["f1"] and "concluded" not in metrics["folds"][0]
    assert len(stopped.predictions("oof").ids) == len(stopped.val_table)
    assert "concluded early" in stopped.report_path.read_text(encoding="utf-8")
    blend = GROUPS["blend"].check({"name": "mean"}, [])
    assert blend is not None
    for show in (
        lambda: compare([str(stopped.path)], "runs"),
        lambda: blend_runs(blend, [stopped]),
        lambda: print_sweep_table([(stopped.path, ["a=1"])]),
    ):
        capsys.readouterr()
        show()
        # a narrow table breaks the two words
        assert re.search(r"concluded\W+early", capsys.readouterr().out), "each place that shows its score says so"
    assert stopped.fold_predictions(1).is_concluded and not stopped.fold_predictions(0).is_concluded
    assert run(compose(*tiny)) == score
    assert "concluded early" in capsys.readouterr().out, "the finished run keeps its mark"


@pytest.mark.slow
def test_a_concluded_run_can_be_trained_to_its_end(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*tiny, "epochs=3", "average_epochs=2", "ema=0.5"]
    stopped = stop_after(5, words, monkeypatch)
    conclude(stopped.id, str(stopped.path.parent), [])
    stopped.metrics_path.unlink()
    for k in (0, 1):
        stopped.fold_predictions_path(k).unlink()
    run(compose(*words))
    run(compose(*words, f"runs_dir={tmp_path}/whole"))
    (whole,) = (tmp_path / "whole").glob("t-*")
    for name in ("metrics.json", "oof.csv", "eval.csv"):
        assert (whole / name).read_bytes() == (stopped.path / name).read_bytes()


def test_what_cannot_be_concluded_is_a_sentence(
    linked: tuple[list[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    one = Run(linked[1])
    assert conclude(str(one.path), "runs", []) == json.loads(one.metrics_path.read_text())["oof"]["f1"]
    assert "concluded early" not in capsys.readouterr().out, "it is finished already"
    one.metrics_path.unlink()
    for k in (0, 1):
        one.fold_predictions_path(k).unlink()
    with file_lock(one.lock_path(1)), pytest.raises(RunError, match="fold 1 is being trained by another process"):
        conclude(str(one.path), "runs", [])
    assert not one.fold_is_done(0), "nothing is concluded by half"
    one.state_path(1).unlink()
    with pytest.raises(
        RunError, match=r"fold 1 has no completed epoch\. Run it again to train, or predict with the others"
    ):
        conclude(str(one.path), "runs", [])
    one.state_path(1).touch()
    text = one.config_path.read_text()
    one.config_path.unlink()
    one.config_path.write_text(text.replace("plugins: []", "plugins: [os.path]"))
    with pytest.raises(RunError, match=r"uses plugins\. Set plugins=os\.path to import them"):
        conclude(str(one.path), "runs", [])


def test_a_run_of_a_version_without_decisions_is_concluded(linked: tuple[list[str], Path]) -> None:
    run = Run(linked[1])
    config = {key: value for key, value in run.config.items() if key != "decision"}
    run.__dict__["config"] = config
    assert restore_config(run, []).decision.name == "none"
