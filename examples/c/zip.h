/* The parts of a .tflite file: a flatbuffer, and behind it a zip archive, its members not
 * compressed. Fails if the file is not so. */
#ifndef ZIP_H
#define ZIP_H

#include <stdbool.h>
#include <stdio.h>

typedef struct {
  FILE *file;
  const char *path;
  unsigned char *directory; /* the archive's table of contents */
  size_t directory_size;
  size_t model_size; /* of the flatbuffer */
} Zip;

Zip zip_open(const char *path);

bool zip_has(const Zip *zip, const char *name);

/* A member's bytes, with '\0' behind them; the caller frees them. */
char *zip_read(const Zip *zip, const char *name);

void zip_close(Zip *zip);

#endif
