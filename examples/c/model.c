#define _POSIX_C_SOURCE 200809L /* dup2 */
#include "model.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "errors.h"

/* LiteRT greets on stderr, and says in words of its own what is wrong with a file. */
static int hide_stderr(void) {
  fflush(stderr);
  int visible = dup(STDERR_FILENO), nowhere = open("/dev/null", O_WRONLY);
  if (visible >= 0 && nowhere >= 0) dup2(nowhere, STDERR_FILENO);
  if (nowhere >= 0) close(nowhere);
  return visible;
}

static void show_stderr(int visible) {
  if (visible < 0) return;
  fflush(stderr);
  dup2(visible, STDERR_FILENO);
  close(visible);
}

static void check(LiteRtStatus status, const char *what) {
  if (status) fail(FAILED, "LiteRT failed to %s (status %d)", what, status);
}

Model model_open(const char *path) {
  Model model = {.path = path};
  LiteRtEnvOption options[] = {
      {LITERT_OPTION_MIN_LOGGER_SEVERITY, {LITERT_ANY_INT, LITERT_LOG_ERROR}},
      /* Without it, LiteRT looks for libraries of graphics cards. */
      {LITERT_OPTION_AUTO_REGISTER_ACCELERATORS, {LITERT_ANY_INT, LITERT_CPU}},
  };
  int visible = hide_stderr();
  LiteRtStatus status = LiteRtCreateEnvironment(2, options, &model.environment);
  if (!status) status = LiteRtCreateModelFromFile(model.environment, path, &model.model);
  if (!status) status = LiteRtCreateOptions(&model.options);
  if (!status) status = LiteRtSetOptionsHardwareAccelerators(model.options, LITERT_CPU);
  if (!status)
    status = LiteRtCreateCompiledModel(model.environment, model.model, model.options,
                                       &model.compiled);
  show_stderr(visible);
  if (status) {
    model_close(&model);
    fail(BAD_INPUT, "LiteRT cannot load %s (status %d): export it again", path, status);
  }
  return model;
}

void model_close(Model *model) {
  if (model->compiled) LiteRtDestroyCompiledModel(model->compiled);
  if (model->options) LiteRtDestroyOptions(model->options);
  if (model->model) LiteRtDestroyModel(model->model);
  if (model->environment) LiteRtDestroyEnvironment(model->environment);
}

static Tensor make_tensor(const Model *model, const char *name, LiteRtTensor of,
                          LiteRtTensorBufferRequirements requirements) {
  LiteRtRankedTensorType type;
  Tensor tensor = {.name = name, .size = 1};
  check(LiteRtGetRankedTensorType(of, &type), "tell the type of a tensor");
  tensor.element_type = type.element_type;
  for (unsigned i = 0; i < type.layout.rank; i++) {
    if (type.layout.dimensions[i] < 1)
      fail(BAD_INPUT, "the tensor %s of %s has no fixed shape: export it with export.py", name,
           model->path);
    tensor.size *= (size_t)type.layout.dimensions[i];
  }
  check(LiteRtCreateManagedTensorBufferFromRequirements(model->environment, &type, requirements,
                                                        &tensor.buffer),
        "make a tensor");
  return tensor;
}

static void make_tensors(Signature *signature, LiteRtSignature of) {
  const Model *model = signature->model;
  LiteRtTensorBufferRequirements requirements;
  LiteRtTensor tensor;
  const char *name;
  for (size_t i = 0; i < signature->num_inputs; i++) {
    check(LiteRtGetSignatureInputName(of, i, &name), "name an input");
    check(LiteRtGetSignatureInputTensorByIndex(of, i, &tensor), "give an input");
    check(LiteRtGetCompiledModelInputBufferRequirements(model->compiled, signature->index, i,
                                                        &requirements),
          "tell what an input needs");
    signature->inputs[i] = make_tensor(model, name, tensor, requirements);
  }
  for (size_t i = 0; i < signature->num_outputs; i++) {
    check(LiteRtGetSignatureOutputName(of, i, &name), "name an output");
    check(LiteRtGetSignatureOutputTensorByIndex(of, i, &tensor), "give an output");
    check(LiteRtGetCompiledModelOutputBufferRequirements(model->compiled, signature->index, i,
                                                         &requirements),
          "tell what an output needs");
    signature->outputs[i] = make_tensor(model, name, tensor, requirements);
  }
}

