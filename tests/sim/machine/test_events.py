"""Processes meet in the order of cycles where they ask for it, and else run as values come."""

from systolith.sim.machine.events import At, Channel, Events


def test_a_reader_waits_for_its_values_and_takes_them_in_order():
    events, channel, seen = Events(), Channel([1]), []

    def reader():
        for _ in range(3):
            seen.append((yield channel))

    def writer():
        events.put(channel, 2)
        events.put(channel, 3)
        return
        yield
    events.run([reader(), writer()])
    assert seen == [1, 2, 3]


def test_what_shares_a_port_goes_in_the_order_of_cycles_and_turns():
    """Whatever the order in which the processes start; the later of two of one turn goes later."""
    def process(name, *times):
        for cycle, turn in times:
            yield At(cycle, turn)
            seen.append((cycle, turn, name))
    wanted = {"a": [(3, 1), (7, 0)], "b": [(3, 0), (5, 2)], "c": [(3, 1)]}
    for names in ("abc", "bca", "cab"):
        seen = []
        Events().run([process(name, *wanted[name]) for name in names])
        first, second = sorted("ac", key=names.index)
        assert seen == [(3, 0, "b"), (3, 1, first), (3, 1, second), (5, 2, "b"), (7, 0, "a")]


def test_the_horizon_is_the_next_request():
    events, seen = Events(), []

    def near():
        yield At(2, 0)
        seen.append(events.horizon)
        yield At(9, 1)
        seen.append(events.horizon)

    def far():
        yield At(9, 0)
        seen.append(events.horizon)
    events.run([near(), far()])
    assert seen == [9, 9, None]


def test_a_process_whose_value_never_comes_keeps_no_other_from_its_end():
    ended = []

    def stuck():
        yield Channel()
        ended.append("stuck")

    def other():
        yield At(1, 0)
        ended.append("other")
    Events().run([stuck(), other()])
    assert ended == ["other"]
