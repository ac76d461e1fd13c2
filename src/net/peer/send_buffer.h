// A growing byte buffer that messages are encoded into and that is written to the socket as it is.
//
// Thread-safety: thread-compatible. Pointers are valid until the next Grow or Clear.
#pragma once

#include <cstring>
#include <memory>
#include <string_view>

namespace kvd::net {

class SendBuffer {
 public:
  const char* data() const { return data_.get(); }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  // Room for n more bytes at the end, uninitialised.
  char* Grow(size_t n) {
    if (size_ + n > capacity_) Reserve(size_ + n);
    char* at = data_.get() + size_;
    size_ += n;
    return at;
  }
  void Append(std::string_view bytes) {
    if (!bytes.empty()) std::memcpy(Grow(bytes.size()), bytes.data(), bytes.size());
  }
  char* mutable_data() { return data_.get(); }
  // Gives the memory back where it is more than `keep` bytes.
  void Clear(size_t keep) {
    size_ = 0;
    if (capacity_ > keep) {
      data_.reset();
      capacity_ = 0;
    }
  }

 private:
  void Reserve(size_t need) {
    size_t capacity = capacity_ * 2 < 4096 ? 4096 : capacity_ * 2;
    if (capacity < need) capacity = need;
    auto bigger = std::make_unique_for_overwrite<char[]>(capacity);
    if (size_ > 0) std::memcpy(bigger.get(), data_.get(), size_);
    data_ = std::move(bigger);
    capacity_ = capacity;
  }

  std::unique_ptr<char[]> data_;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

}  // namespace kvd::net
