// What the tests of this room share: engines that can crash and come back.
#pragma once

#include <memory>
#include <string>

#include "storage/engine.h"

namespace kvd::storage {

enum class EngineKind { kModel, kRocks, kRocksTiny };

// Where an engine's data outlives it. Removes it at the end.
class EngineHome {
 public:
  explicit EngineHome(EngineKind kind);
  ~EngineHome();
  // One at a time.
  std::unique_ptr<Engine> Open();
  // Closes *engine as a power loss would: only what was flushed is there at the next Open.
  void Crash(std::unique_ptr<Engine>* engine);
  // What a crash at this moment would leave becomes the content of this home at the next Open. For an engine
  // that is owned by a store: call, close the store, then Open.
  void RememberAsCrashed();
  const std::string& path() const { return path_; }

 private:
  EngineKind kind_;
  std::string path_;
  int generation_ = 0;
  std::string base_;
  std::shared_ptr<ModelDisk> disk_;
};

}  // namespace kvd::storage
