/* Reads the two JSON texts of an exported file; not a general parser.
 *
 * A text ends with '\0', which no JSON value holds, so nothing is read past it. A value is a
 * pointer to its first character. What is asked of a value that is not there (NULL), or not of the
 * right kind, is not there either: so look-ups can be nested and checked once. */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>

enum { JSON_STRING_SIZE = 128 }; /* longer than any name, character or hash that we ask for */

typedef struct {
  char bytes[JSON_STRING_SIZE]; /* UTF-8, and '\0' behind it */
  size_t length;                /* a string can hold '\0' too: "\u0000" */
} JsonString;

/* The value of a member of an object, or NULL. */
const char *json_member(const char *object, const char *name);

/* Steps through an object: `*at` is the object at first. Gives one member; false after the last. */
bool json_next(const char **at, JsonString *name, const char **value);

/* Whether the value is a string (shorter than JSON_STRING_SIZE), and which. */
bool json_string(const char *value, JsonString *string);

/* Whether the value is an integer from `low` to `high`, and which. */
bool json_integer(const char *value, long low, long high, long *integer);

/* Whether the value is `null` or not there. */
bool json_is_null(const char *value);

/* Whether the value is an array with something in it. */
bool json_has_items(const char *value);

#endif
