// Byte strings that many owners share, and the fixed-width integer codings of the wire and disk formats.
//
// Thread-safety: SharedBytes is immutable once made; copies may be used and dropped on any thread.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace kvd::base {

// An immutable, reference-counted byte string. A proposal is serialised once into one of these, and the log,
// every peer message and the apply path then share it. A null SharedBytes is an empty string.
class SharedBytes {
 public:
  SharedBytes() = default;
  // Takes the bytes over; no copy.
  explicit SharedBytes(std::string bytes)
      : owner_(bytes.empty() ? nullptr : std::make_shared<const std::string>(std::move(bytes))) {}
  static SharedBytes Copy(std::string_view bytes) { return SharedBytes(std::string(bytes)); }

  std::string_view view() const { return owner_ ? std::string_view(*owner_) : std::string_view(); }
  const char* data() const { return view().data(); }
  size_t size() const { return owner_ ? owner_->size() : 0; }
  bool empty() const { return size() == 0; }

  friend bool operator==(const SharedBytes& a, const SharedBytes& b) { return a.view() == b.view(); }

 private:
  std::shared_ptr<const std::string> owner_;
};

inline uint64_t LoadBigEndian64(const void* p) {
  uint64_t v;
  std::memcpy(&v, p, sizeof v);
  return __builtin_bswap64(v);
}
inline uint32_t LoadBigEndian32(const void* p) {
  uint32_t v;
  std::memcpy(&v, p, sizeof v);
  return __builtin_bswap32(v);
}
inline uint64_t LoadLittleEndian64(const void* p) {
  uint64_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline uint32_t LoadLittleEndian32(const void* p) {
  uint32_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline void StoreBigEndian64(void* p, uint64_t v) {
  v = __builtin_bswap64(v);
  std::memcpy(p, &v, sizeof v);
}
inline void StoreBigEndian32(void* p, uint32_t v) {
  v = __builtin_bswap32(v);
  std::memcpy(p, &v, sizeof v);
}
inline void StoreLittleEndian64(void* p, uint64_t v) {
  std::memcpy(p, &v, sizeof v);
}
inline void StoreLittleEndian32(void* p, uint32_t v) {
  std::memcpy(p, &v, sizeof v);
}
inline void AppendBigEndian64(std::string& out, uint64_t v) {
  char buf[sizeof v];
  StoreBigEndian64(buf, v);
  out.append(buf, sizeof buf);
}
inline void AppendBigEndian32(std::string& out, uint32_t v) {
  char buf[sizeof v];
  StoreBigEndian32(buf, v);
  out.append(buf, sizeof buf);
}

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "kvd runs on little-endian machines");

}  // namespace kvd::base
