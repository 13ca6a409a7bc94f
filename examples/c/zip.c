#include "zip.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "errors.h"

/* Sizes of the records, without what varies in length. */
enum { END_SIZE = 22, ENTRY_SIZE = 46, HEADER_SIZE = 30 };
/* More than any tokenizer needs: a damaged size is not a reason to ask for gigabytes. */
enum { MAX_SIZE = 1 << 26 };

typedef struct {
  const unsigned char *name;
  size_t name_length;
  uint32_t method, crc, size, header_at;
} Entry;

static uint32_t u16(const unsigned char *at) { return at[0] | (uint32_t)at[1] << 8; }

static uint32_t u32(const unsigned char *at) { return u16(at) | u16(at + 2) << 16; }

static _Noreturn void fail_without_tokenizer(const char *path) {
  fail(BAD_INPUT, "%s carries no tokenizer: it is truncated, or not a file that export.py wrote",
       path);
}

static void *allocate(size_t size) {
  void *memory = malloc(size);
  if (!memory) fail(FAILED, "out of memory");
  return memory;
}

/* Whether the file has `size` bytes at `offset`; reads them. */
static bool read_at(FILE *file, long offset, int whence, void *bytes, size_t size) {
  return !fseek(file, offset, whence) && fread(bytes, 1, size, file) == size;
}

static uint32_t crc32(const char *bytes, size_t size) {
  uint32_t crc = 0xffffffff;
  for (size_t i = 0; i < size; i++) {
    crc ^= (unsigned char)bytes[i];
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc;
}

/* Whether there is an entry at `*at`; steps past it. */
static bool next_entry(const Zip *zip, size_t *at, Entry *entry) {
  const unsigned char *bytes = zip->directory + *at;
  size_t left = zip->directory_size - *at;
  if (left < ENTRY_SIZE || memcmp(bytes, "PK\1\2", 4)) return false;
  size_t name_length = u16(bytes + 28);
  size_t size = ENTRY_SIZE + name_length + u16(bytes + 30) + u16(bytes + 32);
  if (left < size) return false;
  *entry = (Entry){bytes + ENTRY_SIZE, name_length,     u16(bytes + 10),
                   u32(bytes + 16),    u32(bytes + 24), u32(bytes + 42)};
  *at += size;
  return true;
}

Zip zip_open(const char *path) {
  unsigned char magic[8], end[END_SIZE];
  Zip zip = {fopen(path, "rb"), path, NULL, 0, SIZE_MAX};
  if (!zip.file)
    fail(BAD_INPUT, "cannot read %s (%s): give a .tflite file that export.py wrote", path,
         strerror(errno));
  if (!read_at(zip.file, 0, SEEK_SET, magic, sizeof magic) || memcmp(magic + 4, "TFL3", 4))
    fail(BAD_INPUT, "%s is not a TFLite file: give one that export.py wrote", path);
  /* The archive ends with its end record: export.py writes no comment behind it. */
  if (!read_at(zip.file, -END_SIZE, SEEK_END, end, END_SIZE) || memcmp(end, "PK\5\6", 4))
    fail_without_tokenizer(path);
  zip.directory_size = u32(end + 12);
  if (zip.directory_size > MAX_SIZE) fail_without_tokenizer(path);
  zip.directory = allocate(zip.directory_size + 1);
  if (!read_at(zip.file, u32(end + 16), SEEK_SET, zip.directory, zip.directory_size)) {
    free(zip.directory);
    fail_without_tokenizer(path);
  }
  Entry entry;
  for (size_t at = 0; next_entry(&zip, &at, &entry);)
    if (entry.header_at < zip.model_size) zip.model_size = entry.header_at;
  return zip;
}

static bool find_entry(const Zip *zip, const char *name, Entry *entry) {
  bool found = false;
  for (size_t at = 0; !found && next_entry(zip, &at, entry);)
    found = entry->name_length == strlen(name) && !memcmp(entry->name, name, entry->name_length);
  return found;
}

bool zip_has(const Zip *zip, const char *name) {
  Entry entry = {0};
  return find_entry(zip, name, &entry);
}

char *zip_read(const Zip *zip, const char *name) {
  Entry entry = {0};
  if (!find_entry(zip, name, &entry) || entry.size > MAX_SIZE) fail_without_tokenizer(zip->path);
  if (entry.method != 0)
    fail(BAD_INPUT, "the %s in %s is compressed, which this program cannot read: export it again",
         name, zip->path);
  unsigned char header[HEADER_SIZE];
  if (!read_at(zip->file, entry.header_at, SEEK_SET, header, HEADER_SIZE) ||
      memcmp(header, "PK\3\4", 4))
    fail_without_tokenizer(zip->path);
  long skipped = u16(header + 26) + u16(header + 28); /* the name again, and more */
  char *bytes = allocate(entry.size + 1);
  if (!read_at(zip->file, skipped, SEEK_CUR, bytes, entry.size) ||
      crc32(bytes, entry.size) != entry.crc) {
    free(bytes);
    fail_without_tokenizer(zip->path);
  }
  bytes[entry.size] = '\0';
  return bytes;
}

void zip_close(Zip *zip) {
  free(zip->directory);
  fclose(zip->file);
}
