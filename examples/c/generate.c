/* Lets an exported model write: ./generate MODEL PROMPT MAX_TOKENS [TEMPERATURE [SEED]] */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "artifact.h"
#include "engine.h"
#include "errors.h"

static long parse_integer(const char *text, const char *name) {
  char *end;
  errno = 0;
  long number = strtol(text, &end, 10);
  if (errno || end == text || *end || number < 0 || number > INT32_MAX)
    fail(BAD_INPUT, "%s must be a whole number from 0 to 2147483647, got '%s'", name, text);
  return number;
}

static float parse_temperature(const char *text) {
  char *end;
  float number = strtof(text, &end);
  if (end == text || *end || !isfinite(number) || number < 0)
    fail(BAD_INPUT, "TEMPERATURE must be a number of at least 0, got '%s'", text);
  return number;
}

/* Chunk by chunk: whoever reads sees the text grow. */
static void print(const char *text, size_t length) {
  if (fwrite(text, 1, length, stdout) != length || fflush(stdout))
    fail(FAILED, "cannot write the text (%s)", strerror(errno));
}

/* The same as neo_keras/generation/decoding.py. */
static void write_text(Engine *engine, const Artifact *artifact, const int32_t *prompt,
                       int32_t prompt_length, long max_tokens, Sampling sampling) {
  int32_t max_seq_len = artifact->max_seq_len;
  int32_t *window = malloc(((size_t)max_seq_len + 1) * sizeof *window);
  if (!window) fail(FAILED, "out of memory");
  int32_t length = prompt_length < max_seq_len ? prompt_length : max_seq_len;
  memcpy(window, prompt + prompt_length - length, (size_t)length * sizeof *window);
  engine_start(engine, window, length - 1);
  for (long i = 0; i < max_tokens; i++) {
    if (length > max_seq_len) { /* past the context it goes on with the later half */
      int32_t kept = max_seq_len / 2;
      memmove(window, window + length - kept, (size_t)kept * sizeof *window);
      length = kept;
      engine_start(engine, window, length - 1);
    }
    int32_t token = engine_next(engine, window[length - 1], &sampling);
    print(artifact->characters[token].bytes, artifact->characters[token].length);
    window[length++] = token;
  }
  free(window);
}

int main(int argc, char **argv) {
  if (argc < 4 || argc > 6)
    fail(BAD_INPUT, "usage: generate MODEL PROMPT MAX_TOKENS [TEMPERATURE [SEED]]");
  const char *path = argv[1], *prompt = argv[2];
  long max_tokens = parse_integer(argv[3], "MAX_TOKENS");
  Sampling sampling = {.temperature = argc > 4 ? parse_temperature(argv[4]) : 0,
                       .seed = argc > 5 ? (int32_t)parse_integer(argv[5], "SEED") : 0};
  Artifact artifact = artifact_read(path);
  int32_t num_tokens;
  int32_t *tokens = artifact_encode(&artifact, prompt, &num_tokens);
  if (!num_tokens) tokens[num_tokens++] = artifact.start_token;
  Engine engine;
  engine_open(&engine, path, &artifact);
  print(prompt, strlen(prompt));
  write_text(&engine, &artifact, tokens, num_tokens, max_tokens, sampling);
  print("\n", 1);
  engine_close(&engine);
  free(tokens);
  artifact_free(&artifact);
}
