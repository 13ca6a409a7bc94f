"use strict";
// The decode loop of neo_keras/generation, over a model that LiteRT.js runs: what it writes in a
// browser is what Python writes.

/**
 * Makes a writer of token ids.
 *
 * @param {object} liteRt the LiteRT.js module.
 * @param {object} model what its `loadAndCompile` gave.
 * @param {number} maxSeqLen slots in the cache.
 * @returns {function} an async generator `write(promptIds, settings)` of token ids without end;
 *   settings are `temperature` (0: greedy), `topK` (0: off) and `seed`.
 */
function makeWriter(liteRt, model, maxSeqLen) {
  const { Tensor } = liteRt;
  const prefillInputs = model.signatures.prefill.getInputDetails();
  const chunkSize = prefillInputs.find((input) => input.name === "tokens").shape[1];

  async function run(signature, inputs) {
    const outputs = await model.run(signature, inputs);
    const values = {};
    for (const [name, tensor] of Object.entries(outputs)) {
      values[name] = tensor.toTypedArray();
      tensor.delete();
    }
    return values;
  }

  // Runs a signature on tokens at the positions from `position` on, beside what `others` holds.
  async function runOn(signature, tokens, position, others = {}) {
    const positions = tokens.map((_, i) => position + i);
    const inputs = {
      tokens: new Tensor(Int32Array.from(tokens), [1, tokens.length]),
      input_pos: new Tensor(Int32Array.from(positions), [tokens.length]),
    };
    try {
      return await run(signature, { ...inputs, ...others });
    } finally {
      deleteAll(inputs);
    }
  }

  // Begins a new sequence with these tokens in the cache.
  async function refill(tokens) {
    await run("reset", {});
    let position = 0;
    // A padded chunk must fit: a write past the last slot would move to earlier slots.
    while (position < tokens.length && position + chunkSize <= maxSeqLen) {
      const chunk = tokens.slice(position, position + chunkSize);
      const padding = new Array(chunkSize - chunk.length).fill(0);
      await runOn("prefill", [...chunk, ...padding], position);
      position += chunk.length;
    }
    for (; position < tokens.length; position++) {
      await runOn("decode", [tokens[position]], position);
    }
  }

  return async function* write(promptIds, settings) {
    const options = {
      temperature: new Tensor(Float32Array.of(settings.temperature), [1]),
      top_k: new Tensor(Int32Array.of(settings.topK), [1]),
      top_p: new Tensor(Float32Array.of(1), [1]),
      seed: new Tensor(Int32Array.of(settings.seed), [1]),  // modulo 2**32
    };
    try {
      let tokens = promptIds.slice(-maxSeqLen);
      await refill(tokens.slice(0, -1));
      for (let step = 0; ; step++) {
        const stepTensor = new Tensor(Int32Array.of(step), [1]);
        const inputs = { ...options, step: stepTensor };
        const last = tokens.length - 1;
        const values = await runOn("sample", [tokens[last]], last, inputs).finally(
          () => stepTensor.delete());
        const next = values.next_token[0];
        yield next;
        tokens.push(next);
        if (tokens.length > maxSeqLen) {
          // The window is full: it goes on with its later half.
          tokens = tokens.slice(-Math.max(Math.floor(maxSeqLen / 2), 1));
          await refill(tokens.slice(0, -1));
        }
      }
    } finally {
      deleteAll(options);
    }
  };
}

function deleteAll(tensors) {
  Object.values(tensors).forEach((tensor) => tensor.delete());
}