bool model_find(const Model *model, const char *name, Signature *signature) {
  size_t count;
  check(LiteRtGetNumModelSignatures(model->model, &count), "count the signatures");
  for (size_t i = 0; i < count; i++) {
    LiteRtSignature found;
    const char *key;
    check(LiteRtGetModelSignature(model->model, i, &found), "give a signature");
    check(LiteRtGetSignatureKey(found, &key), "name a signature");
    if (strcmp(key, name)) continue;
    *signature = (Signature){.model = model, .name = name, .index = i};
    check(LiteRtGetNumSignatureInputs(found, &signature->num_inputs), "count inputs");
    check(LiteRtGetNumSignatureOutputs(found, &signature->num_outputs), "count outputs");
    if (signature->num_inputs > MAX_TENSORS || signature->num_outputs > MAX_TENSORS)
      fail(BAD_INPUT, "the signature %s of %s has more than %d tensors: export it with export.py",
           name, model->path, MAX_TENSORS);
    make_tensors(signature, found);
    return true;
  }
  return false;
}

void signature_check_inputs(const Signature *signature, size_t num_inputs) {
  if (signature->num_inputs != num_inputs)
    fail(BAD_INPUT, "the signature %s of %s has %zu inputs, expected %zu: export it with export.py",
         signature->name, signature->model->path, signature->num_inputs, num_inputs);
}

static Tensor *find(Signature *signature, Tensor *tensors, size_t count, const char *name,
                    int element_type, size_t size) {
  for (size_t i = 0; i < count; i++)
    if (!strcmp(tensors[i].name, name) && tensors[i].element_type == element_type &&
        (!size || tensors[i].size == size))
      return &tensors[i];
  char expected[40] = "";
  if (size) snprintf(expected, sizeof expected, " with %zu elements", size);
  fail(BAD_INPUT, "the signature %s of %s has no %s tensor %s%s: export it with export.py",
       signature->name, signature->model->path, element_type == LITERT_INT32 ? "int32" : "float32",
       name, expected);
}

Tensor *signature_input(Signature *signature, const char *name, int element_type, size_t size) {
  return find(signature, signature->inputs, signature->num_inputs, name, element_type, size);
}

Tensor *signature_output(Signature *signature, const char *name, int element_type, size_t size) {
  return find(signature, signature->outputs, signature->num_outputs, name, element_type, size);
}

void signature_run(Signature *signature) {
  LiteRtTensorBuffer inputs[MAX_TENSORS], outputs[MAX_TENSORS];
  for (size_t i = 0; i < signature->num_inputs; i++) inputs[i] = signature->inputs[i].buffer;
  for (size_t i = 0; i < signature->num_outputs; i++) outputs[i] = signature->outputs[i].buffer;
  check(LiteRtRunCompiledModel(signature->model->compiled, signature->index, signature->num_inputs,
                               inputs, signature->num_outputs, outputs),
        signature->name);
}

void signature_close(Signature *signature) {
  for (size_t i = 0; i < signature->num_inputs; i++)
    LiteRtDestroyTensorBuffer(signature->inputs[i].buffer);
  for (size_t i = 0; i < signature->num_outputs; i++)
    LiteRtDestroyTensorBuffer(signature->outputs[i].buffer);
}

void tensor_write(Tensor *tensor, const void *elements) {
  void *address;
  check(LiteRtLockTensorBuffer(tensor->buffer, &address, LITERT_LOCK_WRITE), "open an input");
  memcpy(address, elements, tensor->size * 4);
  check(LiteRtUnlockTensorBuffer(tensor->buffer), "close an input");
}

void tensor_read(Tensor *tensor, void *elements) {
  void *address;
  check(LiteRtLockTensorBuffer(tensor->buffer, &address, LITERT_LOCK_READ), "open an output");
  memcpy(elements, address, tensor->size * 4);
  check(LiteRtUnlockTensorBuffer(tensor->buffer), "close an output");
}
