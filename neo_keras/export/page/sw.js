// Keeps the page for when there is no network. export.py writes VERSION and FILES above this: a new
// export is a new version, with a cache of its own, so that files of two exports never mix.

// The scope is part of the name: other pages of the same host have caches of theirs.
const PREFIX = `neo_keras ${registration.scope} `;
const CACHE = PREFIX + VERSION;
// Of the two builds of the runtime, the one that this browser runs.
const runtime = new URL(location).searchParams.get("runtime");
const isOfModel = (file) => file.startsWith("model.tflite");  // files.js fetches and keeps these
const kept = FILES.filter((file) => !isOfModel(file) &&
  (!file.includes("litert_wasm") || file.includes(`/${runtime}.`)));

self.addEventListener("install", (event) => {
  // "no-cache": the server is asked, but what has not changed is not loaded again.
  const requests = ["./", ...kept].map((file) => new Request(file, { cache: "no-cache" }));
  const filled = caches.open(CACHE).then((cache) => cache.addAll(requests));
  event.waitUntil(filled.then(() => skipWaiting()));
});

self.addEventListener("activate", (event) => {
  event.waitUntil(deleteOtherVersions().then(() => clients.claim()));
});

async function deleteOtherVersions() {
  const names = await caches.keys();
  const old = names.filter((name) => name.startsWith(PREFIX) && name !== CACHE);
  await Promise.all(old.map((name) => caches.delete(name)));
}

// The server first, so that a new export shows at once.
self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method === "GET" && !isOfModel(request.url.slice(registration.scope.length))) {
    const answer = fetch(request, { cache: "no-cache" });
    event.respondWith(answer.catch((error) => fromCache(request, error)));
  }
});

async function fromCache(request, error) {
  const cache = await caches.open(CACHE);
  const response = await cache.match(request, { ignoreSearch: true });
  if (!response) {
    throw error;
  }
  return response;
}
