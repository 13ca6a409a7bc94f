"use strict";
// Text <-> token ids, from a tokenizer.json of the four kinds that neo_keras has: characters, words,
// byte-level BPE and bytes.

// What is a token, where each is looked up as it is: by the pattern that tokenizer.json has for it.
const SPLITS = new Map([
  ["[\\s\\S]", /[\s\S]/gu],
  ["[\\p{L}\\p{M}\\p{N}_]+|[\\s\\S]", /[\p{L}\p{M}\p{N}_]+|[\s\S]/gu],
]);

/**
 * Reads a parsed tokenizer.json.
 *
 * @param {object} json
 * @returns {{encode, encodeEnd, stream, unknownIn, unkId, startId, endId, size}}
 *   encode(text): array of token ids.
 *   encodeEnd(text, count): the last of them, without the work for the others.
 *   stream(): a function of the next token id that returns the text that can now be shown; called
 *     without one, at the end, it returns the rest.
 *   unknownIn(text, count): the characters or words that the model has never seen, among the last
 *     ones or, without a count, all.
 *   unkId: of the unknown token, or null.
 *   startId: the token to begin from where there is no prompt.
 *   endId: of the token that ends a text, or undefined.
 *   size: number of tokens.
 * @throws {Error} if it is of another kind.
 */
function makeTokenizer(json) {
  const vocab = new Map(Object.entries(json.model.vocab));
  const added = new Map((json.added_tokens ?? []).map((token) => [token.content, token.id]));
  const contents = new Map([...vocab, ...added].map(([content, id]) => [id, content]));
  const split = splitOf(json);
  const unkId = split ? vocab.get(json.model.unk_token) : null;
  const encodeWord = split
    ? (word) => [vocab.get(word) ?? unkId]
    : bpeEncoder(json.model, vocab);
  const cut = addedTokenCutter(json.added_tokens ?? []);

  // Its added tokens, each by its id, and the words (str) between them.
  function wordsOf(text) {
    return cut(wellFormed(text)).flatMap((part) =>
      typeof part === "number" ? [part] : part.match(split ?? WORDS) ?? []);
  }

  function encodeEnd(text, count) {
    const words = wordsOf(text), runs = [];
    for (let i = words.length, got = 0; i-- && got < count;) {
      runs.push(typeof words[i] === "number" ? [words[i]] : encodeWord(words[i]));
      got += runs.at(-1).length;
    }
    return runs.reverse().flat().slice(-count);
  }

  const encode = (text) => encodeEnd(text, Infinity);

  function unknownIn(text, count = Infinity) {
    const words = split ? wordsOf(text).slice(-count) : [];
    const unknown = words.filter((word) => typeof word !== "number" && !vocab.has(word));
    return [...new Set(unknown)].sort();
  }

  const stream = () => split ? (id) => contents.get(id) ?? "" : byteStream(contents, added);
  const lineBreak = encode("\n").at(-1);
  const startId = lineBreak === unkId ? 0 : lineBreak;
  const endId = added.get("<|endoftext|>") ?? vocab.get("<|endoftext|>");
  return { encode, encodeEnd, stream, unknownIn, unkId, startId, endId, size: contents.size };
}

// The pattern of tokens, or null for a byte-level BPE.
function splitOf({ model, normalizer, pre_tokenizer: cut, decoder }) {
  const types = [model.type, normalizer, cut?.type, decoder?.type].join(" ");
  if (types === "WordLevel  Split Fuse" && cut.behavior === "Isolated" &&
      SPLITS.has(cut.pattern.Regex)) {
    return SPLITS.get(cut.pattern.Regex);
  }
  if (types === "BPE  ByteLevel ByteLevel" && !cut.add_prefix_space && cut.use_regex !== false &&
      !(model.dropout || model.continuing_subword_prefix || model.end_of_word_suffix)) {
    return null;
  }
  throw new Error(
    "the page reads tokenizers of characters, words, bytes and byte-level BPE; this is another");
}

// Half a surrogate pair is no character: what Python does with it too.
function wellFormed(text) {
  return text.replace(/\p{Surrogate}/gu, "\ufffd");
}

// Returns a function that cuts a text where added tokens stand: array of str and, for an added
// token, its id. Those that are not normalized come first, and of two that begin at one place the
// longer one.
function addedTokenCutter(tokens) {
  const cutters = [false, true].map((normalized) => tokens
    .filter((token) => Boolean(token.normalized) === normalized)
    .sort((a, b) => b.content.length - a.content.length)).filter((round) => round.length)
    .map((round) => {
      const ids = new Map(round.map(({ content, id }) => [content, id]));
      const escaped = round.map(({ content }) => content.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&"));
      const pattern = new RegExp(`(${escaped.join("|")})`, "u");
      return (part) => typeof part === "number" ? [part] :
        part.split(pattern).map((chunk, i) => (i % 2 ? ids.get(chunk) : chunk))
          .filter((chunk) => chunk !== "");
    });
  return (text) => cutters.reduce((parts, cutter) => parts.flatMap(cutter), [text]);
}

// GPT-2's words: contractions, letters, digits, the rest, each with the space before it.
const WORDS = new RegExp(
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\p{White_Space}\\p{L}\\p{N}]+" +
  "|\\p{White_Space}+(?!\\P{White_Space})|\\p{White_Space}+", "gu");

