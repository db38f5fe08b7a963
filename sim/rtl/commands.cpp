// Runs the harness by commands, which come by one file descriptor and are answered by another.
// Arguments: the two descriptors; --trace FILE writes FST waveforms, where they were compiled in.
// Writes coverage.dat at the end, where coverage was compiled in.
//
// A command is 8 little-endian words of 32 bits, the first of them what to do; an answer is 3.

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

#include "Vtop.h"
#include "Vtop___024root.h"
#include "verilated.h"
#if VM_COVERAGE
#include "verilated_cov.h"
#endif
#if VM_TRACE
#include "verilated_fst_c.h"
#endif

enum Kind : uint32_t {
    RESET,          // window_base, window_size, latency, stalls, seed (2 words): set them, and rst
    CLOCKS,         // count, rst: so many clocks
    FAULT,          // kind, first, last, response
    ACCESS,         // write, address, data; the answer: result, response
    TRANSFER,       // kind, index, offset, size
    WAIT,           // limit; the answer: clocks, nanoseconds (2 words)
};

static Vtop* top;
static uint64_t now = 0;
#if VM_TRACE
static VerilatedFstC* waves = nullptr;
#endif

static void half(bool high) {
    top->clk = high;
    top->eval();
#if VM_TRACE
    if (waves) waves->dump(now);
#endif
    now += 5;
}

// Makes the model take the clock for low without an evaluation: nothing happens at its falling edge.
// Where Verilator keeps the clock under another name, returns false.
template <typename Root>
static auto lower(Root* root, int) -> decltype(root->__Vtrigprevexpr___TOP__clk__0 = 0, true) {
    root->__Vtrigprevexpr___TOP__clk__0 = 0;
    return true;
}

template <typename Root>
static bool lower(Root*, long) {
    return false;
}

// A command's values count from the next rising edge on.
static void tick() {
#if VM_TRACE || VM_COVERAGE
    half(false);
#else
    if (lower(top->rootp, 0)) now += 5;
    else half(false);
#endif
    half(true);
}

static bool exchange(int file, void* data, size_t size, bool in) {
    auto* at = static_cast<char*>(data);
    while (size) {
        const ssize_t moved = in ? read(file, at, size) : write(file, at, size);
        if (moved <= 0) return false;
        at += moved;
        size -= moved;
    }
    return true;
}

static void act(const uint32_t* command, uint32_t* answer) {
    switch (command[0]) {
    case RESET:
        top->rst = 1;
        top->window_base = command[1];
        top->window_size = command[2];
        top->latency = command[3];
        top->stalls = command[4];
        top->seed = command[5] | static_cast<uint64_t>(command[6]) << 32;
        break;
    case CLOCKS:
        top->rst = command[2];
        for (uint32_t n = 0; n < command[1]; ++n) tick();
        break;
    case FAULT:
        top->fault = command[1];
        top->fault_first = command[2];
        top->fault_last = command[3];
        top->fault_response = command[4];
        break;
    case ACCESS:
        top->csr_write = command[1];
        top->csr_address = command[2];
        top->csr_data = command[3];
        top->csr_request = !top->csr_done;
        while (top->csr_done != top->csr_request) tick();
        answer[0] = top->csr_result;
        answer[1] = top->csr_response;
        break;
    case TRANSFER:
        top->transfer_kind = command[1];
        top->transfer_index = command[2];
        top->transfer_offset = command[3];
        top->transfer_size = command[4];
        top->transfer = !top->transferred;
        while (top->transferred != top->transfer) tick();
        break;
    case WAIT: {
        const auto begin = std::chrono::steady_clock::now();
        const uint64_t first = now;
        top->waiting = 1;
        for (uint64_t n = 0; n <= command[1]; ++n) {
            tick();
            if (top->finished) break;
        }
        top->waiting = 0;
        const uint64_t spent = std::chrono::nanoseconds(
            std::chrono::steady_clock::now() - begin).count();
        answer[0] = (now - first) / 10;
        answer[1] = spent;
        answer[2] = spent >> 32;
        break;
    }
    default:
        std::abort();
    }
}

int main(int argc, char** argv) {
    if (argc < 3) return 2;
    const int in = std::atoi(argv[1]), out = std::atoi(argv[2]);
    Verilated::commandArgs(argc, argv);
    top = new Vtop{};
#if VM_TRACE
    Verilated::traceEverOn(true);
    for (int n = 3; n + 1 < argc; ++n) {
        if (std::strcmp(argv[n], "--trace") == 0) {
            waves = new VerilatedFstC;
            top->trace(waves, 99);
            waves->open(argv[n + 1]);
        }
    }
#endif
    uint32_t command[8];
    while (exchange(in, command, sizeof command, true)) {
        uint32_t answer[3] = {};
        act(command, answer);
        if (!exchange(out, answer, sizeof answer, false)) break;
    }
    top->final();
#if VM_COVERAGE
    Verilated::defaultContextp()->coveragep()->write("coverage.dat");
#endif
#if VM_TRACE
    if (waves) waves->close();
    delete waves;
#endif
    delete top;
    return 0;
}
