# SPDX-License-Identifier: Apache-2.0
"""Published musicnn checkpoints of three layouts become the same model, and what is none is refused in a line."""

import base64
import json
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from hf_mathrock.cli.main import main
from hf_mathrock.conversion.musicnn import LICENCE_FILE, convert_musicnn
from hf_mathrock.conversion.report import CheckpointMismatch
from hf_mathrock.conversion.tensorflow_checkpoint import (
    checkpoint_prefix,
    crc32c,
    masked_crc32c,
    read_tensorflow_checkpoint,
)
from hf_mathrock.models.configuration_musicnn import POOLING
from hf_mathrock.models.tag_vocabularies import MAGNATAGATUNE_TAGS, MSD_TAGS

REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "musicnn"
NORM = ("gamma", "beta", "moving_mean", "moving_variance")
# Keras' names of TensorFlow's layers where they differ.
KERAS = {
    **{f"conv2d_{number + 4}": f"midend_conv{number}" for number in (1, 2, 3)},
    **{f"batch_normalization_{number + 5}": f"bn_midend_conv{number}" for number in (1, 2, 3)},
    "batch_normalization_9": "bn_flatpool",
    "batch_normalization_10": "bn_dense",
}
KERAS_VGG = {
    "batch_normalization": "bn_input",
    **{f"batch_normalization_{number}": f"bn_conv{number}" for number in range(1, 6)},
    "dense": "output",
}


def norm(layer, size):
    return {f"{layer}/{variable}": (size,) for variable in NORM}


def layer(name, *shape):
    return {f"{name}/kernel": shape, f"{name}/bias": shape[-1:]}


def musicnn_shapes(width=64, dense=200, labels=50):
    """Names and shapes of a published musicnn."""
    front = [(7, 38, 204), (7, 67, 204), (128, 1, 51), (64, 1, 51), (32, 1, 51)]
    shapes = norm("batch_normalization", 1)
    for index, (time, frequency, filters) in enumerate(front):
        shapes |= layer("conv2d" + f"_{index}" * (index > 0), time, frequency, 1, filters)
        shapes |= norm(f"batch_normalization_{index + 1}", filters)
    for index, channels in enumerate((561, width, width)):
        shapes |= layer(f"conv2d_{index + 5}", 7, channels, 1, width) | norm(f"batch_normalization_{index + 6}", width)
    pooled = 2 * (561 + 3 * width)
    shapes |= norm("batch_normalization_9", pooled) | layer("dense", pooled, dense)
    return shapes | norm("batch_normalization_10", dense) | layer("dense_1", dense, labels)


def vgg_shapes(labels=50):
    shapes = norm("batch_normalization", 1)
    for number in range(1, 6):
        shapes |= layer(f"{number}CNN", 3, 3, 1 if number == 1 else 128, 128)
        shapes |= norm(f"batch_normalization_{number}", 128)
    return shapes | layer("dense", 256, labels)


