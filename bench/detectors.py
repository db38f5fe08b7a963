"""YOLOv8 and YOLOX as float ONNX networks with random weights."""

import numpy as np
from float_writer import FloatWriter

__all__ = ["yolov8n", "yolox_nano"]


def _c2f(net, x, outputs, blocks, shortcut):
    """Two halves, one of which goes through bottlenecks, each of which is joined at the end."""
    x = net.conv(x, outputs, 1, function="silu")
    parts = net.halves(x)
    for _ in range(blocks):
        half = outputs // 2
        y = net.conv(net.conv(parts[-1], half, 3, function="silu"), half, 3, function="silu",
                     gain=0.6 if shortcut else 1.0)
        parts = [*parts, net.add(parts[-1], y) if shortcut else y]
    return net.conv(net.concat(*parts), outputs, 1, function="silu")


def _anchors(sizes, strides):
    """(middles of cells [2, A], strides [1, A]) of maps of these (rows, columns)."""
    places, steps = [], []
    for (height, width), stride in zip(sizes, strides, strict=True):
        y, x = np.indices((height, width)).reshape(2, -1) + 0.5
        places.append(np.stack((x, y)))
        steps.append(np.full((1, height * width), stride))
    return (np.float32(np.concatenate(part, axis=1)) for part in (places, steps))


def yolov8n(size=320, classes=80, bins=16):
    """YOLOv8n: C2f blocks, SPPF, a pyramid, three heads; boxes by the expected value of
    distributions over `bins` distances."""
    net = FloatWriter("yolov8n", (3, size, size))
    x = net.conv(net.conv(net.input, 16, 3, 2, "silu"), 32, 3, 2, "silu")
    levels, x = [], _c2f(net, x, 32, 1, True)
    for channels, blocks in ((64, 2), (128, 2), (256, 1)):
        x = _c2f(net, net.conv(x, channels, 3, 2, "silu"), channels, blocks, True)
        levels.append(x)
    x = net.conv(x, 128, 1, function="silu")
    pools = [x]
    for _ in range(3):
        pools.append(net.max_pool(pools[-1], 5))
    low, middle, _ = levels
    high = net.conv(net.concat(*pools), 256, 1, function="silu")
    middle = _c2f(net, net.concat(net.enlarge(high), middle), 128, 1, False)
    low = _c2f(net, net.concat(net.enlarge(middle), low), 64, 1, False)
    middle = _c2f(net, net.concat(net.conv(low, 64, 3, 2, "silu"), middle), 128, 1, False)
    high = _c2f(net, net.concat(net.conv(middle, 128, 3, 2, "silu"), high), 256, 1, False)

    rows, maps = [], (low, middle, high)
    for x in maps:
        box = net.conv(net.conv(x, 64, 3, function="silu"), 64, 3, function="silu")
        kind = net.conv(net.conv(x, 80, 3, function="silu"), 80, 3, function="silu")
        both = net.concat(net.conv(box, 4 * bins, 1, function=None),
                          net.conv(kind, classes, 1, function=None))
        channels, height, width = net.shapes[both]
        rows.append(net.node("Reshape", [both, np.int64([1, channels, -1])],
                             (channels, height * width)))
    anchors = sum(net.shapes[x][1] for x in rows)
    both = net.node("Concat", rows, (4 * bins + classes, anchors), axis=2)
    box, kind = net.node("Split", [both, np.int64([4 * bins, classes])], (4 * bins, anchors),
                         (classes, anchors), axis=1)
    box = net.node("Reshape", [box, np.int64([1, 4, bins, anchors])], (4, bins, anchors))
    box = net.node("Transpose", [box], (bins, 4, anchors), perm=(0, 2, 1, 3))
    box = net.node("Softmax", [box], (bins, 4, anchors), axis=1)
    box = net.node("Conv", [box, np.arange(bins, dtype=np.float32).reshape(1, bins, 1, 1)],
                   (1, 4, anchors))
    box = net.node("Reshape", [box, np.int64([1, 4, anchors])], (4, anchors))
    first, last = net.node("Split", [box, np.int64([2, 2])], (2, anchors), (2, anchors), axis=1)
    places, steps = _anchors([net.shapes[x][1:] for x in maps], (8, 16, 32))
    first = net.node("Sub", [places[None], first], (2, anchors))
    last = net.node("Add", [last, places[None]], (2, anchors))
    middle = net.node("Div", [net.node("Add", [first, last], (2, anchors)), np.float32(2)],
                      (2, anchors))
    extent = net.node("Sub", [last, first], (2, anchors))
    box = net.node("Concat", [middle, extent], (4, anchors), axis=1)
    box = net.node("Mul", [box, steps], (4, anchors))
    kind = net.node("Sigmoid", [kind], (classes, anchors))
    return net, net.node("Concat", [box, kind], (4 + classes, anchors), axis=1)


