#include "go_json.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "base/strings.h"
#include "go_format.h"

namespace kvd::ctl {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::OneofDescriptor;
using google::protobuf::Reflection;

std::string StringValue(const FieldDescriptor* field, const std::string& value) {
  if (field->type() == FieldDescriptor::TYPE_BYTES)
    return base::StrCat("\"", absl::Base64Escape(value), "\"");
  return JsonString(value);
}

std::string SingleValue(const Message& message, const FieldDescriptor* field) {
  const Reflection* r = message.GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return base::StrCat(r->GetInt32(message, field));
    case FieldDescriptor::CPPTYPE_INT64:
      return base::StrCat(r->GetInt64(message, field));
    case FieldDescriptor::CPPTYPE_UINT32:
      return base::StrCat(r->GetUInt32(message, field));
    case FieldDescriptor::CPPTYPE_UINT64:
      return base::StrCat(r->GetUInt64(message, field));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return base::StrCat(r->GetDouble(message, field));
    case FieldDescriptor::CPPTYPE_FLOAT:
      return base::StrCat(r->GetFloat(message, field));
    case FieldDescriptor::CPPTYPE_BOOL:
      return r->GetBool(message, field) ? "true" : "false";
    case FieldDescriptor::CPPTYPE_ENUM:
      return base::StrCat(r->GetEnumValue(message, field));
    case FieldDescriptor::CPPTYPE_STRING:
      return StringValue(field, r->GetString(message, field));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return GoJson(r->GetMessage(message, field));
  }
  return "null";
}

// The API has lists of strings, bytes and messages only.
std::string RepeatedValue(const Message& message, const FieldDescriptor* field) {
  const Reflection* r = message.GetReflection();
  std::string out = "[";
  for (int i = 0; i < r->FieldSize(message, field); ++i) {
    if (i > 0) out.push_back(',');
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      base::StrAppend(&out, GoJson(r->GetRepeatedMessage(message, field, i)));
    } else {
      base::StrAppend(&out, StringValue(field, r->GetRepeatedString(message, field, i)));
    }
  }
  out.push_back(']');
  return out;
}

bool IsSet(const Message& message, const FieldDescriptor* field) {
  const Reflection* r = message.GetReflection();
  return field->is_repeated() ? r->FieldSize(message, field) > 0 : r->HasField(message, field);
}

}  // namespace

std::string GoJsonFields(const Message& message) {
  const auto* descriptor = message.GetDescriptor();
  std::string out;
  const auto add = [&out](std::string_view name, std::string_view value) {
    base::StrAppend(&out, out.empty() ? "" : ",", "\"", name, "\":", value);
  };
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const FieldDescriptor* field = descriptor->field(i);
    const OneofDescriptor* oneof = field->real_containing_oneof();
    if (!IsSet(message, field)) continue;
    const std::string value =
        field->is_repeated() ? RepeatedValue(message, field) : SingleValue(message, field);
    if (oneof == nullptr) {
      add(field->name(), value);
      continue;
    }
    std::string name = oneof->name();
    name[0] = absl::ascii_toupper(static_cast<unsigned char>(name[0]));
    add(name, base::StrCat("{\"", field->name(), "\":", value, "}"));
  }
  return out;
}

std::string GoJson(const Message& message) {
  return base::StrCat("{", GoJsonFields(message), "}");
}

}  // namespace kvd::ctl
