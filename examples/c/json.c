#include "json.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const char *skip_space(const char *at) { return at + strspn(at, " \t\r\n"); }

static const char *skip_string(const char *at) {
  for (at++; *at && *at != '"'; at++)
    if (*at == '\\' && !*++at) break;
  return *at ? at + 1 : NULL;
}

/* Counts brackets instead of recurring into them: a hostile file cannot overflow the stack. */
static const char *skip_value(const char *at) {
  size_t depth = 0;
  do {
    at = skip_space(at);
    if (*at == '"') {
      if (!(at = skip_string(at))) return NULL;
    } else if (*at == '{' || *at == '[') {
      depth++;
      at++;
    } else if (depth && (*at == '}' || *at == ']')) {
      depth--;
      at++;
    } else if (depth && (*at == ',' || *at == ':')) {
      at++;
    } else {
      size_t length = strcspn(at, "\"{}[],: \t\r\n");
      if (!length) return NULL;
      at += length;
    }
  } while (depth);
  return at;
}

/* Four hexadecimal digits; a negative number for anything else. */
static int32_t hex4(const char *at) {
  int32_t unit = 0;
  for (int i = 0; i < 4; i++) {
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    const char *digit = at[i] ? strchr(digits, at[i]) : NULL;
    if (!digit) return -1;
    unit = unit * 16 + (digit - digits) % 16;
  }
  return unit;
}

static size_t put_utf8(int32_t character, char out[4]) {
  if (character < 0x80) {
    out[0] = (char)character;
    return 1;
  }
  size_t length = character < 0x800 ? 2 : character < 0x10000 ? 3 : 4;
  for (size_t i = length - 1; i > 0; i--, character >>= 6)
    out[i] = (char)(0x80 | (character & 0x3f));
  out[0] = (char)(0xf00 >> length | character); /* as many leading ones as bytes */
  return length;
}

/* Reads what stands behind a backslash, and steps past it; the number of bytes, or 0. */
static size_t unescape(const char **at, char out[4]) {
  static const char escapes[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
  const char *escape = **at ? strchr(escapes, **at) : NULL;
  if (escape) {
    out[0] = meanings[escape - escapes];
    (*at)++;
    return 1;
  }
  int32_t unit = **at == 'u' ? hex4(*at + 1) : -1;
  if (unit < 0 || (unit >= 0xdc00 && unit < 0xe000)) return 0;
  *at += 5;
  if (unit >= 0xd800 && unit < 0xdc00) { /* the first of a pair of surrogates */
    int32_t second = (*at)[0] == '\\' && (*at)[1] == 'u' ? hex4(*at + 2) : -1;
    if (second < 0xdc00 || second >= 0xe000) return 0;
    *at += 6;
    unit = 0x10000 + ((unit - 0xd800) << 10) + (second - 0xdc00);
  }
  return put_utf8(unit, out);
}

bool json_string(const char *value, JsonString *string) {
  if (!value || *value != '"') return false;
  string->length = 0;
  for (const char *at = value + 1; *at != '"';) {
    char bytes[4] = {*at};
    size_t length = 1;
    if (!*at++) return false;
    if (bytes[0] == '\\' && !(length = unescape(&at, bytes))) return false;
    if (string->length + length >= sizeof string->bytes) return false;
    memcpy(string->bytes + string->length, bytes, length);
    string->length += length;
  }
  string->bytes[string->length] = '\0';
  return true;
}

bool json_next(const char **at, JsonString *name, const char **value) {
  if (!*at || (**at != '{' && **at != ',')) return false;
  const char *key = skip_space(*at + 1);
  if (!json_string(key, name)) return false;
  const char *colon = skip_space(skip_string(key));
  if (*colon != ':') return false;
  *value = skip_space(colon + 1);
  const char *end = skip_value(*value);
  if (!end) return false;
  *at = skip_space(end);
  return **at == ',' || **at == '}';
}

const char *json_member(const char *object, const char *name) {
  JsonString key;
  const char *value;
  if (!object || *(object = skip_space(object)) != '{') return NULL;
  while (json_next(&object, &key, &value))
    if (key.length == strlen(name) && !memcmp(key.bytes, name, key.length)) return value;
  return NULL;
}

bool json_integer(const char *value, long low, long high, long *integer) {
  char *end;
  if (!value || (*value != '-' && (*value < '0' || *value > '9'))) return false;
  errno = 0;
  *integer = strtol(value, &end, 10);
  if (errno || end == value || *end == '.' || *end == 'e' || *end == 'E') return false;
  return *integer >= low && *integer <= high;
}

bool json_is_null(const char *value) { return !value || !strncmp(value, "null", 4); }

bool json_has_items(const char *value) {
  return value && *value == '[' && *skip_space(value + 1) != ']';
}
