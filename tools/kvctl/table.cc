#include "table.h"

#include <algorithm>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/strings.h"

namespace kvd::ctl {
namespace {

constexpr size_t kWrapWidth = 30;

size_t Width(std::string_view text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

// Breaks words into lines of at most `limit` so that the squares of the space left sum up smallest; the last
// line is free.
std::vector<std::string> WrapWords(const std::vector<std::string>& words, size_t limit) {
  const size_t n = words.size();
  std::vector<size_t> next(n + 1, n);
  std::vector<double> cost(n + 1, 0);
  for (size_t i = n; i-- > 0;) {
    cost[i] = std::numeric_limits<double>::max();
    size_t length = Width(words[i]);
    for (size_t j = i + 1; j <= n; ++j) {
      if (length > limit && j > i + 1) break;
      const double space = static_cast<double>(limit) - static_cast<double>(length);
      const double total = j == n ? 0 : space * space + cost[j];
      if (total < cost[i]) {
        cost[i] = total;
        next[i] = j;
      }
      if (j < n) length += 1 + Width(words[j]);
    }
  }
  std::vector<std::string> lines;
  for (size_t i = 0; i < n; i = next[i]) {
    lines.push_back(absl::StrJoin(words.begin() + static_cast<ptrdiff_t>(i),
                                  words.begin() + static_cast<ptrdiff_t>(next[i]), " "));
  }
  return lines;
}

std::vector<std::string> CellLines(const std::string& cell) {
  std::vector<std::string> lines;
  const std::vector<std::string> given = absl::StrSplit(cell, '\n');
  for (const std::string& line : given) {
    if (Width(line) <= kWrapWidth) {
      lines.push_back(line);
      continue;
    }
    const std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    size_t limit = kWrapWidth;
    for (const std::string& word : words) limit = std::max(limit, Width(word));
    for (std::string& wrapped : WrapWords(words, limit)) lines.push_back(std::move(wrapped));
  }
  return lines;
}

std::string Spaces(size_t count) {
  return std::string(count, ' ');
}

}  // namespace

std::string RenderTable(const Row& header, const std::vector<Row>& rows) {
  std::vector<size_t> widths;
  for (const std::string& title : header) widths.push_back(Width(title));
  std::vector<std::vector<std::vector<std::string>>> cells;
  for (const Row& row : rows) {
    auto& lines = cells.emplace_back();
    for (size_t c = 0; c < row.size(); ++c) {
      lines.push_back(CellLines(row[c]));
      for (const std::string& line : lines.back()) widths[c] = std::max(widths[c], Width(line));
    }
  }
  std::string border = "+";
  for (size_t width : widths) base::StrAppend(&border, std::string(width + 2, '-'), "+");
  border.push_back('\n');

  std::string out = base::StrCat(border, "|");
  for (size_t c = 0; c < header.size(); ++c) {
    const size_t gap = widths[c] - Width(header[c]);
    base::StrAppend(&out, " ", Spaces(gap / 2), absl::AsciiStrToUpper(header[c]), Spaces(gap - gap / 2),
                    " |");
  }
  base::StrAppend(&out, "\n", border);
  for (const auto& row : cells) {
    size_t height = 1;
    for (const auto& cell : row) height = std::max(height, cell.size());
    for (size_t line = 0; line < height; ++line) {
      out.push_back('|');
      for (size_t c = 0; c < row.size(); ++c) {
        const std::string text = line < row[c].size() ? row[c][line] : "";
        base::StrAppend(&out, " ", Spaces(widths[c] - Width(text)), text, " |");
      }
      out.push_back('\n');
    }
  }
  return rows.empty() ? out : base::StrCat(out, border);
}

}  // namespace kvd::ctl
