/* SHA-256 (FIPS 180-4), to tell a damaged file. */
#ifndef SHA256_H
#define SHA256_H

#include <stdbool.h>
#include <stdio.h>

/* Whether the file has `size` bytes from its beginning, and their hash in hexadecimal. */
bool sha256_hex(FILE *file, size_t size, char hex[65]);

#endif
