#include "engine.h"

#include <stdlib.h>

#include "errors.h"

static void find_needed(const Engine *engine, const char *name, Signature *signature) {
  if (!model_find(&engine->model, name, signature))
    fail(BAD_INPUT,
         "%s must have the signatures reset, prefill, decode and sample, got no %s: export it with "
         "export.py",
         engine->model.path, name);
}

static void *allocate(size_t count) {
  void *memory = calloc(count, 4);
  if (!memory) fail(FAILED, "out of memory");
  return memory;
}

/* Everything that is used later is looked up here once, so that a wrong file fails before it
 * writes. */
static void check_signatures(Engine *engine) {
  static const char *const INTEGERS[] = {"tokens", "input_pos", "top_k", "seed", "step"};
  Signature *prefill = &engine->prefill, *decode = &engine->decode, *sample = &engine->sample;
  signature_check_inputs(&engine->reset, 0);
  signature_check_inputs(prefill, 2);
  size_t chunk_size = signature_input(prefill, "tokens", LITERT_INT32, 0)->size;
  signature_input(prefill, "input_pos", LITERT_INT32, chunk_size);
  if (chunk_size > (size_t)engine->max_seq_len)
    fail(BAD_INPUT, "prefill of %s takes %zu tokens, more than the context of %ld: export it again",
         engine->model.path, chunk_size, (long)engine->max_seq_len);
  engine->chunk_size = (int32_t)chunk_size;
  signature_check_inputs(decode, 2);
  signature_input(decode, "tokens", LITERT_INT32, 1);
  signature_input(decode, "input_pos", LITERT_INT32, 1);
  signature_output(decode, "logits", LITERT_FLOAT32, (size_t)engine->vocab_size);
  signature_check_inputs(sample, 7);
  for (size_t i = 0; i < 5; i++) signature_input(sample, INTEGERS[i], LITERT_INT32, 1);
  signature_input(sample, "temperature", LITERT_FLOAT32, 1);
  signature_input(sample, "top_p", LITERT_FLOAT32, 1);
  signature_output(sample, "next_token", LITERT_INT32, 1);
}

void engine_open(Engine *engine, const char *path, const Artifact *artifact) {
  *engine = (Engine){.vocab_size = artifact->vocab_size, .max_seq_len = artifact->max_seq_len};
  engine->model = model_open(path);
  find_needed(engine, "reset", &engine->reset);
  find_needed(engine, "prefill", &engine->prefill);
  find_needed(engine, "decode", &engine->decode);
  find_needed(engine, "sample", &engine->sample);
  check_signatures(engine);
  engine->chunk = allocate((size_t)engine->chunk_size);
  engine->chunk_positions = allocate((size_t)engine->chunk_size);
}

void engine_close(Engine *engine) {
  signature_close(&engine->reset);
  signature_close(&engine->decode);
  signature_close(&engine->prefill);
  signature_close(&engine->sample);
  model_close(&engine->model);
  free(engine->chunk);
  free(engine->chunk_positions);
}

static void write_input(Signature *signature, const char *name, int32_t value) {
  tensor_write(signature_input(signature, name, LITERT_INT32, 1), &value);
}

static void write_float_input(Signature *signature, const char *name, float value) {
  tensor_write(signature_input(signature, name, LITERT_FLOAT32, 1), &value);
}

/* Takes in one token; the file keeps its keys and values. */
static void run_step(Engine *engine, Signature *signature, int32_t token) {
  write_input(signature, "tokens", token);
  write_input(signature, "input_pos", engine->position);
  signature_run(signature);
  engine->position++;
}

static void run_prefill(Engine *engine, const int32_t *tokens, int32_t num_tokens) {
  size_t size = (size_t)engine->chunk_size;
  for (int32_t i = 0; i < engine->chunk_size; i++) {
    engine->chunk[i] = i < num_tokens ? tokens[i] : 0; /* padding is never seen */
    engine->chunk_positions[i] = engine->position + i;
  }
  tensor_write(signature_input(&engine->prefill, "tokens", LITERT_INT32, size), engine->chunk);
  tensor_write(signature_input(&engine->prefill, "input_pos", LITERT_INT32, size),
               engine->chunk_positions);
  signature_run(&engine->prefill);
  engine->position += num_tokens;
}

void engine_start(Engine *engine, const int32_t *tokens, int32_t num_tokens) {
  signature_run(&engine->reset);
  engine->position = 0;
  while (num_tokens > 0) {
    int32_t taken = 1;
    /* A padded chunk must fit: a write past the last slot would move to earlier slots. */
    if (engine->position + engine->chunk_size <= engine->max_seq_len) {
      taken = num_tokens < engine->chunk_size ? num_tokens : engine->chunk_size;
      run_prefill(engine, tokens, taken);
    } else {
      run_step(engine, &engine->decode, *tokens);
    }
    tokens += taken;
    num_tokens -= taken;
  }
}

int32_t engine_next(Engine *engine, int32_t token, Sampling *sampling) {
  /* The logits stay inside the file: only one number comes out. */
  Signature *sample = &engine->sample;
  int32_t next_token;
  write_float_input(sample, "temperature", sampling->temperature);
  write_float_input(sample, "top_p", 1); /* off */
  write_input(sample, "top_k", 0);       /* off */
  write_input(sample, "seed", sampling->seed);
  write_input(sample, "step", sampling->step++);
  run_step(engine, sample, token);
  tensor_read(signature_output(sample, "next_token", LITERT_INT32, 1), &next_token);
  if (next_token < 0 || next_token >= engine->vocab_size)
    fail(FAILED, "%s drew the token %ld of %ld: export it again", engine->model.path,
         (long)next_token, (long)engine->vocab_size);
  return next_token;
}
