/* What an exported file says of itself: its context, and the characters that its tokens are. */
#ifndef ARTIFACT_H
#define ARTIFACT_H

#include <stdint.h>

typedef struct {
  char bytes[4]; /* UTF-8 */
  unsigned char length;
} Character;

typedef struct {
  int32_t vocab_size;
  int32_t max_seq_len;
  int32_t start_token; /* to begin from where there is no prompt: a line break, if there is one */
  Character *characters; /* [vocab_size]; the unknown token's has length 0 */
} Artifact;

/* Reads what `pack_tflite` of neo_keras wrote; fails if the file is not ours, or damaged. */
Artifact artifact_read(const char *path);

void artifact_free(Artifact *artifact);

/* Turns text into token ids, [*num_tokens]; the caller frees them. Fails for a character that the
 * model has never seen. */
int32_t *artifact_encode(const Artifact *artifact, const char *text, int32_t *num_tokens);

#endif
