"""Steps of a ladder: what the source says of the change from a rung's parent, and whether our runs agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from maskcls.ladder.rungs import Rung, load_rungs
from maskcls.reporting.comparison import Record

HIGHER, LOWER, SAME = "higher", "lower", "no difference"
UNCLEAR, STAND_IN = "cannot be told", "not judged: stand-in networks"


def judge_steps(ladder: str, records: Mapping[str, Record]) -> dict[str, str]:
    """Return for each rung, by name, what our runs say of its step, and whether the source agrees; "" if not run.

    Our runs show a step if the 95 % interval of the difference excludes zero; a published step has no interval.
    """
    rungs = load_rungs(ladder)
    by_name = {rung.name: rung for rung in rungs}
    return {rung.name: judge_step(rung, by_name.get(rung.parent or ""), records.get(rung.name)) for rung in rungs}


def judge_step(rung: Rung, parent: Rung | None, record: Record | None) -> str:
    """Return what a record says of the step from the parent, and whether the source agrees."""
    interval = ((record or {}).get("difference") or {}).get("interval")
    if record is None or not interval:
        return ""
    if rung.changes_network and record["scale"].get("stand_ins"):
        return STAND_IN
    low, high = interval
    if low <= 0 <= high:
        return UNCLEAR
    ours, published = HIGHER if low > 0 else LOWER, published_step(rung, parent)
    agreement = {"": "", ours: ", confirmed", SAME: f", published as {SAME}"}
    return ours + agreement.get(published, ", reversed")


def published_step(rung: Rung, parent: Rung | None) -> str:
    """Return HIGHER, LOWER or SAME, as the source says of the macro F1 of a rung against its parent; "" if silent."""
    if rung.claim:
        return next((step for step in (HIGHER, LOWER, SAME) if rung.claim.startswith(step)), "")
    if parent is None or "f1" not in rung.published or "f1" not in parent.published:
        return ""
    difference = rung.published["f1"] - parent.published["f1"]
    if rung.as_published != parent.as_published and not difference:
        return ""  # another reading of the same score
    return HIGHER if difference > 0 else LOWER if difference < 0 else SAME


def summarize_steps(verdicts: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence with the rungs of each verdict, none without verdicts."""
    kinds = sorted({verdict for verdict in verdicts.values() if verdict})
    parts = [f"{kind}: {', '.join(name for name, verdict in verdicts.items() if verdict == kind)}" for kind in kinds]
    if parts:
        yield f"Steps from the parent. {'. '.join(part[0].upper() + part[1:] for part in parts)}."
