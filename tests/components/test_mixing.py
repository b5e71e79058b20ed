"""Mixing: pixels and targets compared with reference implementations."""

from __future__ import annotations

import pytest
import torch

from maskcls.components import mixing

COUNT, HEIGHT, WIDTH = 12, 20, 30
LABELS = torch.arange(COUNT) % 4


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Return photos of one value each, their number in the batch, and one-hot targets of few classes."""
    images = torch.arange(COUNT).float()[:, None, None, None].expand(COUNT, 3, HEIGHT, WIDTH).clone()
    return images, torch.eye(18)[LABELS]


@pytest.mark.parametrize("seed", range(5))
def test_mixup_blends_photos_and_targets_by_one_share(seed: int) -> None:
    images, targets = batch()
    torch.manual_seed(seed)
    mixed, soft = mixing.mixup(alpha=0.8)(images, targets, LABELS)
    torch.manual_seed(seed)
    torch.rand(())
    share = float(torch.distributions.Beta(0.8, 0.8).sample())
    other = mixing.draw_partners(COUNT, images.device)
    torch.testing.assert_close(mixed, share * images + (1 - share) * images[other])
    torch.testing.assert_close(soft, share * targets + (1 - share) * targets[other])


@pytest.mark.parametrize("seed", range(20))
def test_cutmix_shares_targets_by_the_area_that_was_pasted(seed: int) -> None:
    images, targets = batch()
    torch.manual_seed(seed)
    mixed, soft = mixing.cutmix()(images, targets, LABELS)
    for i in range(COUNT):
        pasted = mixed[i, 0] != i
        values = mixed[i, 0][pasted].unique()
        assert len(values) <= 1, "one photo is pasted"
        if len(values):
            area = float(pasted.float().mean())
            expected = (1 - area) * targets[i] + area * targets[int(values[0])]
            torch.testing.assert_close(soft[i], expected)
            rows, columns = pasted.any(1).nonzero(), pasted.any(0).nonzero()
            box = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
            assert int(box) == int(pasted.sum()), "it is a box"


@pytest.mark.parametrize("count", [2, 3, 4, 7, 64])
def test_no_photo_is_its_own_partner_and_each_is_a_partner_once(count: int) -> None:
    torch.manual_seed(count)
    drawn = torch.stack([mixing.draw_partners(count, torch.device("cpu")) for _ in range(600)])
    assert not (drawn == torch.arange(count)).any()
    assert (drawn.sort(1).values == torch.arange(count)).all()
    often = torch.stack([torch.bincount(column, minlength=count) for column in drawn.T]) / 600
    expected = (1 - torch.eye(count)) / (count - 1)
    assert (often - expected).abs().max() < 0.12  # any other photo, equally often


@pytest.mark.parametrize("mix", [mixing.mixup(), mixing.cutmix(), mixing.halfcut(prob=1.0)])
def test_a_photo_alone_stays_as_it_is(mix: mixing.Mix) -> None:
    images, targets = (part[:1] for part in batch())
    mixed, soft = mix(images, targets, LABELS[:1])
    torch.testing.assert_close(mixed, images)
    torch.testing.assert_close(soft, targets)


@pytest.mark.parametrize("seed", range(40))
def test_half_a_photo_is_joined_with_another_of_its_class_never_with_itself(seed: int) -> None:
    images, targets = batch()
    labels = torch.tensor([0, 0, 1, 1, 1, 2, 3, 3, 3, 3, 4, 5])  # of 2, 4 and 5 there is one photo
    torch.manual_seed(seed)
    mixed, _ = mixing.halfcut(prob=1.0, pairs="within")(images, targets, labels)
    right = mixed[:, 0, 0, -1].long()
    alone = torch.bincount(labels)[labels] == 1
    assert ((right == torch.arange(COUNT)) == alone).all() and (labels[right] == labels).all()


@pytest.mark.parametrize("pairs", ["any", "within", "between"])
@pytest.mark.parametrize("seed", range(10))
def test_halfcut_joins_left_and_right_parts(pairs: str, seed: int) -> None:
    images, targets = batch()
    torch.manual_seed(seed)
    mixed, soft = mixing.halfcut(prob=1.0, cut=[0.4, 0.6], pairs=pairs)(images, targets, LABELS)
    for i in range(COUNT):
        row = mixed[i, 0, 0]
        other, left = int(row[-1]), int((row == i).sum()) if int(row[-1]) != i else WIDTH
        assert (row[:left] == i).all() and (row[left:] == other).all()
        if other != i:
            assert 0.4 * WIDTH - 1 <= left <= 0.6 * WIDTH + 1
            torch.testing.assert_close(soft[i], targets[i].lerp(targets[other], 1 - left / WIDTH))
            same = bool((targets[i] == targets[other]).all())
            assert pairs == "any" or same == (pairs == "within")


def test_targets_stay_distributions_and_originals_stay_as_they_are() -> None:
    for mix in (mixing.mixup(), mixing.cutmix(), mixing.halfcut(prob=1.0)):
        images, targets = batch()
        kept = images.clone(), targets.clone()
        _, soft = mix(images, targets, LABELS)
        torch.testing.assert_close(soft.sum(1), torch.ones(COUNT))
        assert torch.equal(images, kept[0]) and torch.equal(targets, kept[1])


def test_a_photo_without_a_partner_stays_as_it_is() -> None:
    images, _ = batch()
    same = torch.zeros(COUNT, dtype=torch.long)
    targets = torch.eye(18)[same]
    mixed, soft = mixing.halfcut(prob=1.0, pairs="between")(images, targets, same)
    assert torch.equal(mixed, images) and torch.equal(soft, targets)


def test_p_is_the_share_of_batches_that_are_mixed() -> None:
    torch.manual_seed(0)
    mix, (images, targets) = mixing.mixup(prob=0.3), batch()
    mixed = sum(not torch.equal(mix(images, targets, LABELS)[0], images) for _ in range(1000))
    assert abs(mixed / 1000 - 0.3) < 4 * (0.3 * 0.7 / 1000) ** 0.5


@pytest.mark.parametrize("pairs", ["within", "between"])
def test_partners_are_of_the_training_class_and_not_of_the_largest_target(pairs: str) -> None:
    images, _ = batch()
    misleading = torch.full((COUNT, 18), 0.2 / 17)
    misleading[:, 0] = 0.8  # the largest target is one class for all
    mixed, _ = mixing.halfcut(prob=1.0, pairs=pairs)(images, misleading, LABELS)
    other = mixed[:, 0, 0, -1].long()
    assert (other != torch.arange(COUNT)).any()
    same = LABELS[other] == LABELS
    assert bool(same.all()) if pairs == "within" else not bool(same.any())
