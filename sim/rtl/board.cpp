// A board in Verilator whose serial line is a pseudo-terminal, as a USB adapter's would be.
// Prints the terminal's name, then runs until its standard input is closed. A number there, on a
// line of its own, is answered by an empty line after so many thousand clock cycles; after the letter
// r, the board's reset is held for them. DIVISOR is the number of clock cycles per bit. While nothing happens on the line the clock goes on, since the
// core may be running.
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <fcntl.h>
#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include "Vtop.h"
#include "verilated.h"

namespace {

// Sends bytes to the board: start bit, eight bits from the lowest, stop bit.
class Sender {
public:
    std::deque<unsigned char> bytes;

    int next() {
        if (left_ == 0) {
            if (bytes.empty()) return 1;
            frame_ = 1u << 9 | bytes.front() << 1;
            bytes.pop_front();
            left_ = 10 * DIVISOR;
        }
        int bit = frame_ >> ((10 * DIVISOR - left_) / DIVISOR) & 1;
        --left_;
        return bit;
    }

private:
    unsigned frame_ = 0;
    int left_ = 0;
};

// Takes the board's bytes; bits are sampled in their middle.
class Receiver {
public:
    std::deque<unsigned char> bytes;

    void clock(int line) {
        if (passed_ < 0) {
            if (!line) passed_ = 0;
            return;
        }
        ++passed_;
        if (passed_ % DIVISOR != DIVISOR / 2) return;
        int bit = passed_ / DIVISOR;
        if (bit >= 1 && bit <= 8) byte_ = byte_ >> 1 | line << 7;
        if (bit == 9) {
            bytes.push_back(byte_);
            passed_ = -1;
        }
    }

private:
    int passed_ = -1;
    unsigned byte_ = 0;
};

int open_terminal() {
    int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (terminal < 0 || grantpt(terminal) || unlockpt(terminal)) {
        std::perror("the simulated board's terminal");
        std::exit(1);
    }
    // Kept open: without anyone at the other end, reads would fail.
    int other = open(ptsname(terminal), O_RDWR | O_NOCTTY);
    termios settings;
    tcgetattr(other, &settings);
    cfmakeraw(&settings);
    tcsetattr(other, TCSANOW, &settings);
    return terminal;
}

// Numbers on standard input.
class Requests {
public:
    bool closed = false;
    long thousands = -1;            // the number that was asked for last, until it is taken
    bool reset = false;             // it follows an r

    void look() {
        pollfd waiting{STDIN_FILENO, POLLIN, 0};
        while (!closed && thousands < 0 && poll(&waiting, 1, 0) > 0) {
            char byte;
            if (read(STDIN_FILENO, &byte, 1) <= 0) closed = true;
            else if (byte == 'r') reset = true;
            else if (byte != '\n') number_ = 10 * number_ + (byte - '0');
            else {
                thousands = number_;
                number_ = 0;
            }
        }
    }

private:
    long number_ = 0;
};

}  // namespace

int main() {
    VerilatedContext context;
    Vtop top{&context};
    int terminal = open_terminal();
    std::printf("%s\n", ptsname(terminal));
    std::fflush(stdout);
    Sender sender;
    Receiver receiver;
    Requests requests;
    for (requests.look(); !requests.closed; requests.look()) {
        if (requests.thousands == 0) {
            std::printf("\n");
            std::fflush(stdout);
            requests.reset = false;
        }
        top.reset = requests.reset;
        if (requests.thousands >= 0) --requests.thousands;
        unsigned char buffer[4096];
        if (sender.bytes.size() < sizeof buffer) {
            ssize_t got = read(terminal, buffer, sizeof buffer);
            for (ssize_t n = 0; n < got; ++n) sender.bytes.push_back(buffer[n]);
        }
        for (int n = 0; n < 1000; ++n) {
            top.rx = sender.next();
            top.clk = 1;
            top.eval();
            top.clk = 0;
            top.eval();
            receiver.clock(top.tx);
        }
        while (!receiver.bytes.empty()) {
            unsigned char byte = receiver.bytes.front();
            if (write(terminal, &byte, 1) != 1) break;      // full: again after more clocks
            receiver.bytes.pop_front();
        }
    }
    top.final();
    return 0;
}
