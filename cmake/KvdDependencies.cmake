# Debian 12 packages; scripts/install-deps.sh installs what is missing.
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(Protobuf REQUIRED)
find_package(gRPC CONFIG REQUIRED)
find_package(absl CONFIG REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(Boost 1.74 REQUIRED)
find_package(ZLIB REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(spdlog REQUIRED)
find_package(prometheus-cpp CONFIG REQUIRED COMPONENTS core)
find_package(GTest REQUIRED)
find_package(benchmark REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(NGHTTP2 REQUIRED IMPORTED_TARGET libnghttp2)
pkg_check_modules(CARES REQUIRED IMPORTED_TARGET libcares)

# RocksDB is linked statically: calls within it then need no detour through the dynamic linker's tables, nor its
# thread-locals a function call each (a put makes hundreds of both).
add_library(kvd_rocksdb INTERFACE)
find_path(KVD_ROCKSDB_INCLUDE rocksdb/db.h REQUIRED)
find_library(KVD_ROCKSDB_ARCHIVE NAMES librocksdb.a REQUIRED)
find_library(KVD_GFLAGS_LIBRARY gflags REQUIRED)
target_include_directories(kvd_rocksdb SYSTEM INTERFACE ${KVD_ROCKSDB_INCLUDE})
target_link_libraries(kvd_rocksdb INTERFACE ${KVD_ROCKSDB_ARCHIVE} ${KVD_GFLAGS_LIBRARY} snappy bz2 z lz4 zstd
  Threads::Threads ${CMAKE_DL_LIBS})

# What a member allocates on one thread it often frees on another, which glibc's allocator serves badly. Sanitizers
# bring their own.
add_library(kvd_allocator INTERFACE)
if(NOT KVD_SANITIZE)
  find_library(KVD_JEMALLOC jemalloc REQUIRED)
  target_link_libraries(kvd_allocator INTERFACE ${KVD_JEMALLOC})
endif()

# Boost.Asio and Boost.Beast, headers only, without Boost's deprecated spellings.
add_library(kvd_asio INTERFACE)
target_link_libraries(kvd_asio INTERFACE Boost::headers Threads::Threads)
target_compile_definitions(kvd_asio INTERFACE BOOST_ASIO_NO_DEPRECATED BOOST_ASIO_HAS_STD_INVOKE_RESULT)
if(KVD_SANITIZE MATCHES "thread")
  # ThreadSanitizer does not understand the fences around Asio's handlers; the locks beside them suffice.
  target_compile_definitions(kvd_asio INTERFACE BOOST_ASIO_DISABLE_FENCED_BLOCK)
endif()
