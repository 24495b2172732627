#include "json_body.h"

#include <algorithm>
#include <utility>

#include "json_lists.h"

namespace estimator {
namespace {

bool ReadTensor(JsonCursor& cursor, Numbers& numbers) {
  return ReadLists(cursor, numbers.shape, [&] {
    const auto number = cursor.ReadNumber();
    if (number) numbers.Add(*number);
    return number.has_value();
  });
}

bool ReadColumns(JsonCursor& cursor, Columns& columns) {
  return ReadMembers(cursor, [&](std::string_view key) {
    const auto [place, is_new] = columns.try_emplace(key);
    return is_new && ReadTensor(cursor, place->second);
  });
}

bool ReadElement(JsonCursor& cursor, Rows& rows, Rows::Member& member) {
  const bool is_text = cursor.Sees('"');
  if (member.count && member.are_texts != is_text) return false;
  if (is_text) {
    const auto text = cursor.ReadString();
    if (!text) return false;
    rows.texts.push_back(*text);
  } else {
    const auto number = cursor.ReadNumber();
    if (!number) return false;
    rows.numbers.push_back(*number);
  }
  member.are_texts = is_text;
  ++member.count;
  return true;
}

bool ReadMember(JsonCursor& cursor, std::string_view key, Rows& rows) {
  Rows::Member member{key, cursor.Take('['), false, 0, 0};
  if (!member.is_list) {
    if (!ReadElement(cursor, rows, member)) return false;
  } else if (cursor.SkipSpace(); !cursor.Take(']')) {
    do {
      cursor.SkipSpace();
      if (!ReadElement(cursor, rows, member)) return false;
      cursor.SkipSpace();
    } while (cursor.Take(','));
    if (!cursor.Take(']')) return false;
  }
  member.begin = (member.are_texts ? rows.texts.size() : rows.numbers.size()) - member.count;
  rows.members.push_back(member);
  return true;
}

// More than this many members in a row are left to the slower reader, so that looking for a key twice stays quick.
constexpr std::size_t kMembersMax = 256;

bool ReadRows(JsonCursor& cursor, Rows& rows) {
  return ReadList(cursor, [&] {
    const std::size_t begin = rows.members.size();
    const bool is_read = ReadMembers(cursor, [&](std::string_view key) {
      const auto row = rows.members.begin() + static_cast<std::ptrdiff_t>(begin);
      const bool is_twice =
          std::any_of(row, rows.members.end(), [&](const Rows::Member& member) { return member.key == key; });
      return !is_twice && rows.members.size() - begin < kMembersMax && ReadMember(cursor, key, rows);
    });
    rows.row_ends.push_back(rows.members.size());
    return is_read;
  });
}

bool ReadContent(JsonCursor& cursor, Body& body) {
  if (body.key == "inputs") {
    return cursor.Sees('{') ? ReadColumns(cursor, body.content.emplace<Columns>())
                            : ReadTensor(cursor, body.content.emplace<Numbers>());
  }
  JsonCursor ahead = cursor;
  if (ahead.Take('[')) {
    ahead.SkipSpace();
    if (ahead.Sees('{')) return ReadRows(cursor, body.content.emplace<Rows>());
  }
  return ReadTensor(cursor, body.content.emplace<Numbers>());
}

}  // namespace

void Numbers::Add(Number number) {
  if (are_integers && !number.is_integer) {
    reals.assign(integers.begin(), integers.end());
    integers = {};
    are_integers = false;
  }
  if (are_integers) {
    integers.push_back(number.integer);
  } else {
    reals.push_back(number.real);
  }
}

std::optional<Columns> Rows::ToColumns() const {
  Columns columns;
  std::size_t begin = 0;
  for (const std::size_t end : row_ends) {
    for (std::size_t index = begin; index < end; ++index) {
      const Member& member = members[index];
      if (member.are_texts || !member.count) return std::nullopt;
      const auto [place, is_new] = columns.try_emplace(member.key);
      std::vector<std::int64_t>& shape = place->second.shape;
      if (is_new && begin == 0) {
        shape = {static_cast<std::int64_t>(row_ends.size())};
        if (member.is_list) shape.push_back(static_cast<std::int64_t>(member.count));
      }
      const std::int64_t count = shape.size() == 2 ? shape[1] : 1;
      if (shape.empty() || member.is_list != (shape.size() == 2) || count != static_cast<std::int64_t>(member.count)) {
        return std::nullopt;
      }
      for (std::size_t at = member.begin; at < member.begin + member.count; ++at) place->second.Add(numbers[at]);
    }
    if (end - begin != columns.size()) return std::nullopt;
    begin = end;
  }
  return columns;
}

std::optional<Body> ReadBody(std::string_view text) {
  JsonCursor cursor(text);
  Body body;
  cursor.SkipSpace();
  const bool is_read = ReadMembers(cursor, [&](std::string_view key) {
    if (key == "signature_name") {
      if (body.signature_name) return false;
      body.signature_name = cursor.ReadString();
      return body.signature_name.has_value();
    }
    if (!body.key.empty() || (key != "instances" && key != "inputs")) return false;
    body.key = key;
    return ReadContent(cursor, body);
  });
  cursor.SkipSpace();
  if (!is_read || body.key.empty() || !cursor.AtEnd()) return std::nullopt;
  return body;
}

}  // namespace estimator
