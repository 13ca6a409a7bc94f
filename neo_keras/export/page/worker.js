"use strict";
// Loads the model and writes with it, away from the page, which stays quick.
//
// It takes {type: "write", prompt, length, sampling} and {type: "stop"}; it posts
//   {type: "loading", loaded, total}           bytes of the model
//   {type: "ready", model, quantization, sizeBytes, runtime}
//   {type: "unknown", names}                   what of the prompt the model has never seen
//   {type: "chunk", text, count, seconds}      some of the text; tokens so far, and their time
//   {type: "done"}
//   {type: "failed", message}                  one line for people

// LiteRT.js brings its runtime in with importScripts, which a module worker does not have.
importScripts("bpe.js", "components.js", "tokenizer.js", "writer.js");

const FORMAT = "neo_keras model 1";
const EXPORT_AGAIN = "export again with export.py --formats web";
const FRAME = 16;  // milliseconds; a screen shows hardly more than one in this time
const WARM_UP = 200;  // tokens

let asked = false, stopped = false;

// Messages wait until the loop gives way. A timer would sleep for milliseconds; this does not.
const giveWay = new MessageChannel();
const resume = () => new Promise((resolve) => {
  giveWay.port1.onmessage = resolve;
  giveWay.port2.postMessage(0);
});

const loaded = load().catch((error) => {
  postMessage({ type: "failed", message: oneLine(error) });
});

self.onmessage = async ({ data }) => {
  asked = true;
  stopped = data.type === "stop";
  const parts = await loaded;
  if (parts && data.type === "write") {
    await write(parts, data).catch((error) => {
      postMessage({ type: "failed", message: oneLine(error) });
    });
  }
};

async function load() {
  const config = await fetchJson("config.json");
  if (config.format !== FORMAT) {
    throw new Error(
      `config.json has the format "${config.format}", expected "${FORMAT}": ${EXPORT_AGAIN}`);
  }
  const tokenizerFiles = config.tokenizer_files ?? ["tokenizer.json"];
  const tokenizer = makeTokenizer(...await Promise.all(tokenizerFiles.map(fetchJson)));
  // Of weights that others trained, a model may have rows that stand for nothing.
  if (tokenizer.size > config.model.vocab_size) {
    throw new Error(`tokenizer.json has ${tokenizer.size} tokens, but the model has ` +
                    `${config.model.vocab_size}: ${EXPORT_AGAIN}`);
  }
  const [bytes, { liteRt, runtime }] = await Promise.all([fetchModel(config), loadRuntime()]);
  let model;
  try {
    model = await liteRt.loadAndCompile(bytes, { accelerator: "wasm" });
  } catch (error) {
    throw new Error(`LiteRT cannot load model.tflite (${oneLine(error)}): ${EXPORT_AGAIN}`);
  }
  const needed = ["prefill", `sample_${config.model.max_seq_len}`];
  const missing = needed.filter((name) => !(name in model.signatures));
  if (missing.length) {
    throw new Error(`model.tflite has no signature ${missing.join(", ")}: ${EXPORT_AGAIN}`);
  }
  postMessage({ type: "ready", model: config.model, quantization: config.quantization,
                sizeBytes: bytes.length, runtime });
  const maxSeqLen = config.model.max_seq_len;
  const write = makeWriter(liteRt, model, maxSeqLen);
  await warmUp(write, tokenizer.startId);
  return { tokenizer, write, maxSeqLen };
}

// A browser makes code fast only once it has run for a while: let that be while people still type.
async function warmUp(write, startId) {
  let count = 0;
  for await (const _ of write([startId], {})) {
    await resume();
    if (asked || ++count === WARM_UP) {
      break;
    }
  }
}

async function loadRuntime() {
  // The model runs on the processor alone: no graphics processor is to be woken up for it.
  Object.defineProperty(navigator, "gpu", { value: { requestAdapter: async () => null } });
  const warn = console.warn;
  console.warn = () => {};  // that there is none
  try {
    const liteRt = await import("./litert/index.js");
    const simd = await liteRt.supportsFeature("relaxedSimd");
    const runtime = simd ? "litert_wasm_internal" : "litert_wasm_compat_internal";
    // What the runtime tells of itself would stand in the console as errors.
    self.Module = { locateFile: (file) => "litert/" + file, printErr: () => {} };
    await liteRt.loadLiteRt(`litert/${runtime}.js`);
    return { liteRt, runtime };
  } catch (error) {
    throw new Error(
      `the runtime does not start in this browser (${oneLine(error)}): try a newer one`);
  } finally {
    console.warn = warn;
  }
}

async function write({ tokenizer, write, maxSeqLen }, { prompt, length, sampling }) {
  const names = tokenizer.unknownIn(prompt, maxSeqLen);
  if (names.length) {
    postMessage({ type: "unknown", names });
  }
  const promptIds = tokenizer.encodePrompt(prompt, maxSeqLen);  // no more fit the context
  const show = tokenizer.stream();
  const begin = performance.now();
  let count = 0, text = "", shown = begin;
  for await (const id of write(promptIds, sampling)) {
    const ended = id === tokenizer.endId;
    text += ended ? "" : show(id);
    const last = ++count >= length || ended;
    const now = performance.now();
    if (now - shown < FRAME && !last) {
      continue;
    }
    await resume();
    if (stopped) {
      break;
    }
    text += last ? show() : "";
    postMessage({ type: "chunk", text, count, seconds: (now - begin) / 1000 });
    if (last) {
      break;
    }
    text = "";
    shown = now;
  }
  postMessage({ type: "done" });
}

// Asks the server even for what the browser has: the files must be of one export.
async function fetchFile(name) {
  let response;
  try {
    response = await fetch(name, { cache: "no-cache" });
  } catch {
    throw new Error(`${name} cannot be loaded: is the server running?`);
  }
  if (!response.ok) {
    throw new Error(`${name} is missing (the server says ${response.status}): ${EXPORT_AGAIN}`);
  }
  return response;
}

async function fetchJson(name) {
  const response = await fetchFile(name);
  const value = await response.json().catch(() => null);
  if (value === null) {
    throw new Error(`${name} is damaged: ${EXPORT_AGAIN}`);
  }
  return value;
}

// Returns the bytes of the flatbuffer; behind it stands a zip archive, for other programs.
async function fetchModel(config) {
  const total = config.size_bytes;
  const response = await fetchFile("model.tflite");
  const parts = [];
  let size = 0;
  for (const reader = response.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) {
      break;
    }
    parts.push(value);
    size += value.length;
    postMessage({ type: "loading", loaded: Math.min(size, total), total });
  }
  const bytes = new Uint8Array(await new Blob(parts).arrayBuffer()).subarray(0, total);
  if (new TextDecoder().decode(bytes.subarray(4, 8)) !== "TFL3") {
    throw new Error(`model.tflite is not a TFLite file: ${EXPORT_AGAIN}`);
  }
  // Browsers hash for https and for localhost only; elsewhere the size must do.
  const digest = self.crypto?.subtle && await crypto.subtle.digest("SHA-256", bytes);
  if (bytes.length !== total || (digest && hex(digest) !== config.sha256)) {
    throw new Error(
      `model.tflite is damaged, or is not the model that config.json tells of: ${EXPORT_AGAIN}`);
  }
  return bytes;
}

function hex(buffer) {
  return Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function oneLine(error) {
  return String(error?.message ?? error).replace(/\s+/g, " ").trim();
}
