"use strict";
// The page: it takes what the form says to the worker, and shows what the worker writes.

const element = (id) => document.getElementById(id);
const [form, prompt, temperature, topK, length, seed] =
  ["form", "prompt", "temperature", "top-k", "length", "seed"].map(element);
const [writeButton, stopButton, copyButton] = ["write", "stop", "copy"].map(element);
const [statusLine, numbers, noteLine, errorLine, text, given, continuation, loadingBar] =
  ["status", "numbers", "note", "error", "text", "given", "written", "loading"].map(element);
const [chat, system] = ["chat", "system"].map(element);

let worker = null;
let hasSystem = false;  // whether the model knows such a role
let written = continuation;  // where the text goes: in a conversation, the last bubble
let messages = [];  // of the conversation: { role, content }
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

  ready({ model, quantization, sizeBytes, runtime, chat: canChat }) {
    element("about").textContent =
      `A language model of ${megabytes(sizeBytes)} (${quantization}, ${model.num_layers} layers, ` +
      `${model.hidden_dim} wide, context ${model.max_seq_len}), running inside this page.`;
    say("Ready.");
    loadingBar.hidden = true;
    writeButton.disabled = false;
    element("chat-row").hidden = !canChat;
    hasSystem = Boolean(canChat?.hasSystem);
    keepForOffline(runtime);
  },

  unknown({ names }) {
    const first = names.slice(0, 10).map((name) => JSON.stringify(name)).join(", ");
    const more = names.length > 10 ? ` and ${names.length - 10} more` : "";
    note(`The model has never seen ${first}${more}.`);
  },

  forgotten() {
    note("The conversation is longer than the context: its oldest turns are forgotten.");
  },

  refused({ message }) {
    finish();
    written.previousSibling.remove();
    written.remove();
    prompt.value = messages.pop().content;
    note(`Error: ${message}.`);
    say("");
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
    if (chat.checked) {
      messages.push({ role: "assistant", content: written.textContent });
    }
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

function note(message) {
  noteLine.textContent = message;
  noteLine.hidden = false;
}

function fail(message) {
  errorLine.textContent = `Error: ${message}.`;
  errorLine.hidden = false;
  loadingBar.hidden = true;
  say("");
  writeButton.disabled = stopButton.disabled = chat.disabled = true;
}

// A new conversation, or the end of one.
chat.addEventListener("change", () => {
  messages = [];
  text.querySelectorAll(".bubble").forEach((bubble) => bubble.remove());
  given.textContent = continuation.textContent = prompt.value = "";
  written = continuation;
  text.dataset.new = "";
  noteLine.hidden = copyButton.disabled = true;
  element("system-row").hidden = !(chat.checked && hasSystem);
  element("prompt-label").textContent = chat.checked ? "Message" : "Prompt";
  element("prompt-hint").textContent =
    chat.checked ? "What to say to the model." : "The text to continue; may be empty.";
  say("");
});

function addBubble(role, content) {
  const bubble = document.createElement("div");
  bubble.className = `bubble ${role}`;
  bubble.textContent = content;
  text.append(bubble);
  return bubble;
}

// What the worker is to continue: a prompt, or a conversation with one more message.
function takePrompt() {
  if (!chat.checked) {
    given.textContent = prompt.value;
    written.textContent = "";
    return { prompt: prompt.value };
  }
  messages.push({ role: "user", content: prompt.value.trim() });
  addBubble("user", prompt.value.trim());
  written = addBubble("assistant", "");
  text.scrollTop = text.scrollHeight;
  prompt.value = "";
  const said = hasSystem ? system.value.trim() : "";
  return { messages: [...(said ? [{ role: "system", content: said }] : []), ...messages] };
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (writeButton.disabled || (chat.checked && !prompt.value.trim())) {
    return;  // Enter in a field, while a text is being written; or nothing is said
  }
  const chosenSeed = seed.value === "" ? newSeed() : Number(seed.value);
  progress = { count: 0, seconds: 0, seed: chosenSeed, stopped: false };
  noteLine.hidden = true;
  const request = takePrompt();
  text.setAttribute("aria-busy", "true");
  delete text.dataset.new;
  say("Writing.");
  stopButton.disabled = false;
  // A button that is disabled loses the focus: whoever pressed it goes on from there.
  if (document.activeElement === writeButton) {
    stopButton.focus();
  }
  writeButton.disabled = copyButton.disabled = chat.disabled = true;
  worker.postMessage({
    type: "write",
    ...request,
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
  const whole = chat.checked ? messages.map(({ content }) => content).join("\n\n")
    : given.textContent + written.textContent;
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
  writeButton.disabled = copyButton.disabled = chat.disabled = false;
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
