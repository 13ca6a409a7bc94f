#include "artifact.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "errors.h"
#include "json.h"
#include "sha256.h"
#include "zip.h"

static const char FORMAT[] = "neo_keras model 1";
static const char CHARACTER[] = "[\\s\\S]"; /* what the tokenizer.json of characters matches */
enum { MAX_INTEGER = 1 << 24 }; /* a damaged number is not a reason to ask for gigabytes */

/* The bytes of the UTF-8 character at the beginning of `text`, or 0; and its code point. */
static size_t utf8_length(const char *text, uint32_t *code_point) {
  static const uint32_t SMALLEST[] = {0, 0, 0x80, 0x800, 0x10000};
  const unsigned char *bytes = (const unsigned char *)text;
  size_t length = bytes[0] < 0xe0 ? 2 : bytes[0] < 0xf0 ? 3 : 4;
  if (bytes[0] < 0xc0) length = bytes[0] < 0x80;
  *code_point = length < 2 ? bytes[0] : bytes[0] & 0x7f >> length;
  for (size_t i = 1; i < length; i++) {
    if (bytes[i] >> 6 != 2) return 0; /* '\0' too: nothing is read past it */
    *code_point = *code_point << 6 | (bytes[i] & 0x3f);
  }
  bool surrogate = *code_point >= 0xd800 && *code_point < 0xe000;
  bool right = bytes[0] < 0xf8 && *code_point >= SMALLEST[length] && *code_point < 0x110000;
  return right && !surrogate ? length : 0;
}

/* Returns the id of a character of `length` bytes, or -1. */
static int32_t find(const Artifact *artifact, const char *bytes, size_t length) {
  for (int32_t id = 0; id < artifact->vocab_size; id++) {
    const Character *character = &artifact->characters[id];
    if (character->length == length && !memcmp(character->bytes, bytes, length)) return id;
  }
  return -1;
}

static void read_config(const char *config, const Zip *zip, Artifact *artifact) {
  JsonString format, expected;
  long vocab_size, max_seq_len;
  if (!json_string(json_member(config, "format"), &format))
    fail(BAD_INPUT,
         "what %s says of itself is damaged (config.json has no format): export it again",
         zip->path);
  if (strcmp(format.bytes, FORMAT))
    fail(BAD_INPUT,
         "%s has the format '%s', expected '%s': export it again with this version of neo_keras",
         zip->path, format.bytes, FORMAT);
  const char *model = json_member(config, "model");
  if (!json_integer(json_member(model, "vocab_size"), 1, MAX_INTEGER, &vocab_size) ||
      !json_integer(json_member(model, "max_seq_len"), 2, MAX_INTEGER, &max_seq_len) ||
      !json_string(json_member(config, "sha256"), &expected))
    fail(BAD_INPUT,
         "what %s says of itself is damaged (config.json lacks vocab_size, max_seq_len or sha256): "
         "export it again", zip->path);
  char sha256[65];
  if (!sha256_hex(zip->file, zip->model_size, sha256) || strcmp(sha256, expected.bytes))
    fail(BAD_INPUT, "%s is damaged (its SHA-256 is another): export or copy it again", zip->path);
  artifact->vocab_size = (int32_t)vocab_size;
  artifact->max_seq_len = (int32_t)max_seq_len;
}

