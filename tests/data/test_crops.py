import math

import numpy as np
import pytest
import torch
from accelerate.data_loader import prepare_data_loader, skip_first_batches
from torch.utils.data import DataLoader, RandomSampler

from hf_mathrock.data.crops import CropBatches, CropCollator, FixedCrops
from hf_mathrock.data.mel_cache import write_mel_cache
from hf_mathrock.models.modeling_myna import num_kept
from noise_tracks import noise_tracks
from tiny_myna import tiny_myna_extractor, tiny_myna_for_pretraining

EXTRACTOR = tiny_myna_extractor()
PATCHES = [[16, 16]]
# Noise that swells: no two moments of any track are alike, so a crop tells where it is from.
SECONDS = [20.0, 24.0, 31.0, 18.0, 22.0, 40.0, 25.0, 19.0, 27.0, 33.0]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return write_mel_cache(tmp_path_factory.mktemp("cache"), noise_tracks(10, SECONDS), EXTRACTOR, num_workers=0)


@pytest.fixture(scope="module")
def short_cache(tmp_path_factory):
    """Tracks of 5 s, 2.9 s and 0.1 s, the last shorter than a patch."""
    tracks = noise_tracks(3, [5.0, 2.9, 0.1])
    return write_mel_cache(tmp_path_factory.mktemp("short"), tracks, EXTRACTOR, num_workers=0)


def crops(cache, batch_size=4, **options):
    return CropBatches(cache, EXTRACTOR, PATCHES, batch_size, **{"max_seconds": 15.0, **options})


def batches(dataset, batch_size=4, **options):
    return list(DataLoader(dataset, batch_size, collate_fn=CropCollator(), **options))


def same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) if torch.is_tensor(first[name]) else first[name] == second[name]
        for name in first
    )


def place_of(cache, track, crop):
    """Where in a track a crop begins, by looking for it."""
    values = EXTRACTOR.values_of(cache[track].decibels, cache[track].reference)
    starts = [s for s in range(len(values) - len(crop) + 1) if np.array_equal(values[s : s + len(crop)], crop)]
    assert len(starts) == 1
    return starts[0]


def test_a_batch_is_two_crops_of_each_track_as_the_track_sounds_there(cache):
    for batch in batches(crops(cache)):
        assert batch["input_features"].dtype == torch.float32 and batch["track_ids"].dtype == torch.int64
        assert "attention_mask" not in batch and "other_attention_mask" not in batch
        assert 0 < batch["keep_ratio"] <= 1
        for view in ("input_features", "other_features"):
            assert batch[view].shape[0] == 4 and batch[view].shape[1] % 16 == 0 and batch[view].shape[2] == 128
        for row, track in enumerate(batch["track_ids"].tolist()):
            first = place_of(cache, track, batch["input_features"][row].numpy())
            other = place_of(cache, track, batch["other_features"][row].numpy())
            assert first != other


def test_the_model_takes_a_batch_as_it_is(cache):
    (batch, *_) = batches(crops(cache))
    output = tiny_myna_for_pretraining().train()(**batch)
    output.loss.backward()
    assert torch.isfinite(output.loss) and output.projections.shape == (4, 16)


def test_an_epoch_is_every_track_once_in_an_order_of_its_own(cache):
    dataset, orders = crops(cache, batch_size=5), []
    for epoch in range(3):
        dataset.set_epoch(epoch)
        orders.append([dataset[row]["track_id"] for row in range(len(dataset))])
        assert sorted(orders[-1]) == list(range(10))
    assert orders[0] != orders[1] != orders[2]


def test_a_library_smaller_than_a_batch_fills_it(cache):
    dataset = crops(cache, batch_size=24)
    tracks = [dataset[row]["track_id"] for row in range(len(dataset))]
    assert len(tracks) == 24 and set(np.bincount(tracks)) == {2, 3}
    assert len(crops(cache, batch_size=24, steps_per_epoch=3)) == 72


def test_lengths_are_spread_evenly_over_octaves(cache):
    dataset = CropBatches(cache, EXTRACTOR, PATCHES, 4, min_seconds=1.0, max_seconds=16.0, steps_per_epoch=600)
    plans = [dataset.plan(0, step) for step in range(600)]
    lengths = np.array([[plan.num_frames, plan.other_num_frames] for plan in plans])
    octaves = np.log2(lengths / 31.25)
    assert octaves.min() > -0.1 and octaves.max() < 4.05
    # Whole patches make the shortest lengths coarse, so the spread is held to in two halves.
    assert np.mean(octaves < 2) == pytest.approx(0.5, abs=0.06)
    assert abs(np.corrcoef(octaves.T)[0, 1]) < 0.12
    same_lengths = crops(cache, same_length=True, steps_per_epoch=20)
    assert all(p.num_frames == p.other_num_frames for p in (same_lengths.plan(0, s) for s in range(20)))


