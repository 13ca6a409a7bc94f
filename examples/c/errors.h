/* How a mistake reaches the person who made it: one line on stderr, as generate.py does it. */
#ifndef ERRORS_H
#define ERRORS_H

enum {
  FAILED = 1,    /* what was asked was right, and could not be done */
  BAD_INPUT = 2, /* the line says what was expected, what was got, and the fix */
};

/* Prints "error: " and the message, and exits with the code. */
_Noreturn void fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
