/* Everything below is the same for every network; what differs stands above.
 *
 * Runs a network on a core: reads the program that `systolith build` made, puts it into the core's
 * memory, and for every image writes the inputs, starts the core, and reads the outputs.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("host: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void *room(size_t bytes)
{
    void *place = calloc(1, bytes ? bytes : 1);
    if (!place) die("out of memory: %zu bytes", bytes);
    return place;
}

/* ---- The core: registers and memory, over a serial line or in this machine's address space. ---- */

static int line = -1;                           /* the serial line, or -1 */
static volatile uint32_t *registers;            /* otherwise these two */
static volatile uint8_t *memory;
static uint64_t memory_bytes = UINT64_MAX;
static uint32_t window_base;
static uint32_t core;                           /* the one that registers and memory are those of */

static void send_all(const uint8_t *data, size_t size)
{
    while (size) {
        ssize_t done = write(line, data, size);
        if (done < 0 && errno != EINTR) die("the serial line: %s", strerror(errno));
        if (done > 0) { data += done; size -= (size_t)done; }
    }
}

static int take(uint8_t *data, size_t size, int milliseconds)
{
    while (size) {
        struct pollfd waiting = {line, POLLIN, 0};
        if (poll(&waiting, 1, milliseconds) <= 0) return 0;
        ssize_t got = read(line, data, size);
        if (got <= 0) return 0;
        data += got;
        size -= (size_t)got;
    }
    return 1;
}

/* Whatever another host has left unfinished, and what is damaged, is forgotten after silence. */
static void synchronize(void)
{
    for (int tries = 0; tries < 20; ++tries) {
        uint8_t answer = 0;
        usleep(SILENCE_US);
        tcflush(line, TCIFLUSH);
        send_all((const uint8_t *)"?", 1);
        struct pollfd waiting = {line, POLLIN, 0};
        if (take(&answer, 1, TIMEOUT_MS) && answer == '?' && poll(&waiting, 1, 20) == 0) return;
    }
    die("the board does not answer: is it connected, configured, and out of reset?");
}

/* The check of commands and answers: CRC-16, polynomial 0x1021, from 0xffff. */
static uint16_t check(uint16_t crc, const uint8_t *data, size_t size)
{
    while (size--) {
        crc ^= (uint16_t)(*data++ << 8);
        for (int n = 0; n < 8; ++n)
            crc = (uint16_t)(crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1);
    }
    return crc;
}

/* One command of the bridge: letter, address, number of words less one, check, the words, check.
 * Its answer, or 0 where it is lost or damaged. */
static int ask(char letter, uint32_t address, uint8_t *data, size_t words)
{
    uint32_t less = (uint32_t)words - 1;
    uint8_t head[9] = {(uint8_t)letter, (uint8_t)address, (uint8_t)(address >> 8),
                       (uint8_t)(address >> 16), (uint8_t)(address >> 24), (uint8_t)less,
                       (uint8_t)(less >> 8)}, end[3];
    uint16_t crc = check(0xffff, head, 7);
    head[7] = (uint8_t)crc;
    head[8] = (uint8_t)(crc >> 8);
    send_all(head, sizeof head);
    if (letter == 'W') {
        crc = check(crc, data, 4 * words);
        uint8_t after[2] = {(uint8_t)crc, (uint8_t)(crc >> 8)};
        send_all(data, 4 * words);
        send_all(after, sizeof after);
    } else {
        if (!take(data, 4 * words, TIMEOUT_MS)) return 0;
        crc = check(crc, data, 4 * words);
    }
    if (!take(end, sizeof end, TIMEOUT_MS)) return 0;
    return check(crc, end, 1) == (end[1] | end[2] << 8) ? end[0] : 0;
}

/* Words to or from the board. What is lost or damaged is asked for again, but a start: it would be a
 * second run. */
static void command(char letter, uint32_t address, uint8_t *data, size_t words)
{
    while (words) {
        size_t now = words < 1 << 16 ? words : 1 << 16;
        int once = letter == 'W' && (address & (0x80000000u | (CORE_BYTES - 1)))
            == (0x80000000u | CONTROL), answer, tries = 0;
        while (!(answer = ask(letter, address, data, now))) {
            if (once || ++tries > 3) die("the board's answers are lost or damaged");
            synchronize();
        }
        if (answer != 'K') die("the board refused an access to %#x", address);
        data += 4 * now;
        address += 4 * (uint32_t)now;
        words -= now;
    }
}

static uint32_t read_register(uint32_t offset)
{
    offset += core * CORE_BYTES;
    if (line < 0) return registers[offset / 4];
    uint8_t word[4];
    command('R', 0x80000000u | offset, word, 1);
    return word[0] | (uint32_t)word[1] << 8 | (uint32_t)word[2] << 16 | (uint32_t)word[3] << 24;
}