function bpeEncoder(model, vocab) {
  const merges = readMerges(model.merges, vocab);
  const letters = byteLetters();
  const ids = letters.map((letter) => vocab.get(letter));
  const known = new Map();  // the ids of words seen before

  return (word) => {
    if (!known.has(word)) {
      const bytes = new TextEncoder().encode(word);
      const whole = model.ignore_merges
        ? vocab.get(Array.from(bytes, (byte) => letters[byte]).join("")) : undefined;
      known.set(word, whole === undefined
        ? merge(new Int32Array(bytes).map((byte) => ids[byte]), merges) : [whole]);
    }
    return known.get(word);
  };
}

// Returns { rankOf, results }: the rank of a pair of ids, or -1, and the id that each rank makes.
function readMerges(merges, vocab) {
  const ranks = new Map();  // of the left id: a map of the right one
  const results = merges.map((merge, rank) => {
    // Older files have "a b" for ["a", "b"]; no token holds a space.
    const pair = Array.isArray(merge) ? merge : merge.split(" ");
    const [left, right] = pair.map((token) => vocab.get(token));
    ranks.set(left, (ranks.get(left) ?? new Map()).set(right, rank));
    return vocab.get(pair.join(""));
  });
  return { rankOf: (left, right) => ranks.get(left)?.get(right) ?? -1, results };
}

// Joins the pair that was learned first, of equal ones the first, until no pair is known. What is
// joined keeps the place of its left part. With all pairs in a heap that takes n log n steps.
function merge(ids, { rankOf, results }) {
  const end = ids.length;
  const next = ids.map((_, place) => place + 1);
  const previous = ids.map((_, place) => place - 1);
  const ranks = new Int32Array(end);  // of what stands at a place with what follows
  const heap = new MinHeap();

  function look(place) {
    ranks[place] = next[place] < end ? rankOf(ids[place], ids[next[place]]) : -1;
    if (ranks[place] >= 0) {
      heap.push(ranks[place] * end + place);
    }
  }

  for (let place = 0; place < end; place++) {
    look(place);
  }
  while (heap.size) {
    const item = heap.pop();
    const place = item % end;
    if (ranks[place] !== (item - place) / end) {
      continue;  // one of the two was joined with another
    }
    const gone = next[place];
    ids[place] = results[ranks[place]];
    next[place] = next[gone];
    previous[next[gone]] = place;
    ranks[gone] = next[gone] = -1;
    look(place);
    if (place) {
      look(previous[place]);
    }
  }
  return Array.from(ids.filter((_, place) => next[place] >= 0));
}

// Numbers, of which the least comes out first.
class MinHeap {
  #items = [];

  get size() {
    return this.#items.length;
  }

  push(item) {
    const items = this.#items;
    let i = items.length;
    for (let parent; i && items[parent = (i - 1) >> 1] > item; i = parent) {
      items[i] = items[parent];
    }
    items[i] = item;
  }

  pop() {
    const items = this.#items;
    const [least, item] = [items[0], items.pop()];
    for (let i = 0, child; items.length;) {
      child = 2 * i + 1;
      child += items[child + 1] < items[child] ? 1 : 0;
      if (!(items[child] < item)) {
        items[i] = item;
        break;
      }
      items[i] = items[child];
      i = child;
    }
    return least;
  }
}

// Byte-level BPE spells each byte as a visible letter: printable Latin-1 as itself, the other
// bytes, in order, as the letters from U+0100 on.
function byteLetters() {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const visible = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
    return String.fromCodePoint(visible ? byte : next++);
  });
}

function byteStream(contents, added) {
  const bytes = new Map(byteLetters().map((letter, byte) => [letter, byte]));
  const plain = new Map(Array.from(added, ([content, id]) => [id, content]));
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  return (id) => {
    if (id === undefined) {
      return decoder.decode();
    }
    if (plain.has(id)) {
      return decoder.decode() + plain.get(id);
    }
    // A character may take several tokens: the decoder holds its first bytes back.
    const spelled = Uint8Array.from(contents.get(id), (letter) => bytes.get(letter));
    return decoder.decode(spelled, { stream: true });
  };
}