def _separable(net, x, outputs, kernel, stride=1):
    x = net.conv(x, net.shapes[x][0], kernel, stride, "silu", depthwise=True)
    return net.conv(x, outputs, 1, function="silu")


def _csp(net, x, outputs, blocks, shortcut=True):
    half = outputs // 2
    one, two = (net.conv(x, half, 1, function="silu") for _ in range(2))
    for _ in range(blocks):
        y = _separable(net, net.conv(one, half, 1, function="silu"), half, 3)
        one = net.add(y, one) if shortcut else y
    return net.conv(net.concat(one, two), outputs, 1, function="silu")


def yolox_nano(size=416, classes=80):
    """YOLOX-nano: Focus, depthwise CSP blocks, SPP, a pyramid, decoupled heads; as its exporter
    writes it, boxes are not decoded."""
    net = FloatWriter("yolox-nano", (3, size, size))
    x = net.conv(net.focus(net.input), 16, 3, function="silu")
    x = _csp(net, _separable(net, x, 32, 3, 2), 32, 1)
    low = _csp(net, _separable(net, x, 64, 3, 2), 64, 3)
    middle = _csp(net, _separable(net, low, 128, 3, 2), 128, 3)
    x = net.conv(_separable(net, middle, 256, 3, 2), 128, 1, function="silu")
    x = net.concat(x, *(net.max_pool(x, window) for window in (5, 9, 13)))
    high = _csp(net, net.conv(x, 256, 1, function="silu"), 256, 1, False)

    high = net.conv(high, 128, 1, function="silu")
    middle = _csp(net, net.concat(net.enlarge(high), middle), 128, 1, False)
    middle = net.conv(middle, 64, 1, function="silu")
    low = _csp(net, net.concat(net.enlarge(middle), low), 64, 1, False)
    middle = _csp(net, net.concat(_separable(net, low, 64, 3, 2), middle), 128, 1, False)
    high = _csp(net, net.concat(_separable(net, middle, 128, 3, 2), high), 256, 1, False)

    rows, maps = [], (low, middle, high)
    for x in maps:
        x = net.conv(x, 64, 1, function="silu")
        kind, box = (_separable(net, _separable(net, x, 64, 3), 64, 3) for _ in range(2))
        parts = [net.conv(box, 4, 1, function=None, gain=0.1)]
        for source, channels in ((box, 1), (kind, classes)):
            y = net.conv(source, channels, 1, function=None)
            parts.append(net.node("Sigmoid", [y], net.shapes[y]))
        y = net.concat(*parts)
        channels, height, width = net.shapes[y]
        rows.append(net.node("Reshape", [y, np.int64([1, channels, -1])],
                             (channels, height * width)))
    anchors = sum(net.shapes[x][1] for x in rows)
    both = net.node("Concat", rows, (5 + classes, anchors), axis=2)
    return net, net.node("Transpose", [both], (anchors, 5 + classes), perm=(0, 2, 1))
