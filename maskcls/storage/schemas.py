"""Schemas of JSON files: metrics, provenance, ladder records."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from maskcls.core.schema import NonNegativeFloat, UnitInterval

MAX_BIAS = 100.0  # of a log-probability: far beyond any use, and its exponential is finite
Bias = Annotated[float, Field(ge=-MAX_BIAS, le=MAX_BIAS)]
Index = Annotated[int, Field(ge=0, lt=2**32)]
Interval = Annotated[list[float], Field(min_length=2, max_length=2)]


ATTRIBUTE_SCORES: dict[str, TypeAdapter[Any]] = {
    "_f1": TypeAdapter(UnitInterval), "_mae": TypeAdapter(NonNegativeFloat | None),
    "_mae_interval": TypeAdapter(Interval | None), "_images": TypeAdapter(Index | None),
}  # fmt: skip


def check_score(key: str, value: Any, kind: TypeAdapter[Any]) -> None:
    """Raise ValueError for a score of another type or out of range."""
    try:
        kind.validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise ValueError(f"{key}: {first['msg']}, got {repr(value)[:40]}") from None


class Part(BaseModel):
    """A part of a JSON file: values are checked and never coerced; other keys are ignored."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False, protected_namespaces=())


class Spread(Part):
    """Means, with standard deviations if there are several scores."""

    f1: UnitInterval
    accuracy: UnitInterval
    f1_sd: NonNegativeFloat | None = None
    accuracy_sd: NonNegativeFloat | None = None


class Scores(Spread):
    """Scores of some images; `<attribute>_f1` of each attribute, and of a head over a number `<attribute>_mae` …."""

    photos: Index
    people: Index | None = None  # not counted for a fold
    open_ended: Index | None = None

    @model_validator(mode="after")
    def check_attributes(self) -> Self:
        """Raise ValueError for a score of an attribute that is of another type or out of range."""
        for key, value in (self.model_extra or {}).items():
            for suffix, kind in ATTRIBUTE_SCORES.items():
                if key.endswith(suffix):
                    check_score(key, value, kind)
        return self


class FoldScores(Scores):
    """Scores of a fold."""

    fold: Index


class EvalScores(Scores):
    """Scores of the evaluation set: of the mean over the folds, and of single folds."""

    single: Spread | None = None


class Plain(Part):
    """The scores of the most probable class, without the decision."""

    oof: Scores
    eval: EvalScores | None


class Decision(Part):
    """The bias of each class's log-probability, and the scores without it."""

    bias: list[Bias]
    plain: Plain


class CalibrationScores(Part):
    """Log loss and calibration error, or their differences, with intervals over people."""

    log_loss: float
    log_loss_interval: Interval | None = None
    calibration_error: float
    calibration_error_interval: Interval | None = None


class CalibrationView(Part):
    """The scores of the classes or of one attribute, before and after temperature scaling."""

    before: CalibrationScores
    after: CalibrationScores
    difference: CalibrationScores


class ReliabilityBin(Part):
    """The images with a confidence in one of the bins."""

    bin: Index
    confidence: UnitInterval
    accuracy: UnitInterval
    interval: Interval | None = None
    photos: Index


class ReliabilityBins(Part):
    """The bins before and after temperature scaling."""

    before: list[ReliabilityBin]
    after: list[ReliabilityBin]


class Calibration(Part):
    """Temperatures, and scores before and after them: out of fold, cross-fitted, and of the evaluation set."""

    temperatures: dict[str, NonNegativeFloat]  # of a fold's model
    mean_temperatures: dict[str, NonNegativeFloat]  # of the mean of the folds, which predicts new photos
    oof: dict[str, CalibrationView]
    eval: dict[str, CalibrationView] | None
    bins: ReliabilityBins


class SetScores(Part):
    """Coverage and mean size of prediction sets."""

    covered: UnitInterval
    covered_interval: Interval | None = None
    size: NonNegativeFloat
    photos: Index


class PredictionSets(Part):
    """The prediction sets of a promised coverage."""

    coverage: UnitInterval
    oof: SetScores
    eval: SetScores | None


class GroupScores(Part):
    """The scores of a group of people; intervals are missing below 20 people."""

    value: str
    people: Index
    photos: Index
    f1: UnitInterval
    accuracy: UnitInterval
    calibration_error: UnitInterval
    covered: UnitInterval
    f1_interval: Interval | None = None
    accuracy_interval: Interval | None = None
    calibration_error_interval: Interval | None = None
    covered_interval: Interval | None = None


class Gap(Part):
    """The largest gap between two groups by a score, and the share of permutations of people with one as large."""

    worst: str
    best: str
    gap: NonNegativeFloat
    p: UnitInterval
    permutations: Index


class Groups(Part):
    """The scores of the groups of one column."""

    column: str
    rows: list[GroupScores]
    gaps: dict[str, Gap]
    unknown: Index = 0  # images without a value


class Metrics(Part):
    """metrics.json: the closing metrics of a finished run."""

    folds: Annotated[list[FoldScores], Field(min_length=1)]
    oof: Scores
    eval: EvalScores | None
    people_on_both_sides: Index
    decision: Decision | None = None  # only if a bias was fitted
    calibration: Calibration | None = None  # these three are missing in runs of older versions
    sets: PredictionSets | None = None
    groups: list[Groups] | None = None


class About(Part):
    """about.json: facts about machine, software and command."""

    command: list[str] = []
    versions: dict[str, Any] | None = None
    hardware: dict[str, Any] | None = None
    maskcls: str | None = None
    python: str | None = None
    commit: str | None = None
    seconds: NonNegativeFloat | None = None
    group: str | None = None  # sweep, ladder or search
    choices: dict[str, str] = {}  # options as typed: {"loss": "smoothing"}, whose section says name: ce
