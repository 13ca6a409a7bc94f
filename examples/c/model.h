/* A .tflite file in LiteRT: its signatures, and tensors that go in and come out by name. Fails if
 * LiteRT cannot load the file, or a signature is not as asked. */
#ifndef MODEL_H
#define MODEL_H

#include <stdbool.h>
#include <stddef.h>

#include "litert.h"

enum { MAX_TENSORS = 8 }; /* of a signature, on each side */

typedef struct {
  const char *path;
  LiteRtEnvironment environment;
  LiteRtModel model;
  LiteRtOptions options;
  LiteRtCompiledModel compiled;
} Model;

typedef struct {
  const char *name;
  LiteRtTensorBuffer buffer;
  int element_type;
  size_t size; /* elements */
} Tensor;

typedef struct {
  const Model *model;
  const char *name;
  size_t index;
  size_t num_inputs, num_outputs;
  Tensor inputs[MAX_TENSORS], outputs[MAX_TENSORS];
} Signature;

Model model_open(const char *path);

void model_close(Model *model);

/* Whether the file has the signature; makes room for its tensors. */
bool model_find(const Model *model, const char *name, Signature *signature);

/* Fails unless the signature has this many inputs. */
void signature_check_inputs(const Signature *signature, size_t num_inputs);

/* An input or output of the signature; `size` 0 takes any size. */
Tensor *signature_input(Signature *signature, const char *name, int element_type, size_t size);
Tensor *signature_output(Signature *signature, const char *name, int element_type, size_t size);

void signature_run(Signature *signature);

void signature_close(Signature *signature);

/* Every element has 4 bytes. */
void tensor_write(Tensor *tensor, const void *elements);
void tensor_read(Tensor *tensor, void *elements);

#endif
