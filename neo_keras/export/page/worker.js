"use strict";
// Loads the model and writes with it, away from the page, which stays quick.
//
// It takes {type: "write", prompt, length, sampling}, with `messages` in place of `prompt` for an
// answer in a conversation, and {type: "stop"}; it posts
//   {type: "loading", loaded, total}           bytes of the model's parts
//   {type: "ready", model, quantization, sizeBytes, runtime, chat}
//   {type: "unknown", names}                   what of the prompt the model has never seen
//   {type: "forgotten"}                        the oldest turns, for which there is no room
//   {type: "refused", message}                 a message that is too long, in one line for people
//   {type: "chunk", text, count, seconds}      some of the text; tokens so far, and their time
//   {type: "done"}
//   {type: "failed", message}                  one line for people

// LiteRT.js brings its runtime in with importScripts, which a module worker does not have.
importScripts("bpe.js", "components.js", "tokenizer.js", "chat.js", "writer.js", "files.js");

const FORMAT = "neo_keras model 1";
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
  const { liteRt, runtime, model } = await loadModel(config);
  postMessage({ type: "ready", model: config.model, quantization: config.quantization,
                sizeBytes: config.size_bytes, runtime,
                chat: config.chat && { hasSystem: Boolean(config.chat.system) } });
  const maxSeqLen = config.model.max_seq_len, chat = config.chat;
  const write = makeWriter(liteRt, model, maxSeqLen);
  await warmUp(write, tokenizer.startId);
  const promptIds = chat && makeChat(chat, tokenizer, maxSeqLen);
  return { tokenizer, write, maxSeqLen, promptIds, turnEnds: chat?.end_ids };
}

// The bytes are held in here alone: LiteRT has a copy of its own.
async function loadModel(config) {
  const onProgress = (loaded, total) => postMessage({ type: "loading", loaded, total });
  const [bytes, { liteRt, runtime }] =
    await Promise.all([fetchParts(config.parts, onProgress), loadRuntime()]);
  let model;
  try {
    // Behind the flatbuffer stands a zip archive, for other programs.
    const flatbuffer = bytes.subarray(0, config.size_bytes);
    model = await liteRt.loadAndCompile(flatbuffer, { accelerator: "wasm" });
  } catch (error) {
    throw new Error(`LiteRT cannot load model.tflite (${oneLine(error)}): ${EXPORT_AGAIN}`);
  }
  const needed = ["prefill", `sample_${config.model.max_seq_len}`];
  const missing = needed.filter((name) => !(name in model.signatures));
  if (missing.length) {
    throw new Error(`model.tflite has no signature ${missing.join(", ")}: ${EXPORT_AGAIN}`);
  }
  return { liteRt, runtime, model };
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

// What to begin with, how many tokens may follow, and which of them end it; null if it is refused.
function beginning({ tokenizer, maxSeqLen, promptIds, turnEnds }, { prompt, messages, length }) {
  const names = tokenizer.unknownIn(prompt ?? messages.at(-1).content, maxSeqLen);
  if (names.length) {
    postMessage({ type: "unknown", names });
  }
  if (!messages) {  // no more than the context fit
    return { ids: tokenizer.encodePrompt(prompt, maxSeqLen), room: length, ends: tokenizer.endIds };
  }
  try {
    const { ids, room, forgotten } = promptIds(messages, length);
    if (forgotten) {
      postMessage({ type: "forgotten" });
    }
    return { ids, room, ends: turnEnds };
  } catch (error) {
    postMessage({ type: "refused", message: oneLine(error) });
    return null;
  }
}

async function write(parts, request) {
  const { tokenizer, write } = parts, begun = beginning(parts, request);
  if (!begun) {
    return;
  }
  const { ids, room, ends } = begun;
  const show = tokenizer.stream();
  const begin = performance.now();
  let count = 0, text = "", shown = begin;
  // A conversation goes on where it ended.
  for await (const id of write(ids, request.sampling, Boolean(request.messages))) {
    const ended = ends.includes(id);
    text += ended ? "" : show(id);
    const last = ++count >= room || ended;
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

function oneLine(error) {
  return String(error?.message ?? error).replace(/\s+/g, " ").trim();
}
