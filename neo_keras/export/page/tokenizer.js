"use strict";
// Text <-> token ids, from a tokenizer.json of words that are looked up, or of a BPE; what stands
// before and behind it is in components.js.

const MODELS = {
  WordLevel: (model, vocab) => {
    const unkId = vocab.get(model.unk_token);
    return (word) => [vocab.get(word) ?? unkId];
  },
  BPE: bpeEncoder,
};

/**
 * Reads a parsed tokenizer.json.
 *
 * @param {object} json
 * @param {object} config a parsed tokenizer_config.json, or nothing.
 * @returns {{encode, encodeEnd, encodePrompt, stream, unknownIn, unkId, startId, endId, endIds, size}}
 *   encode(text): array of token ids.
 *   encodeEnd(text, count): the last of them, without the work for the others.
 *   encodePrompt(text, count): the same of a prompt, which may begin with a token for that; of an
 *     empty one the token to begin from.
 *   stream(): a function of the next token id that returns the text that can now be shown; called
 *     without one, at the end, it returns the rest.
 *   unknownIn(text, count): the characters or words that the model has never seen, among the last
 *     words or, without a count, all.
 *   unkId: of the unknown token, or null.
 *   startId: the token to begin from where there is no prompt.
 *   endId: of the token that ends a text, or undefined; endIds: of all that do.
 *   size: one more than the largest token id.
 * @throws {Error} if it is of another kind.
 */
function makeTokenizer(json, config = {}) {
  const { model } = json, added = json.added_tokens ?? [];
  if (!Object.hasOwn(MODELS, model.type)) {
    throw new Error(`the page reads tokenizers with ${Object.keys(MODELS).join(", ")}; ` +
                    `this one has ${model.type}`);
  }
  const vocab = new Map(Object.entries(model.vocab));
  const ids = new Map([...vocab, ...added.map(({ content, id }) => [content, id])]);
  const encodeWord = MODELS[model.type](model, vocab);
  const unkId = unkIdOf(json, vocab);
  const piecesOf = cutterOf(json, added);

  function encodeEnd(text, count) {
    const pieces = piecesOf(wellFormed(text)), runs = [];
    for (let i = pieces.length, got = 0; i-- && got < count;) {
      runs.push(typeof pieces[i] === "number" ? [pieces[i]] : encodeWord(pieces[i]));
      got += runs.at(-1).length;
    }
    return runs.reverse().flat().slice(-count);
  }

  const encode = (text) => encodeEnd(text, Infinity);

  function encodePrompt(text, count) {
    const begin = config.add_bos_token ? [bosId] : [];
    const prompt = [...begin, ...encodeEnd(text, count)].slice(-count);
    return prompt.length ? prompt : [startId];
  }

  function unknownIn(text, count = Infinity) {
    if (unkId === null) {
      return [];
    }
    const words = piecesOf(wellFormed(text)).slice(-count).filter((p) => typeof p !== "number");
    const names = model.type === "BPE" ? words.flatMap((word) => [...word]) : words;
    return [...new Set(names.filter((name) => !vocab.has(name)))].sort();
  }

  const contents = new Map(Array.from(ids, ([content, id]) => [id, content]));
  const stream = () => byteStream(contents, json.decoder);
  const lineBreak = encode("\n").at(-1) ?? 0;
  const bosId = ids.get(config.bos_token);
  const startId = bosId ?? (lineBreak === unkId ? 0 : lineBreak);
  const endId = ids.get(config.eos_token) ?? ids.get("<|endoftext|>");
  const endIds = [endId, ...(config.extra_eos_tokens ?? []).map((token) => ids.get(token))];
  const size = [...contents.keys()].reduce((size, id) => Math.max(size, id + 1), 0);
  return { encode, encodeEnd, encodePrompt, stream, unknownIn, unkId, startId, endId, endIds,
           size };
}

// Half a surrogate pair is no character: what Python does with it too.
function wellFormed(text) {
  return text.replace(/\p{Surrogate}/gu, "\ufffd");
}

// The id for what is unknown; null where all is known, at least in bytes.
function unkIdOf({ model, pre_tokenizer: component }, vocab) {
  const isByteLevel = JSON.stringify(component ?? null).includes('"type":"ByteLevel"');
  const knowsBytes = (isByteLevel && BYTE_LETTERS.every((letter) => vocab.has(letter))) ||
    (model.byte_fallback && Array.from({ length: 256 }, (_, byte) =>
      `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`).every((token) => vocab.has(token)));
  return knowsBytes ? null : vocab.get(model.unk_token) ?? null;
}

// Returns a function that cuts a text: array of the ids of its added tokens and, between them, the
// words (str) for the model.
function cutterOf(json, added) {
  const normalizers = stepsOf(json.normalizer, NORMALIZERS);
  const preTokenizers = stepsOf(json.pre_tokenizer, PRE_TOKENIZERS);
  const normalize = (text) => normalizers.reduce((text, step) => step(text), text);
  const cut = addedTokenCutter(added.filter((token) => !token.normalized), (text) => text);
  const cutNormalized = addedTokenCutter(added.filter((token) => token.normalized), normalize);

  function wordsOf(text, isFirst) {
    return preTokenizers.reduce((pieces, step) =>
      pieces.flatMap((piece, i) => step(piece, isFirst && i === 0)), [text]);
  }

  return (text) => cut(text).flatMap((part, i) => typeof part === "number" ? [part] :
    cutNormalized(normalize(part)).flatMap((piece, j) =>
      typeof piece === "number" ? [piece] : wordsOf(piece, i + j === 0)));
}

// Returns a function that cuts a text where added tokens stand: array of str, none empty, and of
// ids. Of two that begin at one place it takes the longer one.
function addedTokenCutter(tokens, normalize) {
  const ids = new Map(tokens.map(({ content, id }) => [normalize(content), id]));
  const contents = [...ids.keys()].sort((a, b) => b.length - a.length);
  if (!contents.length) {
    return (text) => text === "" ? [] : [text];
  }
  const escaped = contents.map((content) => content.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&"));
  const pattern = new RegExp(`(${escaped.join("|")})`, "u");
  return (text) => text.split(pattern).map((chunk, i) => (i % 2 ? ids.get(chunk) : chunk))
    .filter((chunk) => chunk !== "");
}

function byteStream(contents, component) {
  const steps = stepsOf(component, DECODERS), text = JSON.stringify(component ?? null);
  const letters = text.includes('"type":"ByteLevel"')
    ? new Map(BYTE_LETTERS.map((letter, byte) => [letter, byte])) : new Map();
  const byteToken = text.includes('"type":"ByteFallback"') ? /^<0x([0-9A-Fa-f]{2})>$/ : /^(?!)/;
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  const encoder = new TextEncoder();

  function bytesOf(token) {
    if (letters.size && Array.from(token).every((letter) => letters.has(letter))) {
      return Uint8Array.from(token, (letter) => letters.get(letter));
    }
    const byte = byteToken.exec(token);
    return byte ? Uint8Array.of(parseInt(byte[1], 16))
      : encoder.encode(steps.reduce((token, step) => step(token), token));
  }

  // A character may take several tokens: the decoder holds its first bytes back.
  return (id) => id === undefined ? decoder.decode()
    : decoder.decode(bytesOf(contents.get(id) ?? ""), { stream: true });
}
