// Tables with borders, as `-w table` prints them.
#pragma once

#include <string>
#include <vector>

namespace kvd::ctl {

using Row = std::vector<std::string>;

// The header is upper-cased and centred, cells are flushed right; a cell longer than 30 characters is wrapped
// at spaces.
std::string RenderTable(const Row& header, const std::vector<Row>& rows);

}  // namespace kvd::ctl
