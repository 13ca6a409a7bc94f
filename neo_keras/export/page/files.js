"use strict";
// Fetches the files of the page. The parts of the model stay in the browser's storage under the
// hash of their content: a part is fetched once, and without a network the model is there.

const EXPORT_AGAIN = "export again with export.py --formats web";
const STORE = `neo_keras parts of ${new URL(".", location)}`;  // sw.js leaves it alone

/**
 * Fetches a file.
 *
 * @param {string} name of the file, from the page's directory.
 * @param {string} [cache] what `fetch` takes. "no-cache" asks the server even for what the browser
 *   has: the files must be of one export.
 * @returns {Promise<Response>} a good one; an Error says in one line why there is none.
 */
async function fetchFile(name, cache = "no-cache") {
  let response;
  try {
    response = await fetch(name, { cache });
  } catch {
    throw new Error(`${name} cannot be loaded: is the server running?`);
  }
  if (!response.ok) {
    throw new Error(`${name} is missing (the server says ${response.status}): ${EXPORT_AGAIN}`);
  }
  return response;
}

/**
 * Fetches and parses a JSON file.
 *
 * @param {string} name of the file.
 * @returns {Promise<object>} its value; an Error says in one line why there is none.
 */
async function fetchJson(name) {
  const response = await fetchFile(name);
  const value = await response.json().catch(() => null);
  if (value === null) {
    throw new Error(`${name} is damaged: ${EXPORT_AGAIN}`);
  }
  return value;
}

/**
 * Loads the parts of a file, one after another, into one array: a phone has no memory for a second.
 *
 * @param {{name: string, size_bytes: number, sha256: string}[]} parts in their order.
 * @param {function} onProgress called with the bytes loaded so far, and those of all parts.
 * @returns {Promise<Uint8Array>} the whole file; an Error says in one line what is wrong.
 */
async function fetchParts(parts, onProgress) {
  const total = parts.reduce((sum, part) => sum + part.size_bytes, 0);
  const bytes = new Uint8Array(total);
  const store = await openStore();
  let begin = 0;
  for (const part of parts) {
    const target = bytes.subarray(begin, begin + part.size_bytes);
    const start = begin;
    await loadPart(store, part, target, (size) => onProgress(start + size, total));
    begin += part.size_bytes;
  }
  await forgetOtherParts(store, parts);
  return bytes;
}

// Returns null where the browser gives none: without https, or in a private window of some.
async function openStore() {
  try {
    return await caches.open(STORE);
  } catch {
    return null;
  }
}

const keyOf = (part) => `${part.name}?sha256=${part.sha256}`;

// Fills `target` with a part: with the one that is stored, or else with the server's.
async function loadPart(store, part, target, onSize) {
  const stored = await store?.match(keyOf(part));
  if (stored && !await readPart(stored, part, target, onSize).catch(String)) {
    return;
  }
  // What is stored here need not be in the browser's other cache, too.
  const response = await fetchFile(part.name, store ? "no-store" : "no-cache");
  const problem = await readPart(response, part, target, onSize);
  if (problem) {
    throw new Error(`${problem}: ${EXPORT_AGAIN}`);
  }
  // Where the storage is full, the page works all the same, while there is a server.
  await store?.put(keyOf(part), new Response(target)).catch(() => {});
}

// Reads a response into `target`. Returns what is wrong with the part, or "".
async function readPart(response, part, target, onSize) {
  const reader = response.body.getReader();
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read().catch(() => {
      throw new Error(`${part.name} broke off after ${size} of ${target.length} bytes: ` +
                      "load the page again");
    });
    if (done) {
      break;
    }
    if (size + value.length <= target.length) {
      target.set(value, size);
      onSize(size + value.length);
    }
    size += value.length;
  }
  if (size !== target.length) {
    return `${part.name} has ${size} bytes, expected ${target.length}`;
  }
  // Browsers hash for https and for localhost only; elsewhere the size must do.
  const digest = self.crypto?.subtle && await crypto.subtle.digest("SHA-256", target);
  return digest && hex(digest) !== part.sha256
    ? `${part.name} is damaged, or is not the part that config.json tells of` : "";
}

// Of an earlier export.
async function forgetOtherParts(store, parts) {
  const wanted = new Set(parts.map((part) => new URL(keyOf(part), location).href));
  const requests = await store?.keys() ?? [];
  const others = requests.filter((request) => !wanted.has(request.url));
  await Promise.all(others.map((request) => store.delete(request)));
}

function hex(buffer) {
  return Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
