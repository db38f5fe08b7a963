// Simulated annealing of a placed design by the delays that its wires will have.
//
// Reads a placement as refine.py writes it, and writes where each cell stands after it: x, y and
// its place in the tile, a line each. What it minimizes are the wires' extents and, with the same
// weight, the delays of all connections, each weighted by a high power of the longest path that it
// is part of (Marquardt, Betz and Rose, "Timing-Driven Placement for FPGAs", FPGA 2000). Those
// weights are computed eight times at each temperature, and follow slowly, so that no connection is
// long again as soon as it has become short.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <utility>
#include <vector>

namespace {

constexpr int PLACES = 8;               // of LUTs in a tile, and of flip-flops
constexpr int EMPTY = -1, TAKEN = -2;   // a place without a cell; one that no cell may move to
enum Kind { LUT, FLIP_FLOP, OTHER };

// The schedule, found by trial on an 8 x 8 core.
constexpr double FIRST_TEMPERATURE = 1e-5, LAST_TEMPERATURE = 2e-8, COOLING = 0.93;
constexpr double FIRST_RADIUS = 25, LAST_RADIUS = 3;
constexpr double FIRST_POWER = 4, LAST_POWER = 8;
constexpr int MOVES = 60;               // of each cell at a temperature
constexpr int WEIGHINGS = 8;            // at a temperature
constexpr float INERTIA = 0.9f;         // what a weight keeps of the one before
constexpr float LONG_PATH = 6.5f;       // ns: the weight of a path of this length is 1
constexpr double AIMED = 0.4;           // of the moves lead towards a cell that is connected
constexpr int AIM = 4;                  // tiles beside it
constexpr double GROUPS = 0.1;          // of the moves change places of slices or tiles
constexpr size_t MANY = 24;             // readers: the extent of such a net is kept by counts

struct Cell { int kind, x, y, place, carry, tile_key, slice_key, macro; };
struct Arc { int net; float delay; };
struct Sink {
    int cell;
    float adjust, setup;                // ns; a setup below 0: no register
    bool direct;                        // no wire: `adjust` is the whole delay
    std::vector<Arc> arcs;              // to the nets that follow from it
    float weight = 0, slack = 0, cost = 0;
};
struct Extent { int x0, x1, y0, y1; int length() const { return x1 - x0 + y1 - y0; } };
struct Net {
    int driver;
    float launch;                       // ns after the clock; below 0: from a LUT
    float load;                         // ns that its readers add
    std::vector<Sink> sinks;
    Extent extent;
    std::vector<uint16_t> columns, rows;        // of nets with many readers: ends in each
};
struct Pin { int net, sink; };          // sink: -1 where the cell drives the net
struct Move { int cell, x, y, place; }; // where a cell was

int width, height;
std::vector<Cell> cells;
std::vector<Net> nets;
std::vector<std::vector<int>> macros;   // cells that move together
std::vector<std::vector<Pin>> pins;     // of each cell
std::vector<int> places[2];             // the cell at each place, by its kind
std::vector<char> logic, closed;        // tiles of logic; those that no flip-flop may move to
std::vector<int> order;                 // nets, those that a net follows from before it
std::vector<float> arrival, required;
std::vector<Move> moves;                // cells that have moved, if the cost allows
float across[256], down[256];           // ns of a wire, by tiles
double all_wires, all_delays, longest;
std::mt19937 generator;

double uniform() { return generator() * (1.0 / 4294967296.0); }
int below(size_t limit) { return static_cast<int>(uniform() * static_cast<double>(limit)); }
int place_of(int x, int y, int place) { return (x * height + y) * PLACES + place; }
bool outside(int x, int y) {
    return x < 0 || y < 0 || x >= width || y >= height || !logic[x * height + y];
}

// Delays after routing, fitted to 65,000 wires of an 8 x 8 core (speed grade 6): 0.45 ns off.
float wire(const Net &net, const Sink &sink) {
    if (sink.direct) return sink.adjust;
    const Cell &from = cells[net.driver], &to = cells[sink.cell];
    int x = std::abs(from.x - to.x), y = std::abs(from.y - to.y);
    if (!x && !y) return std::max(0.1f, 0.6f + sink.adjust);
    return across[x] + down[y] + net.load + sink.adjust;
}

void count_ends(Net &net) {
    net.columns.assign(width, 0);
    net.rows.assign(height, 0);
    auto add = [&](int cell) { net.columns[cells[cell].x]++; net.rows[cells[cell].y]++; };
    add(net.driver);
    for (auto &sink : net.sinks) add(sink.cell);
}

void measure(Net &net) {
    Extent &e = net.extent;
    if (!net.columns.empty()) {
        for (e.x0 = 0; !net.columns[e.x0]; e.x0++) {}
        for (e.x1 = width - 1; !net.columns[e.x1]; e.x1--) {}
        for (e.y0 = 0; !net.rows[e.y0]; e.y0++) {}
        for (e.y1 = height - 1; !net.rows[e.y1]; e.y1--) {}
        return;
    }
    const Cell &driver = cells[net.driver];
    e = {driver.x, driver.x, driver.y, driver.y};
    for (auto &sink : net.sinks) {
        const Cell &cell = cells[sink.cell];
        e.x0 = std::min(e.x0, cell.x), e.x1 = std::max(e.x1, cell.x);
        e.y0 = std::min(e.y0, cell.y), e.y1 = std::max(e.y1, cell.y);
    }
}

// Arrival times, the longest path and each connection's slack to it.
void analyze() {
    longest = 0;
    for (size_t n = 0; n < nets.size(); n++) arrival[n] = std::max(0.f, nets[n].launch);
    for (int n : order)
        for (auto &sink : nets[n].sinks) {
            float at = arrival[n] + wire(nets[n], sink);
            if (sink.setup >= 0) longest = std::max<double>(longest, at + sink.setup);
            for (auto &arc : sink.arcs)
                arrival[arc.net] = std::max(arrival[arc.net], at + arc.delay);
        }
    std::fill(required.begin(), required.end(), 1e9f);
    for (size_t i = order.size(); i-- > 0;) {
        int n = order[i];
        for (auto &sink : nets[n].sinks) {
            float until = sink.setup >= 0 ? static_cast<float>(longest) - sink.setup : 1e9f;
            for (auto &arc : sink.arcs) until = std::min(until, required[arc.net] - arc.delay);
            float delay = wire(nets[n], sink);
            sink.slack = until - delay - arrival[n];
            required[n] = std::min(required[n], until - delay);
        }
    }
}

void weigh(double power, float inertia) {
    all_delays = all_wires = 0;
    for (auto &net : nets) {
        for (auto &sink : net.sinks) {
            double path = sink.slack > 1e8 ? 0 : std::max(0.0, longest - sink.slack);
            auto weight = static_cast<float>(std::pow(path / LONG_PATH, power));
            sink.weight = inertia * sink.weight + (1 - inertia) * weight;
            sink.cost = sink.weight * wire(net, sink);
            all_delays += sink.cost;
        }
        all_wires += net.extent.length();
    }
}

// Whether cells may stand together: flip-flops of a tile have one clock and one reset, those of a
// slice one enable; both LUTs of a slice are part of carry chains, or none is.
bool legal(int x, int y) {
    int tile_key = -1;
    for (int slice = 0; slice < PLACES; slice += 2) {
        int slice_key = -1, carry = -1;
        for (int place = slice; place < slice + 2; place++) {
            int one = places[FLIP_FLOP][place_of(x, y, place)];
            if (one >= 0) {
                if (tile_key >= 0 && tile_key != cells[one].tile_key) return false;
                if (slice_key >= 0 && slice_key != cells[one].slice_key) return false;
                tile_key = cells[one].tile_key, slice_key = cells[one].slice_key;
            }
            int other = places[LUT][place_of(x, y, place)];
            if (other >= 0) {
                if (carry >= 0 && carry != cells[other].carry) return false;
                carry = cells[other].carry;
            }
        }
    }
    return true;
}

void put(int number, int x, int y, int place) {
    Cell &cell = cells[number];
    moves.push_back({number, cell.x, cell.y, cell.place});
    cell.x = x, cell.y = y, cell.place = place;
}

void take_back() {
    for (auto &move : moves) {
        const Cell &cell = cells[move.cell];
        int &there = places[cell.kind][place_of(cell.x, cell.y, cell.place)];
        if (there == move.cell) there = EMPTY;
    }
    for (auto &move : moves) {
        Cell &cell = cells[move.cell];
        cell.x = move.x, cell.y = move.y, cell.place = move.place;
        places[cell.kind][place_of(cell.x, cell.y, cell.place)] = move.cell;
    }
}

// Whether `moves`, which have been made, are kept, by what they cost.
bool accepted(double temperature) {
    static std::vector<int> touched, stamps(nets.size(), 0);
    static std::vector<std::pair<int, Extent>> extents;
    static std::vector<std::pair<Sink *, float>> costs;
    static int stamp = 0;
    stamp++, touched.clear(), extents.clear(), costs.clear();
    auto count = [](int back) {
        for (auto &move : moves)
            for (auto &pin : pins[move.cell]) {
                Net &net = nets[pin.net];
                if (net.columns.empty()) continue;
                const Cell &cell = cells[move.cell];
                net.columns[move.x] -= back, net.rows[move.y] -= back;
                net.columns[cell.x] += back, net.rows[cell.y] += back;
            }
    };
    count(1);
    double wires = 0, delays = 0;
    for (auto &move : moves)
        for (auto &pin : pins[move.cell])
            if (stamps[pin.net] != stamp) {
                stamps[pin.net] = stamp;
                Net &net = nets[pin.net];
                extents.push_back({pin.net, net.extent});
                wires -= net.extent.length();
                measure(net);
                wires += net.extent.length();
            }
    auto price = [&](const Net &net, Sink &sink) {
        float cost = sink.weight * wire(net, sink);
        if (cost == sink.cost) return;
        costs.push_back({&sink, sink.cost});
        delays += cost - sink.cost;
        sink.cost = cost;
    };
    for (auto &move : moves)
        for (auto &pin : pins[move.cell]) {
            Net &net = nets[pin.net];
            if (pin.sink >= 0) price(net, net.sinks[pin.sink]);
            else for (auto &sink : net.sinks) price(net, sink);
        }
    double more = (delays / all_delays + wires / all_wires) / 2;
    if (more < 0 || (temperature > 0 && uniform() < std::exp(-more / temperature))) return true;
    count(-1);
    for (auto &[net, extent] : extents) nets[net].extent = extent;
    while (!costs.empty()) {
        costs.back().first->cost = costs.back().second;
        costs.pop_back();
    }
    return false;
}

// A tile for a cell: near the one where it is, or on the way to one that it is connected with.
std::pair<int, int> target(int number, double radius) {
    const Cell &cell = cells[number];
    int x = cell.x, y = cell.y;
    int most = std::max(1, static_cast<int>(std::exp(uniform() * std::log(radius + 1))));
    if (!pins[number].empty() && uniform() < AIMED) {
        const Pin &pin = pins[number][below(pins[number].size())];
        const Net &net = nets[pin.net];
        const Cell &other = cells[pin.sink >= 0 ? net.driver
                                                : net.sinks[below(net.sinks.size())].cell];
        double part = uniform() < 0.5 ? 1 : uniform();
        x += static_cast<int>(std::lround(part * (other.x - x)));
        y += static_cast<int>(std::lround(part * (other.y - y)));
        most = std::min(most, AIM);
    }
    x += below(2 * most + 1) - most;
    y += below(2 * most + 1) - most;
    return {x, y};
}

const std::vector<int> &macro_of(int cell) { return macros[cells[cell].macro]; }

// Whether what is at a place can leave it alone: nothing, a LUT, a flip-flop, or one of each.
bool single(int cell) {
    return cell == EMPTY || (cell >= 0 && !cells[cell].carry && macro_of(cell).size() <= 2);
}

bool decided(int x, int y, int to_x, int to_y, double temperature) {
    if (legal(x, y) && legal(to_x, to_y) && accepted(temperature)) return true;
    take_back();
    return false;
}

// A LUT, a flip-flop, or a LUT with its flip-flop changes places with what is elsewhere.
void move_single(const std::vector<int> &macro, double radius, double temperature) {
    const Cell from = cells[macro[0]];
    auto [x, y] = target(macro[below(macro.size())], radius);
    int place = below(PLACES);
    if (outside(x, y) || (x == from.x && y == from.y)) return;
    int here = place_of(from.x, from.y, from.place), there = place_of(x, y, place);
    bool both = macro.size() == 2;
    int other = places[from.kind][there];
    if (other >= 0 && macro_of(other).size() == 2) both = true;
    for (int kind : {LUT, FLIP_FLOP}) {
        if (!both && kind != from.kind) continue;
        if (!single(places[kind][here]) || !single(places[kind][there])) return;
        if (kind == FLIP_FLOP && (closed[x * height + y] || closed[from.x * height + from.y]))
            return;
    }
    moves.clear();
    for (int kind : {LUT, FLIP_FLOP}) {
        if (!both && kind != from.kind) continue;
        if (places[kind][here] >= 0) put(places[kind][here], x, y, place);
        if (places[kind][there] >= 0) put(places[kind][there], from.x, from.y, from.place);
        std::swap(places[kind][here], places[kind][there]);
    }
    decided(from.x, from.y, x, y, temperature);
}

// A slice or a whole tile changes places with another one.
void move_group(int number, double radius, double temperature) {
    const Cell from = cells[number];
    auto [x, y] = target(number, radius);
    if (outside(x, y) || (x == from.x && y == from.y) || closed[x * height + y]
        || closed[from.x * height + from.y])
        return;
    bool tile = uniform() < 0.5;
    int count = tile ? PLACES : 2;
    int here = place_of(from.x, from.y, tile ? 0 : from.place & ~1);
    int there = place_of(x, y, tile ? 0 : 2 * below(PLACES / 2));
    for (int kind : {LUT, FLIP_FLOP})
        for (int i = 0; i < count; i++)
            if (!single(places[kind][here + i]) || !single(places[kind][there + i])) return;
    moves.clear();
    for (int kind : {LUT, FLIP_FLOP})
        for (int i = 0; i < count; i++) {
            int &one = places[kind][here + i], &other = places[kind][there + i];
            if (one >= 0) put(one, x, y, (there + i) % PLACES);
            if (other >= 0) put(other, from.x, from.y, (here + i) % PLACES);
            std::swap(one, other);
        }
    decided(from.x, from.y, x, y, temperature);
}

// A carry chain, with its flip-flops, moves to where nothing is.
void move_chain(const std::vector<int> &macro, double radius, double temperature) {
    int one = macro[below(macro.size())];
    auto [to_x, to_y] = target(one, radius);
    int x = to_x - cells[one].x, y = to_y - cells[one].y;
    if (!x && !y) return;
    auto free = [&](int number) {
        const Cell &cell = cells[number];
        int nx = cell.x + x, ny = cell.y + y;
        if (outside(nx, ny) || (cell.kind == FLIP_FLOP && closed[nx * height + ny])) return false;
        int there = places[cell.kind][place_of(nx, ny, cell.place)];
        return there == EMPTY || (there >= 0 && cells[there].macro == cell.macro);
    };
    if (!std::all_of(macro.begin(), macro.end(), free)) return;
    moves.clear();
    for (int number : macro) {
        const Cell &cell = cells[number];
        places[cell.kind][place_of(cell.x, cell.y, cell.place)] = EMPTY;
    }
    for (int number : macro) {
        const Cell &cell = cells[number];
        put(number, cell.x + x, cell.y + y, cell.place);
        places[cell.kind][place_of(cell.x, cell.y, cell.place)] = number;
    }
    for (auto &move : moves)
        if (!legal(cells[move.cell].x, cells[move.cell].y)) return take_back();
    if (!accepted(temperature)) take_back();
}

bool read() {
    bool good = true;
    auto number = [&good](auto &...values) {
        auto one = [&good](auto &value) {
            double found = 0;
            good = good && std::scanf("%lf", &found) == 1;
            value = static_cast<std::decay_t<decltype(value)>>(found);
        };
        (one(values), ...);
    };
    int count = 0;
    number(width, height, count);
    if (!good || width > 256 || height > 256) return false;
    logic.assign(width * height, 0), closed.assign(width * height, 0);
    for (auto &some : places) some.assign(width * height * PLACES, EMPTY);
    for (int i = 0, x, y, shut; good && i < count; i++) {
        number(x, y, shut);
        logic[x * height + y] = 1, closed[x * height + y] = static_cast<char>(shut);
    }
    number(count);
    for (int i = 0, kind, x, y, place; good && i < count; i++) {
        number(kind, x, y, place);
        places[kind][place_of(x, y, place)] = TAKEN;
    }
    number(count);
    cells.resize(count), pins.resize(count);
    for (size_t i = 0; good && i < cells.size(); i++) {
        Cell &c = cells[i];
        number(c.kind, c.x, c.y, c.place, c.carry, c.tile_key, c.slice_key, c.macro);
        if (c.macro >= 0) {
            if (static_cast<size_t>(c.macro) >= macros.size()) macros.resize(c.macro + 1);
            macros[c.macro].push_back(static_cast<int>(i));
        }
        if (c.kind != OTHER)
            places[c.kind][place_of(c.x, c.y, c.place)] = c.macro < 0 ? TAKEN : static_cast<int>(i);
    }
    number(count);
    nets.resize(count);
    for (int n = 0; good && n < count; n++) {
        Net &net = nets[n];
        int readers = 0;
        number(net.driver, net.launch, readers);
        net.load = 0.069f * std::log(static_cast<float>(std::max(1, readers)));
        net.sinks.resize(readers);
        pins[net.driver].push_back({n, -1});
        for (int i = 0; good && i < readers; i++) {
            Sink &sink = net.sinks[i];
            int arcs = 0;
            number(sink.cell, sink.adjust, sink.setup, sink.direct, arcs);
            sink.arcs.resize(arcs);
            for (auto &arc : sink.arcs) number(arc.net, arc.delay);
            pins[sink.cell].push_back({n, i});
        }
    }
    return good;
}

void prepare() {
    for (int i = 0; i < 256; i++) {
        int near = std::min(i, 3), middle = std::clamp(i - 3, 0, 9), far = std::max(0, i - 12);
        across[i] = 0.767f + 0.093f * near + 0.068f * middle + 0.061f * far;
        down[i] = 0.136f * near + 0.058f * middle + 0.048f * far;
    }
    std::vector<int> before(nets.size(), 0);
    for (auto &net : nets)
        for (auto &sink : net.sinks)
            for (auto &arc : sink.arcs) before[arc.net]++;
    for (size_t n = 0; n < nets.size(); n++)
        if (!before[n]) order.push_back(static_cast<int>(n));
    for (size_t i = 0; i < order.size(); i++)
        for (auto &sink : nets[order[i]].sinks)
            for (auto &arc : sink.arcs)
                if (!--before[arc.net]) order.push_back(arc.net);
    arrival.resize(nets.size()), required.resize(nets.size());
    for (auto &net : nets) {
        if (net.sinks.size() > MANY) count_ends(net);
        measure(net);
    }
}

void anneal() {
    std::vector<int> all;
    for (size_t i = 0; i < macros.size(); i++)
        if (!pins[macros[i][0]].empty()) all.push_back(static_cast<int>(i));
    const int rounds =
        static_cast<int>(std::log(LAST_TEMPERATURE / FIRST_TEMPERATURE) / std::log(COOLING)) + 1;
    for (int round = 0; round <= rounds; round++) {
        double part = static_cast<double>(round) / rounds;
        double temperature = round == rounds ? 0 : FIRST_TEMPERATURE * std::pow(COOLING, round);
        double radius = FIRST_RADIUS * std::pow(LAST_RADIUS / FIRST_RADIUS, part);
        double power = FIRST_POWER + (LAST_POWER - FIRST_POWER) * part;
        for (int weighing = 0; weighing < WEIGHINGS; weighing++) {
            analyze();
            weigh(power, round || weighing ? INERTIA : 0);
            for (size_t i = 0; i < all.size() * MOVES / WEIGHINGS; i++) {
                const auto &macro = macros[all[below(all.size())]];
                if (!single(macro[0])) move_chain(macro, radius, temperature);
                else if (uniform() < GROUPS) move_group(macro[0], radius, temperature);
                else move_single(macro, radius, temperature);
            }
        }
        std::fprintf(stderr, "%d of %d: longest path %.2f ns, wires %.0f\n", round, rounds, longest,
                     all_wires);
    }
}

}  // namespace

int main(int count, char **arguments) {
    if (count != 2 || !read()) {
        std::fprintf(stderr, "usage: anneal SEED <placement >places\n");
        return 1;
    }
    generator.seed(static_cast<unsigned>(std::strtoul(arguments[1], nullptr, 10)));
    prepare();
    if (order.size() != nets.size()) {
        std::fprintf(stderr, "a loop without a register\n");
        return 1;
    }
    anneal();
    for (auto &cell : cells) std::printf("%d %d %d\n", cell.x, cell.y, cell.place);
}