static void write_register(uint32_t offset, uint32_t value)
{
    offset += core * CORE_BYTES;
    if (line < 0) { registers[offset / 4] = value; return; }
    uint8_t word[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16),
                       (uint8_t)(value >> 24)};
    command('W', 0x80000000u | offset, word, 1);
}

/* Offsets and sizes are multiples of 4. */
static void write_memory(uint32_t offset, uint8_t *data, size_t size)
{
    if ((uint64_t)core * CORE_STRIDE + offset + size > memory_bytes)
        die("the memory is too small for the program");
    offset += core * CORE_STRIDE;
    if (line >= 0) { command('W', offset, data, size / 4); return; }
    for (size_t n = 0; n < size; ++n) memory[offset + n] = data[n];
}

static void read_memory(uint32_t offset, uint8_t *data, size_t size)
{
    offset += core * CORE_STRIDE;
    if (line >= 0) { command('R', offset, data, size / 4); return; }
    for (size_t n = 0; n < size; ++n) data[n] = memory[offset + n];
}

static void *mapped(int file, uint64_t address, uint64_t size)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), start = address / page * page;
    uint8_t *place = mmap(NULL, size + address - start, PROT_READ | PROT_WRITE, MAP_SHARED, file,
                          (off_t)start);
    if (place == MAP_FAILED) die("cannot map address %#llx: %s", (unsigned long long)address,
                                 strerror(errno));
    return place + (address - start);
}

static void connect_to(char *device)
{
    if (!strncmp(device, "mem:", 4)) {
        unsigned long long register_base, base, bytes;
        char *at = strrchr(device, '@');
        if (!at || sscanf(at, "@%lli,%lli,%lli", (long long *)&register_base, (long long *)&base,
                          (long long *)&bytes) != 3)
            die("a core in memory is mem:FILE@REGISTERS,WINDOW,BYTES, not %s", device);
        *at = 0;
        int file = open(device + 4, O_RDWR | O_SYNC);
        if (file < 0) die("%s: %s", device + 4, strerror(errno));
        registers = mapped(file, register_base, CORES * CORE_BYTES);
        memory = mapped(file, base, bytes);
        memory_bytes = bytes;
        window_base = (uint32_t)base;
        return;
    }
    if (!strncmp(device, "serial:", 7)) device += 7;
    struct termios settings;
    line = open(device, O_RDWR | O_NOCTTY);
    if (line < 0) die("%s: %s", device, strerror(errno));
    if (tcgetattr(line, &settings)) die("%s is no serial line", device);
    cfmakeraw(&settings);
    cfsetspeed(&settings, B1000000);
    tcsetattr(line, TCSANOW, &settings);
    synchronize();
}

/* ---- Codes and words. ---- */

/* The bits of a code in a word's groups: lane `lane` of the word at byte `start`. */
static void put(uint8_t *section, size_t start, int lane, uint32_t code)
{
    size_t bit = 8 * (start + (size_t)(lane / GROUP) * GROUP_BYTES)
                 + (size_t)(lane % GROUP) * CODE_BITS;
    for (int n = 0; n < CODE_BITS; ++n, ++bit)
        if (code >> n & 1) section[bit / 8] |= (uint8_t)(1u << bit % 8);
}

static uint64_t bits(const uint8_t *data, size_t bit, int count)
{
    uint64_t value = 0;
    for (int n = 0; n < count; ++n, ++bit) value |= (uint64_t)(data[bit / 8] >> bit % 8 & 1) << n;
    return value;
}

/* A number's code: that of the range between two thresholds that it lies in. */
static uint32_t encode(const struct quantizer *q, float x)
{
    size_t low = 0, high = q->count;            /* thresholds below `low` are at most x */
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (q->thresholds[middle] <= x) low = middle + 1; else high = middle;
    }
    return q->codes[low];
}

