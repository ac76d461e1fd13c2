#include "net/peer/http_wire.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "net/peer/http_client.h"

namespace kvd::net {
namespace {

// The whole body of `wire`, fed in pieces; what is left over goes to *rest.
absl::StatusOr<std::string> ReadBody(HttpBodyReader reader, std::string_view wire, size_t piece,
                                     std::string* rest) {
  std::string body;
  while (!wire.empty() && !reader.done()) {
    std::string_view part = wire.substr(0, piece);
    size_t given = part.size();
    while (!part.empty() && !reader.done()) {
      absl::StatusOr<std::string_view> next = reader.Next(&part);
      if (!next.ok()) return next.status();
      if (next->empty()) break;
      body.append(*next);
    }
    wire.remove_prefix(given - part.size());
  }
  if (!reader.done()) return absl::UnavailableError("incomplete");
  *rest = std::string(wire);
  return body;
}

TEST(HttpWire, RequestHead_Parsed) {
  std::string wire = "POST /raft?x=1 HTTP/1.1\r\nHost: a:1\r\nx-raft-TO: 5\r\nContent-Length: 3\r\n\r\nabc";
  absl::StatusOr<size_t> size = FindHttpHead(wire);
  ASSERT_TRUE(size.ok());
  EXPECT_EQ(*size, wire.size() - 3);
  absl::StatusOr<HttpHead> head = ParseHttpRequestHead(std::string_view(wire).substr(0, *size));
  ASSERT_TRUE(head.ok()) << head.status();
  EXPECT_EQ(head->method, "POST");
  EXPECT_EQ(head->target, "/raft?x=1");
  EXPECT_EQ(head->fields.Get("X-Raft-To"), "5");
  EXPECT_EQ(head->content_length, 3u);
  EXPECT_TRUE(head->keep_alive);
}

TEST(HttpWire, Head_IncompleteGarbageAndOversized) {
  EXPECT_EQ(*FindHttpHead(""), 0u);
  EXPECT_EQ(*FindHttpHead("GE"), 0u);
  EXPECT_EQ(FindHttpHead("\x16\x03\x01").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(FindHttpHead("GET / HTTP/1.1\r\nA: " + std::string(kMaxHttpHeadBytes, 'a')).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_FALSE(ParseHttpRequestHead("GET /\r\n\r\n").ok());
  EXPECT_FALSE(ParseHttpRequestHead("GET / HTTP/1.1\r\nno colon\r\n\r\n").ok());
}

TEST(HttpWire, ResponseHead_WithoutLengthReadsUntilClose) {
  absl::StatusOr<HttpHead> head = ParseHttpResponseHead("HTTP/1.0 200 OK\r\n\r\n");
  ASSERT_TRUE(head.ok()) << head.status();
  HttpBodyReader body = BodyOfResponse(*head, "GET");
  EXPECT_FALSE(body.done());
  EXPECT_TRUE(body.EndOfStream());
  head = ParseHttpResponseHead("HTTP/1.1 204 No Content\r\n\r\n");
  ASSERT_TRUE(head.ok());
  EXPECT_TRUE(BodyOfResponse(*head, "POST").done());
}

TEST(HttpWire, ChunkedBody_AnySplit) {
  HttpHead head;
  head.chunked = true;
  std::string wire = "5\r\nhello\r\n00a;ext=1\r\n, chunked!\r\n0\r\nTrailer: x\r\n\r\nGET";
  for (size_t piece = 1; piece <= wire.size(); ++piece) {
    std::string rest;
    absl::StatusOr<std::string> body = ReadBody(BodyOfRequest(head), wire, piece, &rest);
    ASSERT_TRUE(body.ok()) << body.status();
    EXPECT_EQ(*body, "hello, chunked!");
    EXPECT_EQ(rest, "GET");
  }
}

TEST(HttpWire, ChunkedBody_Broken) {
  HttpHead head;
  head.chunked = true;
  std::string rest;
  for (std::string wire : {"zz\r\n", "\r\n", "ffffffffffffffffff\r\n", "1\r\nab\r\n"}) {
    absl::StatusOr<std::string> body = ReadBody(BodyOfRequest(head), wire, 1, &rest);
    EXPECT_EQ(body.status().code(), absl::StatusCode::kInvalidArgument) << wire;
  }
  EXPECT_EQ(ReadBody(BodyOfRequest(head), std::string(10'000, '0'), 100, &rest).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(HttpWire, Url) {
  absl::StatusOr<HttpUrl> url = ParseHttpUrl("http://10.0.0.1:2380/");
  ASSERT_TRUE(url.ok());
  EXPECT_EQ(url->Authority(), "10.0.0.1:2380");
  url = ParseHttpUrl("http://[::1]:2380");
  ASSERT_TRUE(url.ok());
  EXPECT_EQ(url->host, "::1");
  EXPECT_EQ(url->Authority(), "[::1]:2380");
  EXPECT_EQ(ParseHttpUrl("http://host")->port, "80");
  EXPECT_TRUE(ParseHttpUrl("https://host:1")->Secure());
  EXPECT_EQ(ParseHttpUrl("https://host")->port, "443");
  EXPECT_EQ(ParseHttpUrl("unixs://host:1").status().code(), absl::StatusCode::kUnimplemented);
  for (const char* bad :
       {"host:1", "http://", "http://:1", "http://h:x", "http://h:70000", "http://[::1:2"}) {
    EXPECT_EQ(ParseHttpUrl(bad).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
}

TEST(HttpWire, PercentDecode) {
  std::string out;
  EXPECT_TRUE(PercentDecode("/a%2Fb", &out));
  EXPECT_EQ(out, "/a/b");
  EXPECT_FALSE(PercentDecode("/a%2", &out));
  EXPECT_FALSE(PercentDecode("/a%zz", &out));
}

}  // namespace
}  // namespace kvd::net
