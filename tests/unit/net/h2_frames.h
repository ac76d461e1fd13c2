// HTTP/2 frames made by hand, for tests that break the rules.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "raw_socket.h"

namespace kvd::net {

inline constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

enum FrameType : uint8_t {
  kData = 0,
  kHeaders = 1,
  kReset = 3,
  kSettings = 4,
  kPing = 6,
  kGoaway = 7,
  kWindow = 8
};

inline std::string Frame(uint8_t type, uint8_t flags, uint32_t stream, std::string_view payload) {
  std::string frame;
  for (int shift : {16, 8, 0}) frame += static_cast<char>(payload.size() >> shift);
  frame += static_cast<char>(type);
  frame += static_cast<char>(flags);
  for (int shift : {24, 16, 8, 0}) frame += static_cast<char>(stream >> shift);
  frame += payload;
  return frame;
}

// A header without compression and without indexing.
inline std::string Literal(std::string_view name, std::string_view value) {
  auto text = [](std::string_view s) {
    std::string out;
    if (s.size() < 127) {
      out += static_cast<char>(s.size());
    } else {
      out += '\x7f';
      size_t rest = s.size() - 127;
      while (rest >= 128) {
        out += static_cast<char>(rest % 128 + 128);
        rest /= 128;
      }
      out += static_cast<char>(rest);
    }
    return out += s;
  };
  return std::string(1, '\0') + text(name) + text(value);
}

inline std::string RequestHeaders(std::string_view method, std::string_view path,
                                  std::string_view content_type) {
  std::string block = Literal(":method", method) + Literal(":scheme", "http") + Literal(":path", path) +
                      Literal(":authority", "test");
  if (!content_type.empty()) block += Literal("content-type", content_type) + Literal("te", "trailers");
  return block;
}

inline std::string GrpcMessage(std::string_view bytes) {
  std::string message(1, '\0');
  for (int shift : {24, 16, 8, 0}) message += static_cast<char>(bytes.size() >> shift);
  return message.append(bytes);
}

struct ReceivedFrame {
  uint8_t type;
  uint8_t flags;
  uint32_t stream;
  std::string payload;
};

// Reads frames until one of `type` on `stream` comes, or the stream ends; returns all, the wanted one last.
class FrameReader {
 public:
  explicit FrameReader(RawSocket& socket) : socket_(socket) {}
  bool Next(ReceivedFrame* frame) {
    while (true) {
      if (buffer_.size() >= 9) {
        auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<unsigned char>(buffer_[i])); };
        size_t size = byte(0) << 16 | byte(1) << 8 | byte(2);
        if (buffer_.size() >= 9 + size) {
          *frame = {static_cast<uint8_t>(byte(3)), static_cast<uint8_t>(byte(4)),
                    byte(5) << 24 | byte(6) << 16 | byte(7) << 8 | byte(8), buffer_.substr(9, size)};
          buffer_.erase(0, 9 + size);
          return true;
        }
      }
      if (!socket_.ReadSome(&buffer_)) return false;
    }
  }
  bool Await(uint8_t type, ReceivedFrame* frame) {
    while (Next(frame)) {
      if (frame->type == type) return true;
    }
    return false;
  }
  // The error code of a GOAWAY or RST_STREAM.
  static uint32_t ErrorOf(const ReceivedFrame& frame) {
    size_t at = frame.type == kGoaway ? 4 : 0;
    uint32_t code = 0;
    for (size_t i = at; i < at + 4; ++i) code = code << 8 | static_cast<unsigned char>(frame.payload[i]);
    return code;
  }

 private:
  RawSocket& socket_;
  std::string buffer_;
};

}  // namespace kvd::net