/* Only a vocabulary of single characters, looked up as they are, needs no tokenizer library. */
static void read_tokenizer(const char *tokenizer, const char *path, Artifact *artifact) {
  const char *model = json_member(tokenizer, "model");
  JsonString type, pattern, unknown, token;
  if (!json_string(json_member(model, "type"), &type))
    fail(BAD_INPUT, "the tokenizer.json in %s is damaged (it has no model type): export it again",
         path);
  if (strcmp(type.bytes, "WordLevel"))
    fail(BAD_INPUT,
         "the tokenizer of %s is of the type %s; this program reads characters (WordLevel) only: "
         "write with generate.py", path, type.bytes);
  if (!json_is_null(json_member(tokenizer, "normalizer")))
    fail(BAD_INPUT,
         "the tokenizer of %s has a normalizer; this program takes characters as they are: "
         "write with generate.py", path);
  if (json_has_items(json_member(tokenizer, "added_tokens")))
    fail(BAD_INPUT,
         "the tokenizer of %s has added tokens; this program reads single characters only: "
         "write with generate.py", path);
  bool has_unknown = json_string(json_member(model, "unk_token"), &unknown);
  artifact->characters = calloc((size_t)artifact->vocab_size, sizeof *artifact->characters);
  if (!artifact->characters) fail(FAILED, "out of memory");
  long id, count = 0, num_missing = artifact->vocab_size;
  const char *at = json_member(model, "vocab"), *value;
  for (; json_next(&at, &token, &value); count++) {
    if (!json_integer(value, 0, artifact->vocab_size - 1, &id)) continue;
    Character *character = &artifact->characters[id];
    if (has_unknown && !strcmp(token.bytes, unknown.bytes)) {
      num_missing--; /* it stays without characters: no text is it, and it is no text */
      continue;
    }
    uint32_t code_point;
    if (!token.length || utf8_length(token.bytes, &code_point) != token.length)
      fail(BAD_INPUT,
           "the tokenizer of %s has the token '%s'; this program reads single characters only: "
           "write with generate.py", path, token.bytes);
    num_missing -= !character->length;
    character->length = (unsigned char)token.length;
    memcpy(character->bytes, token.bytes, token.length);
  }
  if (count != artifact->vocab_size)
    fail(BAD_INPUT,
         "the tokenizer of %s has %ld tokens but its model has %ld: put back the tokenizer.json "
         "that it was trained with", path, count, (long)artifact->vocab_size);
  if (num_missing)
    fail(BAD_INPUT, "the tokenizer.json in %s is damaged (%ld ids have no token): export it again",
         path, num_missing);
  const char *split = json_member(json_member(tokenizer, "pre_tokenizer"), "pattern");
  if (!json_string(json_member(split, "Regex"), &pattern) || strcmp(pattern.bytes, CHARACTER))
    fail(BAD_INPUT,
         "the tokenizer of %s has a pre-tokenizer of another kind; this program reads single "
         "characters only: write with generate.py", path);
}

Artifact artifact_read(const char *path) {
  Artifact artifact = {0};
  Zip zip = zip_open(path);
  if (zip_has(&zip, "tokenizer_config.json"))
    fail(BAD_INPUT,
         "the tokenizer of %s has a tokenizer_config.json, with tokens that begin or end a text; "
         "this program reads single characters only: write with generate.py", path);
  char *config = zip_read(&zip, "config.json");
  char *tokenizer = zip_read(&zip, "tokenizer.json");
  read_config(config, &zip, &artifact);
  read_tokenizer(tokenizer, path, &artifact);
  int32_t line_break = find(&artifact, "\n", 1);
  artifact.start_token = line_break < 0 ? 0 : line_break;
  free(tokenizer);
  free(config);
  zip_close(&zip);
  return artifact;
}

void artifact_free(Artifact *artifact) { free(artifact->characters); }

int32_t *artifact_encode(const Artifact *artifact, const char *text, int32_t *num_tokens) {
  int32_t *ids = malloc((strlen(text) + 1) * sizeof *ids); /* no character is less than a byte */
  if (!ids) fail(FAILED, "out of memory");
  *num_tokens = 0;
  while (*text) {
    uint32_t code_point;
    size_t length = utf8_length(text, &code_point);
    if (!length)
      fail(BAD_INPUT,
           "the prompt has the byte 0x%02x, which is not UTF-8: set the terminal to UTF-8",
           (unsigned char)*text);
    int32_t id = find(artifact, text, length);
    if (id < 0) {
      bool visible = code_point >= 0xa0 || (code_point >= ' ' && code_point < 0x7f);
      fail(BAD_INPUT,
           "the prompt has the character U+%04X%s%.*s, which the model has never seen: leave it "
           "out",
           (unsigned)code_point, visible ? " " : "", visible ? (int)length : 0, text);
    }
    ids[(*num_tokens)++] = id;
    text += length;
  }
  return ids;
}
