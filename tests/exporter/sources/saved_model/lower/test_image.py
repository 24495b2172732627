"""Convolutions, pooling, normalization and resizing give TensorFlow's numbers in both layouts."""

import numpy as np
import pytest
from lowered import Const, Fed, Op, load, refusal, run, run_rows
from numpy.testing import assert_allclose, assert_array_equal

IMAGE = np.random.default_rng(0).integers(-4, 5, (2, 5, 6, 4)).astype(np.float32)
KERNEL = np.random.default_rng(1).integers(-2, 3, (3, 2, 4, 6)).astype(np.float32)


def convolved(x, kernel, strides, pads, dilations=(1, 1)):
    """The convolution of [n, h, w, c] by [kh, kw, c, out], term by term."""
    x = np.pad(x, ((0, 0), *pads, (0, 0)))
    reach = [(tap - 1) * dilation + 1 for tap, dilation in zip(kernel.shape, dilations, strict=False)]
    height, width = ((x.shape[1 + axis] - reach[axis]) // strides[axis] + 1 for axis in (0, 1))
    total = np.zeros((len(x), height, width, kernel.shape[3]), x.dtype)
    for i, j in np.ndindex(kernel.shape[:2]):
        rows = np.arange(height) * strides[0] + i * dilations[0]
        columns = np.arange(width) * strides[1] + j * dilations[1]
        total += x[:, rows][:, :, columns] @ kernel[i, j]
    return total


@pytest.mark.parametrize(
    ("attributes", "strides", "pads", "dilations"),
    [
        ({"padding": "VALID"}, (1, 1), ((0, 0), (0, 0)), (1, 1)),
        ({"padding": "VALID"}, (2, 3), ((0, 0), (0, 0)), (1, 1)),
        ({"padding": "SAME"}, (1, 1), ((1, 1), (0, 1)), (1, 1)),
        ({"padding": "SAME"}, (2, 3), ((1, 1), (0, 0)), (1, 1)),
        ({"padding": "SAME"}, (1, 1), ((2, 2), (1, 2)), (2, 3)),
        ({"padding": "VALID"}, (1, 1), ((0, 0), (0, 0)), (2, 3)),
        ({"padding": "EXPLICIT", "explicit_paddings": [0, 0, 2, 1, 0, 3, 0, 0]}, (2, 1), ((2, 1), (0, 3)), (1, 1)),
    ],
)
def test_convolution(attributes, strides, pads, dilations):
    attributes = {**attributes, "strides": [1, *strides, 1], "dilations": [1, *dilations, 1]}
    wanted = convolved(IMAGE, KERNEL, strides, pads, dilations)
    graph = load([(Op("Conv2D", [Fed(IMAGE, (None, 5, 6, 4)), Const(KERNEL)], attributes), "float32")])
    for rows in (0, 1, 2):
        assert_allclose(graph(IMAGE[:rows])[0], wanted[:rows], atol=1e-4)


def channels_first(x):
    return np.ascontiguousarray(np.moveaxis(x, -1, 1))


@pytest.mark.parametrize(
    "attributes",
    [
        {"padding": "VALID", "strides": [1, 1, 2, 1]},
        {"padding": "SAME", "strides": [1, 1, 2, 2]},
        {"padding": "EXPLICIT", "strides": [1, 1, 1, 1], "explicit_paddings": [0, 0, 0, 0, 1, 2, 0, 1]},
    ],
)
def test_convolution_with_channels_first(attributes):
    def last(numbers, each):
        return [*numbers[:each], *numbers[2 * each :], *numbers[each : 2 * each]]

    turned = {**attributes, "strides": last(attributes["strides"], 1)}
    if "explicit_paddings" in attributes:
        turned["explicit_paddings"] = last(attributes["explicit_paddings"], 2)
    wanted = run("Conv2D", [IMAGE, Const(KERNEL)], **turned)
    got = run("Conv2D", [channels_first(IMAGE), Const(KERNEL)], data_format="NCHW", **attributes)
    assert_allclose(got, channels_first(wanted), atol=1e-4)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_of_open_sizes(padding, stride):
    attributes = {"padding": padding, "strides": [1, stride, stride, 1]}
    open_image = Fed(IMAGE, (None, None, None, 4))
    convolution = Op("Conv2D", [open_image, Const(KERNEL)], attributes)
    graph = load([(convolution, "float32"), (Op("Shape", [convolution]), "int32")])
    for x in (IMAGE, IMAGE[:, :4, :3]):
        found, shape = graph(x)
        assert_allclose(found, run("Conv2D", [x, Const(KERNEL)], **attributes), atol=1e-4)
        assert shape.tolist() == list(found.shape)


def test_convolution_of_half():
    got = run("Conv2D", [IMAGE.astype("f2"), Const(KERNEL.astype("f2"))], padding="VALID", strides=[1, 1, 1, 1])
    assert_allclose(got, convolved(IMAGE, KERNEL, (1, 1), ((0, 0), (0, 0))), rtol=2e-3)


def test_groups_of_channels():
    kernel = KERNEL[:, :, :2]
    got = run("Conv2D", [IMAGE, Const(kernel)], padding="VALID", strides=[1, 1, 1, 1])
    halves = [convolved(IMAGE[..., part], kernel[..., out], (1, 1), ((0, 0), (0, 0))) for part, out in SPLIT]
    assert_allclose(got, np.concatenate(halves, -1), atol=1e-4)


SPLIT = [(slice(0, 2), slice(0, 3)), (slice(2, 4), slice(3, 6))]


@pytest.mark.parametrize(("padding", "pads"), [("VALID", ((0, 0), (0, 0))), ("SAME", ((1, 1), (0, 1)))])
def test_depthwise_convolution(padding, pads):
    kernel = KERNEL[..., :3]
    got = run_rows("DepthwiseConv2dNative", [IMAGE, Const(kernel)], padding=padding, strides=[1, 1, 1, 1])
    each = [convolved(IMAGE[..., [one]], kernel[:, :, [one]], (1, 1), pads) for one in range(4)]
    assert_allclose(got, np.concatenate(each, -1), atol=1e-4)


@pytest.mark.parametrize(("padding", "wanted"), [("VALID", (2, 1, 2, 3, 6)), ("SAME", (2, 2, 3, 3, 6))])
def test_convolution_of_volumes(padding, wanted):
    volume, kernel = np.stack([IMAGE, -IMAGE], 1), np.stack([KERNEL, KERNEL])
    got = run_rows("Conv3D", [volume, Const(kernel)], padding=padding, strides=[1, 1, 2, 2, 1])
    assert got.shape == wanted
    if padding == "VALID":
        # The second slice takes away what the first one gives.
        assert_allclose(got, np.zeros(wanted), atol=1e-4)


def test_convolutions_that_are_not_converted():
    plain = {"padding": "SAME", "strides": [1, 1, 1, 1]}
    assert refusal("Conv2D", [IMAGE, KERNEL], **plain) == "its kernel is computed by the graph"
    double = [IMAGE.astype(float), Const(KERNEL.astype(float))]
    assert refusal("Conv2D", double, "float64", **plain) == "it computes with float64"
    open_channels = {"shapes": [(None, 5, 6, None), None], **plain}
    assert refusal("Conv2D", [IMAGE, Const(KERNEL)], **open_channels) == "its number of channels is open"
    dilated = {"padding": "SAME", "strides": [1, 2, 2, 1], "dilations": [1, 2, 2, 1]}
    open_sizes = {"shapes": [(None, None, None, 4), None], **dilated}
    assert refusal("Conv2D", [IMAGE, Const(KERNEL)], **open_sizes) == "it pads an open size"


# ---- pooling --------------------------------------------------------------------------------------------------------


SQUARE = np.float32([[1, 5, 2], [8, 3, 4], [6, 7, 9]]).reshape(1, 3, 3, 1)


@pytest.mark.parametrize(
    ("op", "padding", "stride", "wanted"),
    [
        ("MaxPool", "VALID", 1, [[8, 5], [8, 9]]),
        ("MaxPool", "SAME", 1, [[8, 5, 4], [8, 9, 9], [7, 9, 9]]),
        ("MaxPool", "SAME", 2, [[8, 4], [7, 9]]),
        ("AvgPool", "VALID", 1, [[4.25, 3.5], [6, 5.75]]),
        ("AvgPool", "SAME", 1, [[4.25, 3.5, 3], [6, 5.75, 6.5], [6.5, 8, 9]]),
        ("AvgPool", "SAME", 2, [[4.25, 3], [6.5, 9]]),
    ],
)
def test_pooling(op, padding, stride, wanted):
    attributes = {"ksize": [1, 2, 2, 1], "strides": [1, stride, stride, 1], "padding": padding}
    pooled = Op(op, [Fed(SQUARE, (None, 3, 3, 1))], attributes)
    of_open_sizes = Op(op, [Fed(SQUARE, (None, None, None, 1))], attributes)
    half = Op(op, [Fed(SQUARE.astype("f2"), (None, 3, 3, 1))], attributes)
    for found in load([(pooled, "float32"), (of_open_sizes, "float32"), (half, "float16")])():
        assert found[0, :, :, 0].tolist() == wanted


@pytest.mark.parametrize(("op", "wanted"), [("MaxPool", [[8, 5], [8, 9]]), ("AvgPool", [[4.25, 3.5], [6, 5.75]])])
def test_pooling_with_channels_first(op, wanted):
    attributes = {"ksize": [1, 1, 2, 2], "strides": [1, 1, 1, 1], "padding": "VALID", "data_format": "NCHW"}
    assert run_rows(op, [channels_first(SQUARE)], **attributes)[0, 0].tolist() == wanted


def test_pooling_by_sizes_that_are_inputs():
    sizes = [Const(np.array(one, np.int32)) for one in ([1, 2, 2, 1], [1, 1, 1, 1])]
    assert run_rows("MaxPoolV2", [SQUARE, *sizes], padding="VALID")[0, :, :, 0].tolist() == [[8, 5], [8, 9]]


@pytest.mark.parametrize(("op", "wanted"), [("MaxPool3D", [[8, 5], [8, 9]]), ("AvgPool3D", [[0, 0], [0, 0]])])
def test_pooling_of_volumes(op, wanted):
    volume = np.stack([SQUARE, -SQUARE], 1)
    attributes = {"ksize": [1, 2, 2, 2, 1], "strides": [1, 1, 1, 1, 1], "padding": "VALID"}
    assert run_rows(op, [volume], **attributes)[0, 0, :, :, 0].tolist() == wanted


def test_pooling_over_channels():
    reason = refusal("MaxPool", [SQUARE], ksize=[1, 1, 1, 2], strides=[1, 1, 1, 1], padding="SAME")
    assert reason == "it pools over rows or channels"


# ---- normalization --------------------------------------------------------------------------------------------------


CHANNELS = [np.float32(one) for one in ([1, 2, 0.5, 1], [0, 1, -1, 3], [0.5, -0.5, 1, 0], [1, 4, 0.25, 2])]


def normalized(x, scale, offset, mean, variance, epsilon):
    return (x - mean) / np.sqrt(variance + epsilon) * scale + offset


@pytest.mark.parametrize("op", ["FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_normalization_by_moving_values(op, layout):
    x = IMAGE if layout == "NHWC" else channels_first(IMAGE)
    wanted = normalized(IMAGE, *CHANNELS, epsilon=0.01)
    statistics = [Const(one) for one in CHANNELS]
    got = run_rows(op, [x, *statistics], is_training=False, epsilon=0.01, data_format=layout)
    assert_allclose(got, wanted if layout == "NHWC" else channels_first(wanted), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_normalization_by_the_batch_itself(layout):
    """Keras writes LayerNormalization so: the rows are the channels."""
    x = IMAGE if layout == "NHWC" else channels_first(IMAGE)
    moments = IMAGE.mean((0, 1, 2)), IMAGE.var((0, 1, 2))
    wanted = normalized(IMAGE, *CHANNELS[:2], *moments, epsilon=0.001)
    nothing = Const(np.zeros(0, np.float32))
    inputs = [x, *(Const(one) for one in CHANNELS[:2]), nothing, nothing]
    got = run("FusedBatchNormV3", inputs, is_training=True, epsilon=0.001, data_format=layout)
    assert_allclose(got, wanted if layout == "NHWC" else channels_first(wanted), rtol=1e-4, atol=1e-5)


def test_normalization_of_half():
    statistics = [Const(one) for one in CHANNELS]
    got = run("FusedBatchNormV3", [IMAGE.astype("f2"), *statistics], is_training=False, epsilon=0.01)
    assert_allclose(got, normalized(IMAGE, *CHANNELS, epsilon=0.01), rtol=5e-3, atol=5e-3)


def test_the_statistics_of_a_batch():
    inputs = [IMAGE, *(Const(one) for one in CHANNELS)]
    assert refusal("FusedBatchNormV3", inputs, ["float32"] * 2, is_training=False) == "its statistics are used"


# ---- resizing -------------------------------------------------------------------------------------------------------


def resize(op, x, size, **attributes):
    return run_rows(op, [x, Const(np.array(size, np.int32))], "float32", half_pixel_centers=True, **attributes)


@pytest.mark.parametrize(
    ("op", "size", "wanted"),
    [
        ("ResizeBilinear", (2, 4), [[1, 1.25, 1.75, 2], [3, 3.25, 3.75, 4]]),
        ("ResizeBilinear", (1, 2), [[2, 3]]),
        ("ResizeNearestNeighbor", (2, 4), [[1, 1, 2, 2], [3, 3, 4, 4]]),
        ("ResizeNearestNeighbor", (3, 2), [[1, 2], [3, 4], [3, 4]]),
        ("ResizeNearestNeighbor", (1, 1), [[4]]),
    ],
)
def test_resizing(op, size, wanted):
    x = np.float32([[1, 2], [3, 4]]).reshape(1, 2, 2, 1)
    assert_allclose(resize(op, x, size)[0, :, :, 0], wanted, rtol=1e-6)


@pytest.mark.parametrize("op", ["ResizeBilinear", "ResizeNearestNeighbor"])
@pytest.mark.parametrize("attributes", [{}, {"half_pixel_centers": True, "align_corners": True}])
def test_resizing_by_another_rule(op, attributes):
    reason = refusal(op, [SQUARE, Const(np.array([2, 2], np.int32))], **attributes)
    assert reason == "it resizes by a rule of TensorFlow 1 that ONNX lacks"


def test_resizing_of_integers():
    x, size = np.arange(4, dtype=np.uint8).reshape(1, 2, 2, 1), Const(np.array([2, 4], np.int32))
    nearest = run("ResizeNearestNeighbor", [x, size], half_pixel_centers=True)
    assert nearest[0, :, :, 0].tolist() == [[0, 0, 1, 1], [2, 2, 3, 3]]
    linear = run("ResizeBilinear", [x, size], "float32", half_pixel_centers=True)
    assert linear[0, 0, :, 0].tolist() == [0, 0.25, 0.75, 1]


# ---- blocks, transposed convolutions --------------------------------------------------------------------------------


@pytest.mark.parametrize("pads", [((0, 0), (0, 0)), ((1, 0), (0, 2))])
def test_blocks_and_back(pads):
    x = IMAGE[:, :4] if pads[0] == (0, 0) else IMAGE
    parts = [Const(np.array(one, np.int32)) for one in ([2, 2], pads)]
    blocks = Op("SpaceToBatchND", [Fed(x, (None, *x.shape[1:])), *parts])
    back = Op("BatchToSpaceND", [blocks, *parts])
    apart, whole = load([(blocks, "float32"), (back, "float32")])()
    padded = np.pad(x, ((0, 0), *pads, (0, 0)))
    assert_array_equal(apart, np.concatenate([padded[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]))
    assert_array_equal(whole, x)


def test_blocks_of_open_sizes():
    parts = [Const(np.array(one, np.int32)) for one in ([2, 2], ((0, 0), (0, 0)))]
    open_sizes = {"shapes": [(None, None, 6, 4), None, None]}
    assert refusal("SpaceToBatchND", [IMAGE[:, :4], *parts], **open_sizes) == "it takes apart an open size"
    assert refusal("BatchToSpaceND", [IMAGE, *parts], **open_sizes) == "it puts together an open size"


@pytest.mark.parametrize(
    ("padding", "stride", "size", "begin"),
    [
        ("VALID", 1, (7, 7), (0, 0)),
        ("VALID", 2, (11, 12), (0, 0)),
        ("SAME", 1, (5, 6), (1, 0)),
        ("SAME", 2, (10, 12), (0, 0)),
        ("SAME", 2, (9, 11), (1, 0)),
    ],
)
def test_transposed_convolution(padding, stride, size, begin):
    kernel = np.moveaxis(KERNEL, 3, 2).copy()
    whole = np.zeros((2, 4 * stride + 4, 5 * stride + 4, 6), np.float32)
    for i, j in np.ndindex(3, 2):
        whole[:, i : i + 4 * stride + 1 : stride, j : j + 5 * stride + 1 : stride] += IMAGE @ kernel[i, j].T
    wanted = whole[:, begin[0] :, begin[1] :][:, : size[0], : size[1]]
    target = Const(np.array([2, *size, 6], np.int32))
    attributes = {"padding": padding, "strides": [1, stride, stride, 1]}
    assert_allclose(
        run("Conv2DBackpropInput", [target, Const(kernel), IMAGE], "float32", **attributes), wanted, atol=1e-4
    )


def test_transposed_convolutions_that_are_not_converted():
    kernel = np.moveaxis(KERNEL, 3, 2).copy()
    target = Const(np.array([2, 7, 7, 6], np.int32))
    plain = {"padding": "VALID", "strides": [1, 1, 1, 1]}
    reason = "its channels stand first, its padding is explicit or its kernel is computed by the graph"
    assert refusal("Conv2DBackpropInput", [target, kernel, IMAGE], **plain) == reason
    inputs = [target, Const(kernel), IMAGE]
    assert refusal("Conv2DBackpropInput", inputs, data_format="NCHW", **plain) == reason
    assert refusal("Conv2DBackpropInput", inputs, dilations=[1, 2, 2, 1], **plain) == "it is dilated"
    open_sizes = [None, None, (None, None, 6, 4)]
    assert refusal("Conv2DBackpropInput", inputs, shapes=open_sizes, **plain) == "its sizes are open"
    double = [target, Const(kernel.astype(float)), IMAGE.astype(float)]
    assert refusal("Conv2DBackpropInput", double, "float64", **plain) == "it computes with float64"