static void pack(const struct input *in, const float *values, uint8_t *section, int image)
{
    size_t elements = (size_t)in->channels * in->height * in->width;
    uint32_t *codes = room(elements * sizeof *codes);
    for (size_t n = 0; n < elements; ++n) {
        size_t from = in->order ? (size_t)in->order[n] : n;
        if (!isfinite(values[from])) die("input %s must be finite (element %zu of image %d)",
                                         in->name, from, image);
        codes[n] = encode(&in->quantizers[in->kinds ? in->kinds[n] : 0], values[from]);
    }
    int rows = in->map_height * TOGETHER, up = image % TOGETHER * in->map_height;
    size_t base = in->offset + (size_t)(image / TOGETHER) * in->stride - INPUT_OFFSET;
    for (int y = 0; in->row_bytes && y < in->map_height; ++y)   /* of which the chip makes words */
        for (int n = 0; n < in->row_bytes; ++n) {
            int sy = y * in->step_y - in->pad_y + n / in->channels % in->taps_y * in->dilation_y;
            int sx = n / in->channels / in->taps_y - in->pad_x;
            int cy = sy < 0 ? 0 : sy >= in->height ? in->height - 1 : sy;
            int cx = sx < 0 ? 0 : sx >= in->width ? in->width - 1 : sx;
            uint32_t code = codes[((size_t)(n % in->channels) * in->height + cy) * in->width + cx];
            if (!in->replicate && (cy != sy || cx != sx)) code = in->fill;
            section[base + (size_t)(up + y) * in->row_bytes + n] = (uint8_t)code;
        }
    int channels = in->row_bytes ? 0 : in->taps_y * in->taps_x * in->channels;
    int blocks = (channels + VECTOR - 1) / VECTOR, planes = in->planes ? in->planes : 1;
    int lanes = in->plane_lanes ? in->plane_lanes : blocks * VECTOR;    /* of a plane */
    for (int channel = 0; channel < channels; ++channel) {
        int ky = channel / in->channels / in->taps_x, kx = channel / in->channels % in->taps_x;
        for (int y = 0; y < in->map_height; ++y)
            for (int x = 0; x < in->map_width; ++x) {
                int sy = y * in->step_y - in->pad_y + ky * in->dilation_y;
                int sx = x * in->step_x - in->pad_x + kx * in->dilation_x;
                uint32_t code = in->fill;
                if (in->replicate) {
                    sy = sy < 0 ? 0 : sy >= in->height ? in->height - 1 : sy;
                    sx = sx < 0 ? 0 : sx >= in->width ? in->width - 1 : sx;
                }
                if (sy >= 0 && sy < in->height && sx >= 0 && sx < in->width)
                    code = codes[((size_t)(channel % in->channels) * in->height + sy) * in->width
                                 + sx];
                for (int plane = 0; plane < planes; ++plane) {
                    int place = plane * lanes + channel;
                    uint32_t bit = in->planes ? (code ^ 1u << (planes - 1)) >> (planes - 1 - plane)
                                                & 1 : code;
                    size_t word = ((size_t)(place / VECTOR) * rows + up + y) * in->map_width + x;
                    put(section, base + word * in->word_bytes, place % VECTOR, bit);
                }
            }
    }
    free(codes);
}

static double value_of(const struct output *out, const uint8_t *section, int image, size_t element)
{
    size_t pixels = (size_t)out->height * out->width;
    int channel = (int)(element / pixels);
    int stored = out->channels ? out->channels[channel] : channel;
    int rows = out->height * TOGETHER;
    size_t y = element % pixels / out->width + (size_t)(image % TOGETHER) * out->height;
    size_t x = element % out->width;
    size_t base = out->offset + (size_t)(image / TOGETHER) * out->stride - OUTPUT_OFFSET;
    double value;
    if (out->raw) {
        size_t group = ((size_t)(stored / GROUP) * rows + y) * out->width + x;
        size_t chunk = group * (GROUP / POST_LANES) + stored % GROUP / POST_LANES;
        uint64_t sum = bits(section, 8 * (base + chunk * RAW_BYTES)
                                     + (size_t)(stored % POST_LANES) * RAW_BITS, RAW_BITS);
        if (RAW_BITS < 64 && sum >> (RAW_BITS - 1)) sum |= ~(uint64_t)0 << RAW_BITS % 64;
        value = (double)(int64_t)sum;
    } else {
        size_t word = ((size_t)(stored / VECTOR) * rows + y) * out->width + x;
        int lane = stored % VECTOR;
        value = out->numbers[bits(section, 8 * (base + word * WORD_BYTES
                                                + (size_t)(lane / GROUP) * GROUP_BYTES)
                                           + (size_t)(lane % GROUP) * CODE_BITS, CODE_BITS)];
    }
    if (out->final) return value;
    int n = out->parameters > 1 ? channel : 0;
    value = (value - out->zero_point) * out->scale[n];
    value += out->add[n];
    if (out->slope && value < 0) value *= out->slope[out->slopes > 1 ? channel : 0];
    return value < out->low ? out->low : value > out->high ? out->high : value;
}

/* ---- A run. ---- */

static uint8_t *whole_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    if (!file) die("%s: %s", path, strerror(errno));
    size_t have = 0, most = 1 << 16;
    uint8_t *data = room(most);
    for (size_t got; (got = fread(data + have, 1, most - have, file)) > 0;) {
        have += got;
        if (have == most && !(data = realloc(data, most *= 2))) die("out of memory");
    }
    fclose(file);
    *size = have;
    return data;
}

