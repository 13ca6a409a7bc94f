"use strict";
// The decode loop of neo_keras/generation, over a model that LiteRT.js runs: what it writes in a
// browser is what Python writes.

// What the sampler of `export/sampling.py` takes: the type of a value, and what it is unless given.
const SAMPLING = {
  temperature: [Float32Array, 1],  // 0: greedy
  top_k: [Int32Array, 0],  // 0: off
  top_p: [Float32Array, 1],  // 1: off
  seed: [Int32Array, 0],  // modulo 2**32
};

/**
 * Makes a writer of token ids.
 *
 * @param {object} liteRt the LiteRT.js module.
 * @param {object} model what its `loadAndCompile` gave.
 * @param {number} maxSeqLen slots in the cache.
 * @returns {function} an async generator `write(promptIds, sampling, reuse)` of token ids without
 *   end; sampling has values by the names of `SAMPLING`; reuse: what of the prompt is in the cache
 *   is not computed again.
 */
function makeWriter(liteRt, model, maxSeqLen) {
  const { Tensor } = liteRt;
  const prefillInputs = model.signatures.prefill.getInputDetails();
  const chunkSize = prefillInputs.find((input) => input.name === "tokens").shape[1];
  // sample_64 reads the first 64 slots of the cache, and so on: the fewer, the faster.
  const ends = Object.keys(model.signatures).filter((name) => name.startsWith("sample_"))
    .map((name) => Number(name.slice("sample_".length))).sort((a, b) => a - b);

  let held = [];  // the tokens in the cache

  // Runs a signature on tokens at the positions from `position` on, beside what `others` holds.
  async function runOn(signature, tokens, position, others = {}) {
    const positions = tokens.map((_, i) => position + i);
    const inputs = {
      tokens: new Tensor(Int32Array.from(tokens), [1, tokens.length]),
      input_pos: new Tensor(Int32Array.from(positions), [tokens.length]),
    };
    held = held.slice(0, position);
    try {
      const outputs = await model.run(signature, { ...inputs, ...others });
      held.push(...tokens);
      return outputs;
    } finally {
      deleteAll(inputs);
    }
  }

  // Puts these tokens in the cache, from the position `begin` on.
  async function refill(tokens, options, begin = 0) {
    // A chunk takes as long as half of its tokens one by one: a rest shorter than that goes so.
    const numChunks = Math.round((tokens.length - begin) / chunkSize);
    for (let i = 0; i < numChunks; i++) {
      // A padded chunk must fit: the last one begins earlier, and writes some slots once more.
      const start = Math.min(begin + i * chunkSize, maxSeqLen - chunkSize);
      const chunk = tokens.slice(start, start + chunkSize);
      const padding = new Array(chunkSize - chunk.length).fill(0);
      deleteAll(await runOn("prefill", [...chunk, ...padding], start));
    }
    for (let position = begin + numChunks * chunkSize; position < tokens.length; position++) {
      await sample(tokens[position], position, 0, options);
    }
  }

  function numHeldOf(tokens) {
    const first = tokens.findIndex((token, i) => token !== held[i]);
    return first < 0 ? tokens.length : first;
  }

  // Samples the token after one at a position.
  async function sample(token, position, step, options) {
    const end = ends.find((end) => position < end);
    const stepTensor = new Tensor(Int32Array.of(step), [1]);
    const inputs = { ...options, step: stepTensor };
    const outputs = await runOn(`sample_${end}`, [token], position, inputs).finally(
      () => stepTensor.delete());
    const next = outputs.next_token.toTypedArray()[0];
    deleteAll(outputs);
    return next;
  }

  return async function* write(promptIds, sampling, reuse = false) {
    const options = {};
    for (const [name, [Type, usual]] of Object.entries(SAMPLING)) {
      options[name] = new Tensor(Type.of(sampling[name] ?? usual), [1]);
    }
    try {
      let tokens = promptIds.slice(-maxSeqLen);
      const before = tokens.slice(0, -1);
      await refill(before, options, reuse ? numHeldOf(before) : 0);
      for (let step = 0; ; step++) {
        const last = tokens.length - 1;
        const next = await sample(tokens[last], last, step, options);
        yield next;
        tokens.push(next);
        if (tokens.length > maxSeqLen) {
          // The window is full: it goes on with its later half.
          tokens = tokens.slice(-Math.max(Math.floor(maxSeqLen / 2), 1));
          await refill(tokens.slice(0, -1), options);
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
