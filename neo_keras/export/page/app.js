"use strict";
// The page: it takes what the form says to the worker, and shows what the worker writes.

const element = (id) => document.getElementById(id);
const [form, prompt, temperature, topK, length, seed] =
  ["form", "prompt", "temperature", "top-k", "length", "seed"].map(element);
const [writeButton, stopButton, copyButton] = ["write", "stop", "copy"].map(element);
const [statusLine, numbers, noteLine, errorLine, text, given, written, loadingBar] =
  ["status", "numbers", "note", "error", "text", "given", "written", "loading"].map(element);

let worker = null;
let waiting = "";  // text that the next frame will show
let progress = null;  // { count, seconds, seed, stopped } of the text on the page

start();

function start() {
  if (typeof WebAssembly !== "object" || typeof Worker !== "function") {
    fail("this browser has no WebAssembly, which the model needs: try another one, or a newer one");
    return;
  }
  loadingBar.hidden = false;
  worker = new Worker("worker.js");
  worker.onerror = (event) => {
    event.preventDefault();
    fail(`the page is not complete (${event.message || "worker.js is missing"}): ` +
         "export again with export.py --formats web");
  };
  worker.onmessage = ({ data }) => handlers[data.type](data);
}

const handlers = {
  loading({ loaded, total }) {
    if (!errorLine.hidden) {
      return;  // the parts of the model go on coming after the runtime has failed
    }
    numbers.textContent = `${megabytes(loaded)} of ${megabytes(total)}`;
    Object.assign(loadingBar, { max: total, value: loaded });
  },

  ready({ model, quantization, sizeBytes, runtime }) {
    element("about").textContent =
      `A language model of ${megabytes(sizeBytes)} (${quantization}, ${model.num_layers} layers, ` +
      `${model.hidden_dim} wide, context ${model.max_seq_len}), running inside this page.`;
    say("Ready.");
    loadingBar.hidden = true;
    writeButton.disabled = false;
    keepForOffline(runtime);
  },

  unknown({ names }) {
    const first = names.slice(0, 10).map((name) => JSON.stringify(name)).join(", ");
    const more = names.length > 10 ? ` and ${names.length - 10} more` : "";
    noteLine.textContent = `The model has never seen ${first}${more}.`;
    noteLine.hidden = false;
  },

  chunk({ text: chunk, count, seconds }) {
    if (progress.stopped) {
      return;  // it was under way when the button was pressed
    }
    if (!waiting) {
      requestAnimationFrame(show);
    }
    waiting += chunk;
    Object.assign(progress, { count, seconds });
  },

  done() {
    finish();
    const { count, seconds, seed: usedSeed } = progress;
    const speed = count ? `, ${rate(count, seconds)}` : "";
    say(`${count} tokens${speed}, seed ${usedSeed}.`);
  },

  failed({ message }) {
    if (progress) {
      finish();
    }
    fail(message);
  },
};

function say(message) {
  statusLine.textContent = message;
  numbers.textContent = "";
}

function fail(message) {
  errorLine.textContent = `Error: ${message}.`;
  errorLine.hidden = false;
  loadingBar.hidden = true;
  say("");
  writeButton.disabled = stopButton.disabled = true;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (writeButton.disabled) {
    return;  // Enter in a field, while a text is being written
  }
  const chosenSeed = seed.value === "" ? newSeed() : Number(seed.value);
  progress = { count: 0, seconds: 0, seed: chosenSeed, stopped: false };
  given.textContent = prompt.value;
  written.textContent = "";
  noteLine.hidden = true;
  text.setAttribute("aria-busy", "true");
  delete text.dataset.new;
  say("Writing.");
  stopButton.disabled = false;
  // A button that is disabled loses the focus: whoever pressed it goes on from there.
  if (document.activeElement === writeButton) {
    stopButton.focus();
  }
  writeButton.disabled = copyButton.disabled = true;
  worker.postMessage({
    type: "write",
    prompt: prompt.value,
    length: Number(length.value),
    // By the names of the signatures' inputs; 0 where top-k is empty: off.
    sampling: {
      temperature: Number(temperature.value), top_k: Number(topK.value), seed: chosenSeed,
    },
  });
});

prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    form.requestSubmit();
  }
});

stopButton.addEventListener("click", () => {
  progress.stopped = true;
  worker.postMessage({ type: "stop" });
});

copyButton.addEventListener("click", async () => {
  const whole = given.textContent + written.textContent;
  say((await copy(whole)) ? "Copied." : "The browser does not let it be copied.");
});

function show() {
  const atEnd = text.scrollHeight - text.scrollTop - text.clientHeight < 40;
  written.append(waiting);
  waiting = "";
  if (writeButton.disabled) {
    numbers.textContent = rate(progress.count, progress.seconds);
  }
  if (atEnd) {
    text.scrollTop = text.scrollHeight;  // unless the reader has gone back to read
  }
}

function finish() {
  show();
  written.normalize();
  text.setAttribute("aria-busy", "false");
  writeButton.disabled = copyButton.disabled = false;
  if (document.activeElement === stopButton) {
    writeButton.focus();
  }
  stopButton.disabled = true;
}

async function copy(whole) {
  try {
    await navigator.clipboard.writeText(whole);
    return true;
  } catch {
    // Without https there is no clipboard; selecting works everywhere.
    getSelection().selectAllChildren(text);
    return document.execCommand("copy");
  }
}

function newSeed() {
  return crypto.getRandomValues(new Uint32Array(1))[0];
}

function rate(count, seconds) {
  return `${Math.round(count / seconds).toLocaleString("en")} tokens/s`;
}

function megabytes(bytes) {
  return bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

// Browsers allow it for https and for localhost only.
function keepForOffline(runtime) {
  navigator.serviceWorker?.register(`sw.js?runtime=${runtime}`).catch(() => {
    // The page works all the same, while there is a server.
  });
}