static void wait_while(uint32_t mask, const char *what)
{
    for (uint32_t n = 0, status; (status = read_register(STATUS)) & mask; ++n) {
        int vain = status & RESETTING && (status >> 4 & 15) == RESET_IN_VAIN;
        if (n > 100000 || vain) die("%s", what);
        usleep(100);
    }
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: %s DEVICE program.bin INPUTS OUTPUTS\n"
                "DEVICE: a serial line such as /dev/ttyUSB0, or mem:FILE@REGISTERS,WINDOW,BYTES\n"
                "INPUTS: float32, little-endian, image by image: %s\n"
                "OUTPUTS: float32, the same way:\n", argv[0], shapes);
        for (int n = 0; n < OUTPUTS; ++n)
            fprintf(stderr, "  %-20s %d numbers an image\n", outputs[n].name, outputs[n].count);
        return 2;
    }
    size_t size, bytes;
    uint8_t *program = whole_file(argv[2], &size);
    if (size != PROGRAM_FILE_BYTES || memcmp(program, "SYSTOLITH PROGRAM 1\n", 20)
        || memcmp(program + size - 32, PROGRAM_HASH, 32))
        die("%s is not the program that this file was written for", argv[2]);
    float *values = (float *)(void *)whole_file(argv[3], &bytes);
    if (bytes == 0 || bytes % (4 * IMAGE_FLOATS))
        die("%s must hold whole images of %d float32 numbers", argv[3], IMAGE_FLOATS);
    size_t images = bytes / 4 / IMAGE_FLOATS;
    FILE *results = fopen(argv[4], "wb");
    if (!results) die("%s: %s", argv[4], strerror(errno));

    connect_to(argv[1]);
    for (core = 0; core < CORES; ++core) {
        if (read_register(ID) != ID_VALUE) die("there is no Systolith core");
        if (read_register(VERSION) != VERSION_VALUE || read_register(IDENTITY_LOW) != CHIP_LOW
            || read_register(IDENTITY_HIGH) != CHIP_HIGH)
            die("the core is another chip than the program was made for");
        write_register(CONTROL, 2);
        wait_while(RESETTING, "a soft reset does not end, because the memory bus owes answers: reset "
                   "core and memory by their reset inputs, or configure the FPGA again");
        write_memory(0, program + IMAGE_AT, IMAGE_BYTES);
        write_register(WINDOW_BASE, window_base + core * CORE_STRIDE);
        if (read_register(WINDOW_BASE) != window_base + core * CORE_STRIDE)
            die("the core's window begins at address 0 (its bus.address_bits is below 32)");
        write_register(WINDOW_SIZE, WINDOW_BYTES);
        write_register(PROGRAM, CODE_OFFSET);
        write_register(WATCHDOG, 1 << 16);
    }

    uint8_t *in = room(INPUT_BYTES), *out = room(OUTPUT_BYTES);
    uint64_t cycles = 0;
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (size_t start = 0; start < images; start += BATCH * CORES) {
        for (core = 0; core < CORES; ++core) {
            size_t first = start + core * BATCH;
            if (first >= images) break;
            memset(in, 0, INPUT_BYTES);
            for (int n = 0; n < BATCH; ++n) {
                size_t image = first + (size_t)n < images ? first + (size_t)n : images - 1;
                for (int k = 0; k < INPUTS; ++k)
                    pack(&inputs[k], values + image * IMAGE_FLOATS + inputs[k].start, in, n);
            }
            write_memory(INPUT_OFFSET, in, INPUT_BYTES);
            write_register(CONTROL, 1);
        }
        for (core = 0; core < CORES; ++core) {
            size_t first = start + core * BATCH;
            if (first >= images) break;
            wait_while(1, "the core does not finish");
            uint32_t status = read_register(STATUS);
            if ((status & 7) != 2)
                die("core %u stopped with STATUS %#x at byte %#x of its window", core, status,
                    read_register(ERROR_ADDRESS));
            cycles = read_register(CYCLES);
            read_memory(OUTPUT_OFFSET, out, OUTPUT_BYTES);
            for (int n = 0; n < BATCH && first + (size_t)n < images; ++n)
                for (int k = 0; k < OUTPUTS; ++k)
                    for (int element = 0; element < outputs[k].count; ++element) {
                        size_t from = outputs[k].order ? (size_t)outputs[k].order[element]
                                                       : (size_t)element;
                        float value = (float)value_of(&outputs[k], out, n, from);
                        fwrite(&value, 4, 1, results);
                    }
        }
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    if (fclose(results)) die("%s: %s", argv[4], strerror(errno));
    double seconds = (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec
                                                                           - begin.tv_nsec);
    printf("%zu images, %.1f images/s, %llu cycles a run (cycle model: %llu)\n", images,
           (double)images / seconds, (unsigned long long)cycles,
           (unsigned long long)CYCLES_MODEL);
    return 0;
}
