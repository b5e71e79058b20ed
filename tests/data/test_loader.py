"""Data loaders: batches depend only on seed, fold and epoch, for any number of workers."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from maskcls.components.augmentation import albumentations_
from maskcls.components.hardware import cpu
from maskcls.components.sampler import person, shuffle, weighted
from maskcls.core.errors import ConfigError, RunError, as_user_error
from maskcls.data.loader import EpochBatchSampler, SequentialBatchSampler, build_loader, seeded_rng

LABELS = np.repeat([0, 5, 17], [12, 8, 5])
ROWS = np.flatnonzero(np.arange(40) % 8 < 5)  # 25 of 40 photos
NOISE = {"RandomBrightnessContrast": {"p": 1.0}, "HorizontalFlip": {"p": 0.5}, "GaussNoise": {"p": 1.0}}
Batches = list[tuple[torch.Tensor, torch.Tensor]]


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    file = tmp_path_factory.mktemp("pixels") / "pixels.npy"
    np.save(file, np.random.default_rng(0).integers(60, 190, (40, 16, 12, 3), dtype=np.uint8))
    return np.load(file, mmap_mode="r")


def epochs(batch: int = 4, seed: int = 0, fold: int = 0, epoch: int = 0) -> EpochBatchSampler:
    made = EpochBatchSampler(ROWS, shuffle(LABELS), batch, seed, fold)
    made.epoch = epoch
    return made


def train(pixels: np.ndarray, workers: int, count: int = 2) -> list[Batches]:
    """Return the batches of some epochs, from one loader that lives on."""
    batches = epochs()
    source = build_loader(pixels, albumentations_(transforms=NOISE), batches, cpu(workers=workers))
    result = []
    for epoch in range(count):
        batches.epoch = epoch
        result.append([(images.clone(), rows.clone()) for images, rows in source])
    return result


def rows_of(batches: Batches) -> list[int]:
    return torch.cat([rows for _, rows in batches]).tolist()


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_are_the_same_to_the_bit_with_workers(pixels: np.ndarray, workers: int) -> None:
    for mine, theirs in zip(train(pixels, 0), train(pixels, workers), strict=True):
        assert len(mine) == len(theirs) == 6
        for (images, rows), (others, again) in zip(mine, theirs, strict=True):
            assert torch.equal(rows, again) and torch.equal(images, others)
            assert images.shape == (4, 16, 12, 3) and images.dtype == torch.uint8 and rows.dtype == torch.int64


def test_each_epoch_has_an_order_and_changes_of_its_own(pixels: np.ndarray) -> None:
    first, second = train(pixels, 0)
    assert rows_of(first) != rows_of(second)
    seen = [dict(zip(rows_of(epoch), torch.cat([x for x, _ in epoch]), strict=True)) for epoch in (first, second)]
    both = set(seen[0]) & set(seen[1])
    assert len(both) > 15 and not any(torch.equal(seen[0][row], seen[1][row]) for row in both)
    assert not any(np.array_equal(image.numpy(), pixels[row]) for row, image in seen[0].items())


def test_an_epoch_can_be_asked_for_without_those_before_it(pixels: np.ndarray) -> None:
    batches = epochs(epoch=1)
    alone = list(build_loader(pixels, albumentations_(transforms=NOISE), batches, cpu()))
    for (images, rows), (others, again) in zip(alone, train(pixels, 0)[1], strict=True):
        assert torch.equal(images, others) and torch.equal(rows, again)


def test_without_augmentation_the_photos_are_the_cached_ones(pixels: np.ndarray) -> None:
    for images, rows in build_loader(pixels, None, epochs(), cpu()):
        assert np.array_equal(images.numpy(), pixels[rows.numpy()])
        images.zero_()  # a batch is a copy: the cache is read-only
    assert pixels.min() >= 60


def test_batches_of_photos_that_the_device_holds_are_the_same_ones(pixels: np.ndarray) -> None:
    there = cpu(resident=True).to_device_memory(pixels)
    assert isinstance(there, torch.Tensor) and cpu().to_device_memory(pixels) is pixels
    for batches in (epochs(), SequentialBatchSampler(ROWS, 4)):
        both = zip(build_loader(pixels, None, batches, cpu()), build_loader(there, None, batches, cpu()), strict=True)
        for (images, rows), (others, again) in both:
            assert torch.equal(images, others) and torch.equal(rows, again)
            others.zero_()  # a copy
    assert np.array_equal(there.numpy(), pixels)

    endless = np.broadcast_to(pixels[0], (10**13, *pixels[0].shape))  # more than any memory has
    with pytest.raises(RunError, match=r"^hardware\.resident=true: 5,760,000,000 MB of images .* Set hardware\.resident=false"):
        cpu(resident=True).to_device_memory(endless)


@pytest.mark.parametrize(("batch", "count"), [(4, 6), (5, 5), (25, 1), (26, 0)])
def test_an_epoch_has_whole_batches_only(batch: int, count: int) -> None:
    made = epochs(batch)
    sizes = [len(items) for items in made]
    assert sizes == [batch] * count and len(made) == count


def test_shuffled_each_row_comes_once() -> None:
    rows = [row for items in epochs(5) for row, _ in items]
    assert sorted(rows) == ROWS.tolist() and rows != ROWS.tolist()


def test_photos_of_a_batch_have_seeds_of_their_own() -> None:
    seeds = [seed for epoch in (0, 1) for items in epochs(5, epoch=epoch) for _, seed in items]
    assert len(set(seeds)) == 50 and min(seeds) >= 0


def test_a_row_that_is_drawn_twice_is_changed_twice(pixels: np.ndarray) -> None:
    made = EpochBatchSampler(ROWS, weighted(LABELS), 25, 0, 0)
    ((images, rows),) = build_loader(pixels, albumentations_(transforms=NOISE), made, cpu())
    assert set(rows.tolist()) <= set(ROWS.tolist())
    twice = next(row for row in rows.tolist() if rows.tolist().count(row) > 1)
    first, second, *_ = images[rows == twice]
    assert not torch.equal(first, second)


@pytest.mark.parametrize("other", [{"seed": 1}, {"fold": 1}, {"epoch": 1}])
def test_seed_fold_and_epoch_each_change_the_order(other: dict[str, int]) -> None:
    assert list(epochs()) == list(epochs())
    assert list(epochs()) != list(epochs(**other))
    assert seeded_rng(0, 1).random() != seeded_rng(1, 0).random()


def test_ranks_share_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(epochs(6))
    monkeypatch.setenv("WORLD_SIZE", "2")
    parts = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        parts.append(list(epochs(6)))
    for items, one, two in zip(whole, *parts, strict=True):
        assert len(one) == len(two) == 3 and sorted(one + two) == sorted(items)


@pytest.mark.parametrize(("images", "ranks"), [(1, 3), (2, 2), (3, 2), (2, 3), (5, 1)])
def test_ranks_share_each_batch_in_groups_of_one_person(images: int, ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    people = np.repeat(np.arange(30), 6 * images)
    rows, batch = np.arange(len(people))[::-1], 2 * images * ranks

    def batches() -> list[list[tuple[int, int]]]:
        return list(EpochBatchSampler(rows, person(people, people[rows], images=images), batch, 0, 0, images))

    whole = batches()
    monkeypatch.setenv("WORLD_SIZE", str(ranks))
    parts = []
    for rank in range(ranks):
        monkeypatch.setenv("RANK", str(rank))
        parts.append(batches())
    for items, *own in zip(whole, *parts, strict=True):
        assert sorted(itertools.chain(*own)) == sorted(items) and {len(part) for part in own} == {2 * images}
        for part in own:
            groups = people[[row for row, _ in part]].reshape(-1, images)
            assert (groups == groups[:, :1]).all()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("batch", "sizes"), [(4, [4] * 6 + [1]), (25, [25]), (64, [25])])
def test_plain_keeps_every_row_in_its_order(pixels: np.ndarray, batch: int, sizes: list[int], workers: int) -> None:
    plain = SequentialBatchSampler(ROWS, batch)
    batches = list(build_loader(pixels, None, plain, cpu(workers=workers)))
    assert [len(rows) for _, rows in batches] == sizes and len(plain) == len(sizes)
    assert rows_of(batches) == ROWS.tolist()
    assert np.array_equal(torch.cat([images for images, _ in batches]).numpy(), pixels[ROWS])


def test_plain_of_nothing_has_no_batches(tmp_path: Path) -> None:
    assert list(SequentialBatchSampler(ROWS[:0], 4)) == [] and len(SequentialBatchSampler(ROWS[:0], 4)) == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_a_rare_change_to_floats_is_a_sentence_when_it_comes(pixels: np.ndarray, workers: int) -> None:
    rare = albumentations_(transforms={"ToFloat": {"p": 0.1}})
    words = "augmentation: expected uint8 pixels of .*, got float32 of .*. Remove ToFloat"
    with pytest.raises(ConfigError, match=words) as caught:
        list(build_loader(pixels, rare, epochs(5), cpu(workers=workers)))
    (sentence,) = as_user_error(caught.value).messages
    assert re.fullmatch(words + r" \(images .*\), or end with FromFloat", sentence)


def test_floats_that_are_made_uint8_again_are_fine(pixels: np.ndarray) -> None:
    there_and_back = albumentations_(transforms={"ToFloat": {"p": 1.0}, "FromFloat": {"dtype": "uint8", "p": 1.0}})
    for images, rows in build_loader(pixels, there_and_back, epochs(5), cpu()):
        assert np.abs(images.numpy().astype(int) - pixels[rows.numpy()]).max() <= 1
