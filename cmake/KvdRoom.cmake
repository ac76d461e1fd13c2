# kvd_room(NAME SOURCES ... [DEPS ...] [PRIVATE_DEPS ...])
#
# One static library kvd_NAME for the room src/NAME. Its headers are included as "NAME/x.h". Each room's headers
# are reachable only through a directory of its own that holds one link, NAME -> src/NAME, so a source file can
# include a room's header only if its target names that room: a forbidden include does not build.
#
# kvd_part(ROOM PART SOURCES ... [DEPS ...] [PRIVATE_DEPS ...])
#
# A library kvd_ROOM_PART for the folder src/ROOM/PART of a large room; its headers are "ROOM/PART/x.h".
#
# kvd_test(NAME SOURCES ... DEPS ... [LABELS ...]): a GoogleTest binary, registered with ctest as NAME.

function(kvd_include_link name)
  set(dir ${CMAKE_BINARY_DIR}/rooms/${name})
  file(MAKE_DIRECTORY ${dir})
  file(CREATE_LINK ${CMAKE_SOURCE_DIR}/src/${name} ${dir}/${name} SYMBOLIC)
endfunction()

function(kvd_room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  kvd_include_link(${name})
  add_library(kvd_${name} STATIC ${ROOM_SOURCES})
  target_include_directories(kvd_${name} PUBLIC ${CMAKE_BINARY_DIR}/rooms/${name})
  target_link_libraries(kvd_${name} PUBLIC ${ROOM_DEPS} PRIVATE kvd_warnings ${ROOM_PRIVATE_DEPS})
endfunction()

function(kvd_part room part)
  cmake_parse_arguments(PART "" "" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  kvd_include_link(${room})
  add_library(kvd_${room}_${part} STATIC ${PART_SOURCES})
  target_include_directories(kvd_${room}_${part} PUBLIC ${CMAKE_BINARY_DIR}/rooms/${room})
  target_link_libraries(kvd_${room}_${part} PUBLIC ${PART_DEPS} PRIVATE kvd_warnings ${PART_PRIVATE_DEPS})
endfunction()

function(kvd_test name)
  cmake_parse_arguments(T "" "TIMEOUT" "SOURCES;DEPS;LABELS" ${ARGN})
  add_executable(${name} ${T_SOURCES})
  target_link_libraries(${name} PRIVATE kvd_warnings ${T_DEPS} GTest::gmock GTest::gtest_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 300)
  endif()
  if(KVD_SANITIZE)
    math(EXPR T_TIMEOUT "${T_TIMEOUT} * 4")
  endif()
  if(NOT T_LABELS)
    set(T_LABELS unit)
  endif()
  add_test(NAME ${name} COMMAND ${name} --gtest_brief=1)
  set_tests_properties(${name} PROPERTIES LABELS "${T_LABELS}" TIMEOUT ${T_TIMEOUT})
  if(KVD_SANITIZE MATCHES "thread")
    set_tests_properties(${name} PROPERTIES ENVIRONMENT
      "TSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/cmake/tsan.supp:second_deadlock_stack=1")
  endif()
endfunction()
