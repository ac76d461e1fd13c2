#include "server/config/url.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvd::server {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(ParseUrl, TakesWhatEtcdTakes) {
  for (const char* text :
       {"http://127.0.0.1:2379", "https://host.example:2380", "http://[::1]:2379", "unix://sock:1",
        "unix:///var/run/kvd.sock", "http://:2379", "http://0.0.0.0:65535"}) {
    auto url = ParseUrl(text);
    ASSERT_TRUE(url.ok()) << url.status();
    EXPECT_EQ(url->ToString(), text);
  }
  EXPECT_EQ(ParseUrl("  HTTP://h:1 ")->ToString(), "http://h:1");
  EXPECT_EQ(ParseUrl("http://[::1]:2379")->Hostname(), "::1");
  EXPECT_EQ(ParseUrl("http://[::1]:2379")->Port(), 2379);
  EXPECT_TRUE(ParseUrl("unixs://a:1")->IsSecure());
}

TEST(ParseUrl, RefusesTheRestWithEtcdsTexts) {
  struct Case {
    const char* text;
    const char* message;
  };
  for (const Case& c : {
           Case{"", "URL scheme must be http, https, unix, or unixs: "},
           Case{"localhost:2379", "URL scheme must be http, https, unix, or unixs: localhost:2379"},
           Case{"ftp://h:1", "URL scheme must be http, https, unix, or unixs: ftp://h:1"},
           Case{"http://h", "URL address does not have the form \"host:port\": http://h"},
           Case{"http://h:1:2", "URL address does not have the form \"host:port\""},
           Case{"http://h:65536", "URL address does not have the form \"host:port\""},
           Case{"http://h:+1", "URL address does not have the form \"host:port\""},
           Case{"http://u@h:1", "URL address does not have the form \"host:port\""},
           Case{"http://[::1:1", "URL address does not have the form \"host:port\""},
           Case{"http:h:1", "URL address does not have the form \"host:port\""},
           Case{"http://h:1/", "URL must not contain a path: http://h:1/"},
           Case{"http://h:1/path", "URL must not contain a path: http://h:1/path"},
           Case{"http://h:1 x", "invalid character"},
       }) {
    auto url = ParseUrl(c.text);
    ASSERT_FALSE(url.ok()) << c.text;
    EXPECT_EQ(url.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(url.status().message()), HasSubstr(c.message));
  }
}

TEST(ParseUrls, SortsAndRefusesNothing) {
  EXPECT_EQ(ParseUrls({}).status().message(), "no valid URLs given");
  auto urls = ParseUrls({"http://b:1", "http://a:1"});
  ASSERT_TRUE(urls.ok());
  EXPECT_THAT(ToStrings(*urls), ElementsAre("http://a:1", "http://b:1"));
}

TEST(ParseInitialCluster, ANameMayHaveSeveralUrls) {
  auto map = ParseInitialCluster("b=http://h:2,a=http://h:3,b=http://h:1");
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_EQ(map->size(), 2u);
  EXPECT_THAT(ToStrings(map->at("b")), ElementsAre("http://h:1", "http://h:2"));
  EXPECT_EQ(ToString(*map), "a=http://h:3,b=http://h:1,b=http://h:2");
  EXPECT_TRUE(ParseInitialCluster("")->empty());
  EXPECT_FALSE(ParseInitialCluster("a").ok());
  EXPECT_FALSE(ParseInitialCluster("a=http://h").ok());
}

}  // namespace
}  // namespace kvd::server
