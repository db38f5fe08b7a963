// What Verilator's FST writer uses of LZ4 and zlib, so that waveforms need neither installed.
// LZ4 blocks are really compressed. zlib's part never shrinks anything, and the writer stores
// what did not become smaller as it is: only time stamps and initial values go that way.

#ifndef SYSTOLITH_FST_COMPRESSION_H
#define SYSTOLITH_FST_COMPRESSION_H

#include <cstdint>
#include <cstring>
#include <vector>

inline int LZ4_compressBound(int size) { return size + size / 255 + 16; }

// One LZ4 block, matches found greedily through a table of the last place of every 4-byte hash.
// Returns its size; `capacity` must be LZ4_compressBound(size).
inline int LZ4_compress_default(const char* source, char* target, int size, int capacity) {
    if (capacity < LZ4_compressBound(size)) return 0;
    // The format wants 5 literals at the end, and no match that starts in the last 12 bytes.
    constexpr int last_literals = 5, last_match = 12, hash_bits = 12, farthest = 65535;
    const auto* in = reinterpret_cast<const uint8_t*>(source);
    auto* out = reinterpret_cast<uint8_t*>(target);
    const auto length = [&out](int rest) {
        for (; rest >= 255; rest -= 255) *out++ = 255;
        *out++ = static_cast<uint8_t>(rest);
    };
    const auto literals = [&](int from, int count, int match_nibble) {
        *out++ = static_cast<uint8_t>((count < 15 ? count : 15) << 4 | match_nibble);
        if (count >= 15) length(count - 15);
        std::memcpy(out, in + from, count);
        out += count;
    };
    std::vector<int> places(1 << hash_bits, -1);
    int done = 0;
    for (int position = 0; position + last_match < size;) {
        uint32_t word, earlier = 0;
        std::memcpy(&word, in + position, 4);
        int& place = places[word * 2654435761u >> (32 - hash_bits)];
        const int from = place;
        place = position;
        if (from >= 0) std::memcpy(&earlier, in + from, 4);
        if (from < 0 || earlier != word || position - from > farthest) {
            ++position;
            continue;
        }
        int match = 4;
        while (position + match < size - last_literals && in[from + match] == in[position + match])
            ++match;
        literals(done, position - done, match - 4 < 15 ? match - 4 : 15);
        *out++ = static_cast<uint8_t>(position - from);
        *out++ = static_cast<uint8_t>((position - from) >> 8);
        if (match - 4 >= 15) length(match - 4 - 15);
        done = position += match;
    }
    literals(done, size - done, 0);
    return static_cast<int>(out - reinterpret_cast<uint8_t*>(target));
}

using uLong = unsigned long;
using uLongf = unsigned long;
using Bytef = unsigned char;
constexpr int Z_OK = 0;

inline uLong compressBound(uLong size) { return size; }

inline int compress2(Bytef* target, uLongf* target_size, const Bytef* source, uLong size, int) {
    std::memcpy(target, source, size);
    *target_size = size;
    return Z_OK;
}

#endif