@pytest.mark.parametrize("patches", [[[16, 16]], [[16, 16], [128, 2]], [[32, 8]]])
def test_kept_tokens_stay_within_the_budget(cache, patches):
    dataset = CropBatches(
        cache, EXTRACTOR, patches, 4, max_seconds=15.0, keep_ratio=(0.05, 0.6), min_tokens=20, max_tokens=40
    )
    shares = set()
    for epoch in range(60):
        plan = dataset.plan(epoch, 0)
        shares.add(plan.keep_ratio)
        for bins, width in patches:
            for frames in (plan.num_frames, plan.other_num_frames):
                num_tokens = 128 // bins * (frames // width)
                assert num_kept(num_tokens, plan.keep_ratio) <= 40
                assert num_kept(num_tokens, plan.keep_ratio) >= 20 or plan.keep_ratio * num_tokens * 2 <= 40
    assert len(shares) > 10


def test_the_share_is_what_was_asked_for_where_the_budget_allows(cache):
    dataset = crops(cache, keep_ratio=0.5, min_tokens=1, max_tokens=10_000)
    assert {round(dataset.plan(epoch, 1).keep_ratio, 9) for epoch in range(20)} == {0.5}


def test_starts_are_uniform_and_independent(cache):
    dataset = CropBatches(
        cache.select([5]), EXTRACTOR, PATCHES, 1, min_seconds=2.0, max_seconds=2.0, steps_per_epoch=150
    )
    places = np.array(
        [
            [place_of(cache, 5, dataset[row][view]) for view in ("input_features", "other_features")]
            for row in range(150)
        ]
    )
    shares = places / (cache.num_frames[5] - 64)
    assert shares.min() < 0.05 and shares.max() > 0.95
    assert np.abs(np.histogram(shares, 4, (0, 1))[0] / 300 - 0.25).max() < 0.09
    assert abs(np.corrcoef(shares.T)[0, 1]) < 0.25


def test_the_same_seed_gives_the_same_batches_and_another_others(cache):
    first, again, other = (batches(crops(cache, seed=seed)) for seed in (3, 3, 4))
    assert all(map(same, first, again))
    assert not same(first[0], other[0])
    later = crops(cache, seed=3)
    later.set_epoch(1)
    assert not same(batches(later)[0], first[0])


def test_loader_processes_change_nothing_and_hear_of_a_new_epoch(cache):
    here, there = crops(cache), crops(cache)
    lasting = DataLoader(there, 4, collate_fn=CropCollator(), num_workers=1, persistent_workers=True)
    for epoch in range(2):
        here.set_epoch(epoch)
        there.set_epoch(epoch)
        assert all(map(same, batches(here), list(lasting)))


