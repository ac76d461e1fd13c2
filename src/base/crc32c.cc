#include "base/crc32c.h"

#include <array>

#include "base/bytes.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace kvd::base {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // reflected

using Tables = std::array<std::array<uint32_t, 256>, 8>;

// Tables[k][b]: the effect of byte b followed by k zero bytes, so that eight bytes are folded at once.
constexpr Tables MakeTables() {
  Tables t{};
  for (uint32_t b = 0; b < 256; ++b) {
    uint32_t crc = b;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? kPolynomial : 0);
    t[0][b] = crc;
  }
  for (size_t k = 1; k < t.size(); ++k) {
    for (uint32_t b = 0; b < 256; ++b) t[k][b] = (t[k - 1][b] >> 8) ^ t[0][t[k - 1][b] & 0xff];
  }
  return t;
}

constexpr Tables kTables = MakeTables();

uint32_t UpdateWithTables(uint32_t crc, const char* p, size_t n) {
  crc = ~crc;
  for (; n >= 8; p += 8, n -= 8) {
    uint64_t v = LoadLittleEndian64(p) ^ crc;
    crc = 0;
    for (size_t k = 0; k < 8; ++k) crc ^= kTables[7 - k][(v >> (8 * k)) & 0xff];
  }
  for (; n > 0; ++p, --n) crc = (crc >> 8) ^ kTables[0][(crc ^ static_cast<uint8_t>(*p)) & 0xff];
  return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) uint32_t UpdateWithInstruction(uint32_t crc, const char* p, size_t n) {
  uint64_t state = ~crc;
  for (; n >= 8; p += 8, n -= 8) state = _mm_crc32_u64(state, LoadLittleEndian64(p));
  uint32_t tail = static_cast<uint32_t>(state);
  for (; n > 0; ++p, --n) tail = _mm_crc32_u8(tail, static_cast<uint8_t>(*p));
  return ~tail;
}
#endif

using Update = uint32_t (*)(uint32_t, const char*, size_t);

Update ChooseUpdate() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("sse4.2")) return UpdateWithInstruction;
#endif
  return UpdateWithTables;
}

}  // namespace

uint32_t Crc32c(uint32_t crc, std::string_view data) {
  static const Update update = ChooseUpdate();
  return update(crc, data.data(), data.size());
}

namespace crc32c_internal {
uint32_t PortableCrc32c(uint32_t crc, std::string_view data) {
  return UpdateWithTables(crc, data.data(), data.size());
}
}  // namespace crc32c_internal

}  // namespace kvd::base
