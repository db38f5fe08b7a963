// Runs the harness under cocotb: toggles the clock, and calls back whoever waits for something.
// Arguments: --trace FILE writes FST waveforms, where they were compiled in; plusargs.
// Writes coverage.dat, where coverage was compiled in.

#include <cstring>
#include <memory>

#include "Vtop.h"
#include "verilated.h"
#include "verilated_vpi.h"
#if VM_COVERAGE
#include "verilated_cov.h"
#endif
#if VM_TRACE
#include "verilated_fst_c.h"
#endif

extern "C" void vlog_startup_routines_bootstrap();

static vluint64_t now = 0;
double sc_time_stamp() { return static_cast<double>(now); }

// Callbacks of a value may change values again.
static void call_value_callbacks() {
    while (VerilatedVpi::callValueCbs()) {}
}

static void settle(Vtop& top) {
    do {
        do {
            top.eval();
            VerilatedVpi::clearEvalNeeded();
            VerilatedVpi::doInertialPuts();
            call_value_callbacks();
        } while (VerilatedVpi::evalNeeded());
        VerilatedVpi::callCbs(cbReadWriteSynch);
        VerilatedVpi::doInertialPuts();
        call_value_callbacks();
    } while (VerilatedVpi::evalNeeded());
    VerilatedVpi::callCbs(cbReadOnlySynch);
}

int main(int argc, char** argv) {
    constexpr vluint64_t half_period = 5;
    Verilated::commandArgs(argc, argv);
    Verilated::fatalOnVpiError(false);
    auto top = std::make_unique<Vtop>("");
#if VM_TRACE
    Verilated::traceEverOn(true);
    VerilatedFstC waves;
    for (int n = 1; n + 1 < argc; ++n) {
        if (std::strcmp(argv[n], "--trace") == 0) {
            top->trace(&waves, 99);
            waves.open(argv[n + 1]);
        }
    }
#endif
    vlog_startup_routines_bootstrap();
    VerilatedVpi::callCbs(cbStartOfSimulation);
    call_value_callbacks();
    top->clk = 0;
    settle(*top);
    while (!Verilated::gotFinish()) {
#if VM_TRACE
        if (waves.isOpen()) waves.dump(now);
#endif
        now += half_period;
        VerilatedVpi::callCbs(cbNextSimTime);
        VerilatedVpi::callTimedCbs();
        call_value_callbacks();
        top->clk = !top->clk;
        settle(*top);
    }
    top->final();
    VerilatedVpi::callCbs(cbEndOfSimulation);
#if VM_COVERAGE
    Verilated::defaultContextp()->coveragep()->write("coverage.dat");
#endif
#if VM_TRACE
    waves.close();
#endif
    return 0;
}