@pytest.mark.parametrize("num_processes", [1, 2])
def test_processes_share_a_step_out_and_agree_on_its_length(cache, num_processes):
    whole = batches(crops(cache, steps_per_epoch=3))
    parts = [
        list(
            prepare_data_loader(
                DataLoader(crops(cache, steps_per_epoch=3), 4 // num_processes, collate_fn=CropCollator()),
                num_processes=num_processes,
                process_index=rank,
                put_on_device=False,
            )
        )
        for rank in range(num_processes)
    ]
    assert all(len(part) == 3 for part in parts)
    for step, batch in enumerate(whole):
        for name in ("input_features", "other_features", "track_ids"):
            assert torch.equal(torch.cat([part[step][name] for part in parts]), batch[name])
        assert {part[step]["keep_ratio"] for part in parts} == {batch["keep_ratio"]}


def test_a_run_that_goes_on_gets_the_batch_that_was_next(cache):
    loader = prepare_data_loader(
        DataLoader(crops(cache, steps_per_epoch=5), 4, collate_fn=CropCollator()), put_on_device=False
    )
    loader.set_epoch(2)
    whole = list(loader)
    resumed = skip_first_batches(loader, 3)
    resumed.set_epoch(2)
    assert all(map(same, whole[3:], list(resumed))) and len(whole) == 5


def test_rows_out_of_order_are_refused(cache):
    dataset = crops(cache, batch_size=2)
    shuffled = DataLoader(dataset, 2, collate_fn=CropCollator(), sampler=RandomSampler(dataset))
    with pytest.raises(ValueError, match="several steps.*train_sampling_strategy='sequential'"):
        list(shuffled)


def test_a_track_shorter_than_its_crop_is_filled_with_the_floor_and_masked(short_cache):
    (batch,) = batches(crops(short_cache.select([0, 0, 0, 0, 1]), batch_size=5, min_seconds=4.0, max_seconds=4.0), 5)
    row = batch["track_ids"].tolist().index(4)
    assert batch["input_features"].shape[1] == 128
    assert batch["attention_mask"].sum(1).tolist() == [80 if i == row else 128 for i in range(5)]  # 2.9 s: 91 frames
    assert (batch["input_features"][row, 80:] == EXTRACTOR.floor).all()
    values = EXTRACTOR.values_of(short_cache[1].decibels, short_cache[1].reference)
    np.testing.assert_array_equal(batch["input_features"][row, :80], values[:80])


def test_no_more_than_a_quarter_of_a_batch_is_padded(short_cache):
    mostly_long = short_cache.select([0] * 6 + [1] * 2)
    for lengths, frames in ((mostly_long, 144), (short_cache.select([0] * 5 + [1] * 3), 80)):
        plan = crops(lengths, batch_size=8, min_seconds=60.0, max_seconds=60.0).plan(0, 0)
        assert plan.num_frames == plan.other_num_frames == frames  # of 157 and of 91


def test_a_clip_of_less_than_a_patch_is_one(short_cache):
    (batch,) = batches(crops(short_cache.select([2]), batch_size=1), 1)
    assert batch["input_features"].shape == (1, 16, 128) and "attention_mask" not in batch
    assert (batch["input_features"][0, 4:] == EXTRACTOR.floor).all()
    (mixed,) = batches(crops(short_cache.select([0] * 4 + [2]), batch_size=5), 5)
    row = mixed["track_ids"].tolist().index(4)
    assert mixed["attention_mask"][row].sum() == 16
    assert torch.isfinite(tiny_myna_for_pretraining().train()(**mixed).loss)


def test_validation_hears_the_same_two_halves_every_time(cache):
    dataset = FixedCrops(cache, EXTRACTOR, PATCHES, seconds=8.0)
    first, again = batches(dataset, 5), batches(FixedCrops(cache, EXTRACTOR, PATCHES, seconds=8.0), 5)
    assert all(map(same, first, again))
    assert torch.cat([batch["track_ids"] for batch in first]).tolist() == list(range(10))
    assert "keep_ratio" not in first[0]
    for row in range(10):
        middle = cache.num_frames[row] / 2
        places = [place_of(cache, row, dataset[row][view]) for view in ("input_features", "other_features")]
        assert places[0] + 256 <= math.ceil(middle) and places[1] >= math.floor(middle)


def test_validation_takes_both_ends_of_tracks_that_have_no_two_halves(cache, short_cache):
    dataset = FixedCrops(cache, EXTRACTOR, PATCHES, seconds=15.36)
    assert place_of(cache, 0, dataset[0]["input_features"]) == 0
    assert place_of(cache, 0, dataset[0]["other_features"]) == cache.num_frames[0] - 480
    (batch,) = batches(FixedCrops(short_cache, EXTRACTOR, PATCHES, seconds=4.0), 3)
    assert batch["attention_mask"].sum(1).tolist() == [128, 80, 16]


def test_numbers_out_of_range_are_refused_by_name(cache):
    for options, message in (
        ({"min_seconds": 5, "max_seconds": 4}, "`min_seconds` is 5 and `max_seconds` 4"),
        ({"keep_ratio": 0}, "`keep_ratio` is 0"),
        ({"keep_ratio": (0.5, 0.1)}, "`keep_ratio`"),
        ({"min_tokens": 9, "max_tokens": 8}, "`min_tokens` is 9"),
        ({"batch_size": 0}, "`batch_size` is 0"),
        ({"steps_per_epoch": 0}, "`steps_per_epoch` is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            crops(cache, **options)
    with pytest.raises(ValueError, match="empty"):
        crops(cache.select([]))
    with pytest.raises(ValueError, match="`seconds` is 0"):
        FixedCrops(cache, EXTRACTOR, PATCHES, seconds=0)
    with pytest.raises(ValueError, match="other settings of the extractor"):
        CropBatches(cache, tiny_myna_extractor(feature={"hop_length": 256}), PATCHES, 4)