def values(shapes):
    """Some tensors of these shapes."""
    rng = np.random.default_rng(0)
    return {name: rng.uniform(0.01, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def vgg():
    return values(vgg_shapes())


@pytest.fixture
def vgg_file(vgg, tmp_path):
    path = tmp_path / "MTT_vgg.safetensors"
    save_file(vgg, path)
    return path


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def config(folder):
    return json.loads((folder / "config.json").read_text())


# TensorFlow's format, as LevelDB's and protocol buffers' descriptions have it, written plainly: one block, no prefixes.


def varint(value):
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def block(entries):
    body = b"".join(b"\0" + varint(len(key)) + varint(len(value)) + key + value for key, value in entries)
    return body + struct.pack("<II", 0, 1)


def table(entries, last_key, compression=0, times=1):
    """An index of one block of entries, which its root names so many times."""
    out, handles = b"", []
    for content in (entries, block([])):
        handles.append(varint(len(out)) + varint(len(content)))
        content += bytes([compression])
        out += content + struct.pack("<I", masked_crc32c(content))
    root = block([(last_key, handles[0])] * times)
    footer = handles[1] + varint(len(out)) + varint(len(root))
    out += root + b"\0" + struct.pack("<I", masked_crc32c(root + b"\0"))
    return out + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def write_tensorflow(folder, tensors, prefix="", compression=0):
    """A checkpoint; the prefix of the published ones is empty."""
    folder.mkdir(parents=True, exist_ok=True)
    data, entries = b"", [(b"", b"\x08\x01\x1a\x02\x08\x01")]
    for name in sorted(tensors):
        content = np.ascontiguousarray(tensors[name]).tobytes()
        shape = b"".join(
            b"\x12" + varint(len(size)) + size for size in (b"\x08" + varint(n) for n in tensors[name].shape)
        )
        dtype = {"float32": 1, "int64": 9}[str(tensors[name].dtype)]
        entry = b"\x08" + varint(dtype) + b"\x12" + varint(len(shape)) + shape + b"\x20" + varint(len(data))
        entry += b"\x28" + varint(len(content)) + b"\x35" + struct.pack("<I", masked_crc32c(content))
        entries.append((name.encode(), entry))
        data += content
    (folder / f"{prefix}.index").write_bytes(table(block(entries), sorted(tensors)[-1].encode(), compression))
    (folder / f"{prefix}.data-00000-of-00001").write_bytes(data)
    (folder / f"{prefix}.meta").write_bytes(b"a graph, which nobody reads")
    (folder / "checkpoint").write_text('model_checkpoint_path: "/home/somebody/"\n')
    return folder


def write_keras(path, tensors, root="model_weights/"):
    """As Keras saved the published conversions."""
    names = KERAS_VGG if "1CNN/kernel" in tensors else KERAS
    with h5py.File(path, "w") as file:
        for name, tensor in tensors.items():
            layer, variable = name.rsplit("/", 1)
            layer = names.get(layer, layer)
            file[f"{root}{layer}/{layer}/{variable}:0"] = tensor
        file.create_group(f"{root}pool1")
        file.attrs["model_config"] = "{}"
    return path


@pytest.mark.parametrize("variant", ["musicnn", "vgg"])
def test_the_three_layouts_give_the_same_weights(variant, tmp_path):
    tensors = values(musicnn_shapes() if variant == "musicnn" else vgg_shapes())
    name = f"MTT_{variant}"
    save_file(tensors, tmp_path / f"{name}.safetensors")
    write_keras(tmp_path / f"{name}.h5", tensors)
    write_keras(tmp_path / f"{name}_weights.h5", tensors, root="")
    write_tensorflow(tmp_path / name, tensors)
    sources = [f"{name}.safetensors", f"{name}.h5", f"{name}_weights.h5", name, f"{name}/.index", f"{name}/.meta"]
    found = []
    for number, source in enumerate(sources):
        report = convert_musicnn(tmp_path / source, tmp_path / str(number))
        assert report.num_tensors == len(tensors)
        assert report.source == (name if "/" in source else source)
        found.append(weights(tmp_path / str(number)))
    assert all(content == found[0] for content in found)
    assert report.num_parameters == (787_159 if variant == "musicnn" else 605_748)
    from transformers import AutoModelForAudioClassification

    model = AutoModelForAudioClassification.from_pretrained(tmp_path / "0")
    last, state = ("dense_1" if variant == "musicnn" else "dense"), model.state_dict()
    np.testing.assert_array_equal(state["classifier.weight"].T, tensors[f"{last}/kernel"])
    np.testing.assert_array_equal(
        state["musicnn.feature_norm.running_var"], tensors["batch_normalization/moving_variance"]
    )


def test_the_big_model_is_known_by_its_shapes(tmp_path):
    save_file(values(musicnn_shapes(512, 500)), tmp_path / "MSD_musicnn_big.safetensors")
    report = convert_musicnn(tmp_path / "MSD_musicnn_big.safetensors", tmp_path / "out")
    assert report.num_parameters == 7_980_235
    assert config(tmp_path / "out")["width"] == 512 and config(tmp_path / "out")["dense_size"] == 500
    assert config(tmp_path / "out")["id2label"]["0"] == "rock"


@pytest.mark.parametrize("name", ["MTT_musicnn", "MSD_musicnn", "MTT_vgg", "MSD_vgg"])
def test_published_models_are_known_by_their_weights_whatever_they_are_called(name, tmp_path):
    if not REFERENCE.is_dir():
        pytest.skip("the reference folder ../shared/reference/musicnn is not here")
    tensors = load_file(REFERENCE / f"{name}.safetensors")
    write_keras(tmp_path / "model.h5", tensors)
    report = convert_musicnn(tmp_path / "model.h5", tmp_path / "out")
    assert report.notes[0] == f"recognised by the checksum of its last bias: the published {name}"
    written = config(tmp_path / "out")
    golden = np.load(REFERENCE / "golden.npz")
    assert list(written["id2label"].values()) == golden[f"tags_{name[:3]}"].tolist()
    if "vgg" in name:
        assert written["pooling"] == POOLING[name[:3]]
    with pytest.raises(ValueError, match=f"holds the published {name}; its tags are not"):
        convert_musicnn(tmp_path / "model.h5", tmp_path / "other", tags="MTT" if name[:3] == "MSD" else "MSD")


def test_both_tag_lists_are_the_published_ones():
    if not REFERENCE.is_dir():
        pytest.skip("the reference folder ../shared/reference/musicnn is not here")
    golden = np.load(REFERENCE / "golden.npz")
    assert list(MAGNATAGATUNE_TAGS) == golden["tags_MTT"].tolist() and list(MSD_TAGS) == golden["tags_MSD"].tolist()


def test_the_licence_of_the_weights_and_the_code_come_along(vgg_file, tmp_path):
    report = convert_musicnn(vgg_file, tmp_path / "out")
    licence = (tmp_path / "out" / LICENCE_FILE).read_text()
    assert "Universitat Pompeu Fabra" in licence and "ISC" in licence and "MTT_vgg.safetensors" in licence
    assert any(LICENCE_FILE in note for note in report.notes)
    files = {file.name for file in (tmp_path / "out").iterdir()}
    assert {"modeling_musicnn.py", "configuration_musicnn.py", "preprocessor_config.json", "config.json"} <= files
    extractor = json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())
    assert (
        extractor["window_samples"] == 47_872 and extractor["drop_tail"] and extractor["feature"]["num_mel_bins"] == 96
    )


# Which tags.


def test_tags_are_never_guessed(vgg, tmp_path):
    source = tmp_path / "model" / "best.safetensors"
    source.parent.mkdir()
    save_file(vgg, source)
    with pytest.raises(ValueError, match=r"'best.safetensors' is not one .*--tags MTT, --tags MSD, or --tags FILE"):
        convert_musicnn(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    convert_musicnn(source, tmp_path / "msd", tags="MSD")
    assert config(tmp_path / "msd")["id2label"]["0"] == "rock" and config(tmp_path / "msd")["pooling"] == POOLING["MSD"]
    own = tmp_path / "tags.txt"
    own.write_text("".join(f"tag {number}\n" for number in range(50)))
    report = convert_musicnn(source, tmp_path / "own", tags=own)
    assert config(tmp_path / "own")["id2label"]["49"] == "tag 49"
    assert any("tensors do not tell" in note for note in report.notes)
    own.write_text("rock\npop\n")
    with pytest.raises(ValueError, match=r"'tags.txt' names 2 tags; the model has 50 outputs"):
        convert_musicnn(source, tmp_path / "out", tags=own)
    with pytest.raises(FileNotFoundError, match="--tags takes MTT, MSD or a file"):
        convert_musicnn(source, tmp_path / "out", tags="MDS")


@pytest.mark.parametrize(
    ("where", "first"),
    [("msd/model.safetensors", "rock"), ("msd/MTT-vgg.safetensors", "guitar"), ("x/mtt.h5", "guitar")],
)
def test_a_name_says_whose_tags_they_are(where, first, vgg, tmp_path):
    source = tmp_path / where
    source.parent.mkdir()
    save_file(vgg, source)
    report = convert_musicnn(source, tmp_path / "out")
    assert config(tmp_path / "out")["id2label"]["0"] == first
    assert "not published weights" in report.notes[0]


def test_another_number_of_outputs_needs_its_own_tags(tmp_path):
    save_file(values(vgg_shapes(labels=3)), tmp_path / "MTT_vgg.safetensors")
    with pytest.raises(ValueError, match="MTT has 50 tags; the model has 3 outputs"):
        convert_musicnn(tmp_path / "MTT_vgg.safetensors", tmp_path / "out")
    (tmp_path / "tags.txt").write_text("\nslow\nfast\n\nloud\n")
    convert_musicnn(tmp_path / "MTT_vgg.safetensors", tmp_path / "out", tags=tmp_path / "tags.txt")
    assert config(tmp_path / "out")["id2label"] == {"0": "slow", "1": "fast", "2": "loud"}


# Which tensors.


def test_missing_unexpected_and_misshapen_tensors_are_named(vgg, tmp_path):
    tensors = {name: tensor for name, tensor in vgg.items() if name != "3CNN/bias"}
    tensors |= {"extra/kernel": np.zeros(3, np.float32), "2CNN/kernel": vgg["2CNN/kernel"][:, :2]}
    save_file(tensors, tmp_path / "MTT_vgg.safetensors")
    with pytest.raises(CheckpointMismatch) as caught:
        convert_musicnn(tmp_path / "MTT_vgg.safetensors", tmp_path / "out")
    assert caught.value.missing == ["3CNN/bias"] and caught.value.unexpected == ["extra/kernel"]
    assert caught.value.misshapen == ["2CNN/kernel (3, 2, 128, 128) for (3, 3, 128, 128)"]
    assert not (tmp_path / "out").exists()
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "MTT_a.safetensors")
    with pytest.raises(CheckpointMismatch, match="none of its 1 names is known"):
        convert_musicnn(tmp_path / "MTT_a.safetensors", tmp_path / "out")


def test_an_optimisers_variables_are_left_out_and_counted(vgg, tmp_path):
    more = {
        "1CNN/kernel/Adam": vgg["1CNN/kernel"],
        "beta1_power": np.float32(0.5).reshape(()),
        "global_step": np.int64([7]),
    }
    report = convert_musicnn(write_tensorflow(tmp_path / "MTT_vgg", vgg | more), tmp_path / "out")
    assert report.num_tensors == 36 and "3 variables of the optimiser are left out" in report.notes


def test_values_that_no_training_leaves_behind_are_refused(vgg, tmp_path):
    for name, value in (("2CNN/kernel", np.nan), ("batch_normalization/moving_variance", -1.0)):
        tensor = vgg[name].copy()
        tensor.flat[0] = value
        save_file(vgg | {name: tensor}, tmp_path / "MTT_vgg.safetensors")
        with pytest.raises(ValueError, match=f"'{name}' holds values"):
            convert_musicnn(tmp_path / "MTT_vgg.safetensors", tmp_path / "out")
    save_file(vgg | {"dense/bias": np.arange(50)}, tmp_path / "MTT_vgg.safetensors")
    with pytest.raises(ValueError, match="'dense/bias' is of type I64"):
        convert_musicnn(tmp_path / "MTT_vgg.safetensors", tmp_path / "out")


def test_a_source_is_never_written_into(vgg, tmp_path):
    folder = write_tensorflow(tmp_path / "MTT_vgg", vgg)
    for source in (folder, folder / ".index"):
        with pytest.raises(ValueError, match="holds the source"):
            convert_musicnn(source, folder)
    with pytest.raises(ValueError, match="is a file"):
        convert_musicnn(folder, folder / ".meta")


# TensorFlow's files.

# What TensorFlow 2.19 wrote of three variables.
INDEX = base64.b85decode(
    "000IE0U81b0RRgRV{dMDGGs4eX<>5+0TKif0tf;q2sN4|8pa0(6>DX3Ze?r;0TKuj0tf;U0tf>j2q+jez}r0+01FLgY;R&=Y+rM9WpD@y5&$3|C<ryX*"
    "Pjsp0000100000SD*q&000000RR910KoF0umAx9XaHvb0000100000il|nWYzTP{000000000000000000000000000000000000000000000SNnjABy~s"
    "I"
)
DATA = base64.b85decode("0000#006+h00000004kL0000$002Nh004kM005vs2LJ#700000")


@pytest.fixture
def written_by_tensorflow(tmp_path):
    (tmp_path / "model.index").write_bytes(INDEX)
    (tmp_path / "model.data-00000-of-00001").write_bytes(DATA)
    return tmp_path


def test_what_tensorflow_wrote_is_read(written_by_tensorflow):
    assert crc32c(b"123456789") == 0xE3069283 and crc32c(b"") == 0
    tensors = read_tensorflow_checkpoint(checkpoint_prefix(written_by_tensorflow))
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()} == {
        "conv2d/bias": ((2,), "float32"),
        "conv2d/kernel": ((2, 3), "float32"),
        "global_step": ((), "int64"),
    }
    np.testing.assert_array_equal(tensors["conv2d/kernel"].read(), np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(tensors["conv2d/bias"].read(), [0.5, -1.5])
    assert tensors["global_step"].read() == 7


@pytest.mark.parametrize("size", [1, 255, 513, 70_001])
def test_the_checksum_of_parts_is_that_of_the_whole(size):
    data = np.random.default_rng(size).bytes(size)
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (0x82F63B78 if state & 1 else 0)
    assert crc32c(data) == state ^ 0xFFFFFFFF


def test_damage_to_any_byte_is_noticed(written_by_tensorflow):
    index, data = written_by_tensorflow / "model.index", written_by_tensorflow / "model.data-00000-of-00001"
    good = {
        name: t.read().tobytes() for name, t in read_tensorflow_checkpoint(f"{written_by_tensorflow}/model").items()
    }

    def read():
        return {
            name: t.read().tobytes() for name, t in read_tensorflow_checkpoint(f"{written_by_tensorflow}/model").items()
        }

    for position in range(len(DATA)):
        data.write_bytes(DATA[:position] + bytes([DATA[position] ^ 4]) + DATA[position + 1 :])
        with pytest.raises(ValueError, match="checksum"):
            read()
    for length in range(len(DATA)):
        data.write_bytes(DATA[:length])
        with pytest.raises(ValueError, match="incomplete"):
            read()
    data.write_bytes(DATA)
    for position in range(len(INDEX)):
        index.write_bytes(INDEX[:position] + bytes([INDEX[position] ^ 4]) + INDEX[position + 1 :])
        try:  # some bytes mean nothing: the rest of the footer
            assert read() == good
        except ValueError as error:
            assert "model.index" in str(error) and "\n" not in str(error)
        index.write_bytes(INDEX[:position])
        with pytest.raises(ValueError, match="model.index"):
            read()


def test_a_checkpoint_without_its_values_or_of_several_is_refused(written_by_tensorflow):
    (written_by_tensorflow / "other.index").write_bytes(INDEX)
    with pytest.raises(ValueError, match=r"holds 2 checkpoints; name one: model, other\.index"):
        checkpoint_prefix(written_by_tensorflow)
    assert checkpoint_prefix(written_by_tensorflow / "model.meta") == f"{written_by_tensorflow}/model"
    with pytest.raises(FileNotFoundError, match=r"'other.data-00000-of-00001'.*fetch that file"):
        read_tensorflow_checkpoint(f"{written_by_tensorflow}/other")
    (written_by_tensorflow / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no TensorFlow checkpoint"):
        checkpoint_prefix(written_by_tensorflow / "empty")


def test_a_compressed_index_is_said_to_be_one(vgg, tmp_path):
    folder = write_tensorflow(tmp_path / "MTT_vgg", vgg, compression=1)
    with pytest.raises(ValueError, match="is compressed"):
        convert_musicnn(folder, tmp_path / "out")


@pytest.mark.parametrize(
    ("entries", "times", "message"),
    [
        # Each name is the one before it and a letter more: names of a megabyte of them would fill the memory.
        (b"".join(varint(length) + b"\1\0a" for length in range(2000)), 1, "a name of more than 1,000 characters"),
        (b"\0\1\0a" * 20_000, 1, "more than 10,000 blocks or variables"),
        (b"\0\1\0a" * 200, 100, "more than 10,000 blocks or variables"),
        (b"", 20_000, "more than 10,000 blocks or variables"),
    ],
)
def test_a_small_index_that_claims_endless_entries_is_refused(entries, times, message, tmp_path):
    (tmp_path / "model.index").write_bytes(table(entries + struct.pack("<II", 0, 1), b"a", times=times))
    (tmp_path / "model.data-00000-of-00001").write_bytes(b"")
    with pytest.raises(ValueError, match=rf"'model.index' .*{message}"):
        read_tensorflow_checkpoint(f"{tmp_path}/model")


def test_a_variable_in_a_file_that_there_is_none_of_is_refused(tmp_path):
    entries = block([(b"", b"\x08\x01"), (b"a", b"\x08\x01\x18\x07")])  # one file, and "a" in the eighth
    (tmp_path / "model.index").write_bytes(table(entries, b"a"))
    (tmp_path / "model.data-00000-of-00001").write_bytes(b"")
    with pytest.raises(ValueError, match="'model.index' is damaged: 'a' lies in none of its files"):
        read_tensorflow_checkpoint(f"{tmp_path}/model")


def test_tensorflow_itself_writes_what_is_converted(vgg, tmp_path):
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    v1 = tf.compat.v1
    with v1.Graph().as_default():
        for name, tensor in vgg.items():
            v1.get_variable(name, initializer=tensor)
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            v1.train.Saver().save(session, f"{tmp_path}/MTT_vgg/")
    convert_musicnn(tmp_path / "MTT_vgg", tmp_path / "out")
    save_file(vgg, tmp_path / "MTT_vgg.safetensors")
    convert_musicnn(tmp_path / "MTT_vgg.safetensors", tmp_path / "same")
    assert weights(tmp_path / "out") == weights(tmp_path / "same")


# What is no checkpoint.


def hostile(path, kind):
    """A Keras file that takes its weights from elsewhere."""
    with h5py.File(path, "a") as file:
        group = file["model_weights/output/output"]
        if kind == "loop":
            file["model_weights/pool1/again"] = file["model_weights/pool1"]
            return path
        del group["bias:0"]
        if kind == "external link":
            group["bias:0"] = h5py.ExternalLink("/etc/passwd", "x")
        elif kind == "soft link":
            group["bias:0"] = h5py.SoftLink("/model_weights/output/output/kernel:0")
        elif kind == "external storage":
            group.create_dataset("bias:0", (50,), "f4", external=[("/etc/passwd", 0, 200)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout((50,), "f4")
            layout[:] = h5py.VirtualSource("/etc/passwd", "x", (50,))
            group.create_virtual_dataset("bias:0", layout)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("external link", "bias:0 is a link to another place or file"),
        ("soft link", "is a link"),
        ("external storage", "'output/bias' takes its values from another file"),
        ("virtual", "takes its values from another file"),
        ("loop", "groups without end"),
        ("none", "1 missing: dense/bias"),
    ],
)
def test_a_keras_file_must_hold_its_weights_itself(kind, message, vgg, tmp_path):
    source = hostile(write_keras(tmp_path / "MTT_vgg.h5", vgg), kind)
    with pytest.raises(ValueError, match=message):
        convert_musicnn(source, tmp_path / "out")


def test_a_whole_group_behind_a_link_is_refused(vgg, tmp_path):
    write_keras(tmp_path / "other.h5", vgg)
    with h5py.File(tmp_path / "MTT_vgg.h5", "w") as file:
        file["model_weights"] = h5py.ExternalLink("other.h5", "/model_weights")
    with pytest.raises(ValueError, match="refused: /model_weights is a link"):
        convert_musicnn(tmp_path / "MTT_vgg.h5", tmp_path / "out")


def test_shapes_are_refused_before_anything_of_that_size_is_read(vgg, tmp_path):
    source = write_keras(tmp_path / "MTT_vgg.h5", vgg)
    with h5py.File(source, "a") as file:
        for name, shape in (("output/output/kernel:0", (256, 2**33)), ("output/output/bias:0", (2**33,))):
            del file[f"model_weights/{name}"]
            file.create_dataset(f"model_weights/{name}", shape, "f4", chunks=True)
    with pytest.raises(ValueError, match=r"'dense/kernel' claims 8,589,934,592 outputs"):
        convert_musicnn(source, tmp_path / "out")


def test_a_chunk_that_would_fill_the_memory_is_refused(vgg, tmp_path):
    source = write_keras(tmp_path / "MTT_vgg.h5", vgg)
    with h5py.File(source, "a") as file:
        group = file["model_weights/output/output"]
        del group["bias:0"]
        group.create_dataset("bias:0", (50,), "f4", maxshape=(None,), chunks=(2**29,), compression="gzip")
    with pytest.raises(ValueError, match="'output/bias' is packed in one piece of 536,870,912 values"):
        convert_musicnn(source, tmp_path / "out")


@pytest.mark.parametrize("kind", ["safetensors", "h5"])
def test_a_file_that_breaks_off_is_refused_in_one_line(kind, vgg, tmp_path, capsys):
    path = tmp_path / f"MTT_vgg.{kind}"
    save_file(vgg, path) if kind == "safetensors" else write_keras(path, vgg)
    content = path.read_bytes()
    for share in (0.0, 0.001, 0.5, 0.999):
        path.write_bytes(content[: int(share * len(content))])
        assert main(["convert", "musicnn", str(path), str(tmp_path / "out")]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and path.name in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "neither a .safetensors file nor a Keras .h5"),
        (b"\x89HDF\r\n\x1a\n nothing else", "no readable HDF5 file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
        (b"<!DOCTYPE html><title>404</title>", "web page"),
    ],
)
def test_what_is_no_checkpoint_is_said_to_be_none(content, message, tmp_path):
    (tmp_path / "MTT_vgg.h5").write_bytes(content)
    with pytest.raises(ValueError, match=rf"MTT_vgg\.h5.*{message}"):
        convert_musicnn(tmp_path / "MTT_vgg.h5", tmp_path / "out")
    if content.startswith((b"v", b"<")):
        (tmp_path / "MTT_vgg.index").write_bytes(content)
        with pytest.raises(ValueError, match=rf"MTT_vgg\.index.*{message}"):
            convert_musicnn(tmp_path / "MTT_vgg.index", tmp_path / "out")


def test_a_source_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing at .*absent"):
        convert_musicnn(tmp_path / "absent", tmp_path / "out")


def test_without_h5py_the_message_says_how_to_get_it(vgg, tmp_path, monkeypatch):
    import sys

    source = write_keras(tmp_path / "MTT_vgg.h5", vgg)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r'pip install "hf-mathrock\[convert\]"'):
        convert_musicnn(source, tmp_path / "out")


def test_the_command_converts_and_says_what(vgg_file, tmp_path, capsys):
    assert main(["convert", "musicnn", str(vgg_file), str(tmp_path / "out"), "--tags", "MTT"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"MTT_vgg.safetensors: 36 tensors, 605,748 parameters -> {tmp_path / 'out'}"
    assert "  pooled as it was trained" in lines
    with torch.device("meta"):
        assert main(["convert", "musicnn", str(vgg_file), str(tmp_path / "out"), "--wavlm-config", "w.json"]) == 2
    assert "--wavlm-config is for mathrock, not for musicnn" in capsys.readouterr().err
