// CRC-32C (Castagnoli, reflected 0x82f63b78), with the processor's instruction where there is one.
#pragma once

#include <cstdint>
#include <string_view>

namespace kvd::base {

// The checksum of A‖data, given `crc`, the checksum of A; 0 for an empty A. The same function as Go's
// crc32.Update with the Castagnoli table, which etcd's WAL and HashKV use. Thread-safe.
uint32_t Crc32c(uint32_t crc, std::string_view data);

namespace crc32c_internal {
// The same without the instruction, for machines that lack it and for the test that holds the two equal.
uint32_t PortableCrc32c(uint32_t crc, std::string_view data);
}  // namespace crc32c_internal

}  // namespace kvd::base
