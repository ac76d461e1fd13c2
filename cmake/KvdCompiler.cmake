# Language level, warnings and the instrumented builds that the presets select.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)

set(KVD_SANITIZE "" CACHE STRING "Sanitizers to build with, as -fsanitize= takes them")
option(KVD_FUZZ "Build the libFuzzer targets (needs clang)" OFF)

find_program(KVD_CCACHE ccache)
if(KVD_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${KVD_CCACHE})
endif()
find_program(KVD_MOLD mold)
if(KVD_MOLD AND NOT KVD_FUZZ)
  add_link_options(-fuse-ld=mold)
endif()

# Paths of the machine stay out of the binaries.
add_compile_options(-ffile-prefix-map=${CMAKE_SOURCE_DIR}=. -ffile-prefix-map=${CMAKE_BINARY_DIR}=build)
add_compile_options(-fno-omit-frame-pointer)

# Warnings for our own code; generated code does not link this target.
add_library(kvd_warnings INTERFACE)
target_compile_options(kvd_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Werror -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual
  -Wcast-align -Wunused -Wformat=2 -Wimplicit-fallthrough)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 reports false positives of these on std::string and std::variant at -O2.
  target_compile_options(kvd_warnings INTERFACE
    -Wno-restrict -Wno-maybe-uninitialized -Wno-stringop-overflow -Wno-array-bounds -Wno-free-nonheap-object)
endif()
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  target_compile_options(kvd_warnings INTERFACE -Wthread-safety)
endif()

if(KVD_SANITIZE)
  add_compile_options(-fsanitize=${KVD_SANITIZE} -fno-sanitize-recover=undefined)
  add_link_options(-fsanitize=${KVD_SANITIZE})
endif()
option(KVD_MUTANTS "Build planted bugs in, for kvd-sim --mutant (src/base/mutant.h)" OFF)
if(KVD_MUTANTS)
  add_compile_definitions(KVD_MUTANTS)
endif()
if(KVD_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
