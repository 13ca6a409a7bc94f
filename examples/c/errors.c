#include "errors.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

_Noreturn void fail(int code, const char *format, ...) {
  char message[2000];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  /* A name in the message may hold a line break, or what would command the terminal. */
  for (char *c = message; *c; c++)
    if ((unsigned char)*c < ' ') *c = ' ';
  fflush(stdout); /* the text so far comes before the error */
  fprintf(stderr, "error: %s\n", message);
  exit(code);
}
