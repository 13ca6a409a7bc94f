/* Takes in tokens and gives the next one; the cache of the sequence is inside the file. The same
 * as neo_keras/generation/engine.py, so that the same text comes out. */
#ifndef ENGINE_H
#define ENGINE_H

#include "artifact.h"
#include "model.h"

typedef struct {
  float temperature; /* 0: greedy, always the most likely token */
  int32_t seed;
  int32_t step; /* how many tokens were sampled */
} Sampling;

typedef struct {
  Model model;
  Signature reset, prefill, decode, sample;
  int32_t vocab_size, max_seq_len;
  int32_t chunk_size;
  int32_t position; /* how many tokens the cache holds */
  int32_t *chunk, *chunk_positions;
} Engine;

/* Fails if the file has not the signatures that are needed. The engine must stay where it is. */
void engine_open(Engine *engine, const char *path, const Artifact *artifact);

void engine_close(Engine *engine);

/* Begins a new sequence, and takes in tokens of which only the influence on later ones matters. */
void engine_start(Engine *engine, const int32_t *tokens, int32_t num_tokens);

/* Takes in one token and returns the one after it. */
int32_t engine_next(Engine *engine, int32_t token, Sampling *sampling);

#endif
