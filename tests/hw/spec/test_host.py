"""What a program says to the host: written and read again, and what is wrong is named."""

import json

import pytest
from systolith.gen.compile.compile import compile_graph
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.host import Box, Host
from systolith.hw.spec.records import RecordError

from ...hosts import stated
from ...networks import random_network


@pytest.fixture(scope="module")
def host():
    arch = Arch(rows=4, columns=4, activation_depth=300, weight_depth=80, accumulator_depth=40,
                operand_depth=300)
    return compile_graph(random_network(8, arch)[0], arch, 4).host


def test_a_host_part_survives_json(host):
    text = json.dumps(host.to_json())
    assert Host.from_json(json.loads(text)) == host
    assert Host.from_json(stated(2).to_json()) == stated(2)
    assert Host.from_json(Host().to_json()) == Host()


def test_records_hold_tuples_and_plain_numbers(host):
    layer = host.layers[0]
    assert type(layer.input_shape) is tuple and isinstance(layer.array.passes[0][0], Box)
    assert host.rounds * host.together == host.batch == 4
    assert sum(box.passes for box in layer.array.passes[0]) > 0


def places(data, path=()):
    """(dict, key, name of the field) of every field of records in plain data; the first item of
    each list."""
    if isinstance(data, list) and data:
        yield from places(data[0], (*path[:-1], f"{path[-1]}[0]"))
    elif isinstance(data, dict):
        for key, value in data.items():
            if path not in {("host", "tensors"), ("host", "peak"), ("host", "depth")}:
                yield data, key, ".".join((*path, key))
            yield from places(value, (*path, key))


def test_every_field_that_is_missing_or_of_a_wrong_type_is_named(host):
    data, names = host.to_json(), []
    for record, key, name in list(places(data, ("host",))):
        kept, names = record.pop(key), [*names, name]
        with pytest.raises(RecordError) as caught:
            Host.from_json(data, "host")
        assert str(caught.value) == f"{name} is missing"
        record[key] = object()
        with pytest.raises(RecordError) as caught:
            Host.from_json(data, "host")
        assert str(caught.value).startswith(f"{name} must be ")
        del record[key]
        record[key] = kept
    assert Host.from_json(data) == host
    assert {"host.batch", "host.inputs[0].stride", "host.layers[0].array.y.margin",
            "host.memory[0].section", "host.layers[0].operand"} <= set(names)
    assert any(name.endswith(".operand_lives") for name in names)
