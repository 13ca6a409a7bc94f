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
 * @returns {{encode, stream, unknownIn, unkId, startId, size}}
 *   encode(text): array of token ids.
 *   stream(): a function of the next token id that returns the text that can now be shown; called
 *     without one, at the end, it returns the rest.
 *   unknownIn(text): the characters or words that the model has never seen.
 *   unkId: of the unknown token, or null.
 *   startId: the token to begin from where there is no prompt.
 *   size: number of tokens.
 * @throws {Error} if it is of another kind.
 */
function makeTokenizer(json) {
  const vocab = new Map(Object.entries(json.model.vocab));
  const added = (json.added_tokens ?? []).map((token) => [token.content, token.id]);
  const contents = new Map([...vocab, ...added].map(([content, id]) => [id, content]));
  const split = splitOf(json);
  const unkId = split ? vocab.get(json.model.unk_token) : null;
  const encodePlain = split
    ? (text) => (text.match(split) ?? []).map((token) => vocab.get(token) ?? unkId)
    : bpeEncoder(json, vocab);

  function encode(text) {
    return splitAround(wellFormed(text), added).flatMap((part) =>
      typeof part === "number" ? [part] : encodePlain(part));
  }

  function unknownIn(text) {
    const tokens = split ? wellFormed(text).match(split) ?? [] : [];
    return [...new Set(tokens)].filter((token) => !vocab.has(token)).sort();
  }

  const stream = () => split ? (id) => contents.get(id) ?? "" : byteStream(contents, added);
  const lineBreak = encode("\n").at(-1);
  const startId = lineBreak === unkId ? 0 : lineBreak;
  return { encode, stream, unknownIn, unkId, startId, size: contents.size };
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

// Cuts a text where the added tokens stand: array of str and, for an added token, its id. Of two
// that begin at one place the longer one counts.
function splitAround(text, added) {
  if (!added.length) {
    return [text];
  }
  const ids = new Map(added);
  const escaped = added.map(([content]) => content.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&"));
  escaped.sort((a, b) => b.length - a.length);
  const parts = text.split(new RegExp(`(${escaped.join("|")})`, "u"));
  return parts.map((part, i) => (i % 2 ? ids.get(part) : part)).filter((part) => part !== "");
}

// GPT-2's words: contractions, letters, digits, the rest, each with the space before it.
const WORDS = new RegExp(
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\p{White_Space}\\p{L}\\p{N}]+" +
  "|\\p{White_Space}+(?!\\P{White_Space})|\\p{White_Space}+", "gu");

function bpeEncoder(json, vocab) {
  const ranks = new Map(json.model.merges.map((merge, rank) =>
    // Older files have "a b" for ["a", "b"]; no token holds a space.
    [Array.isArray(merge) ? merge.join(" ") : merge, rank]));
  const letters = byteLetters();
  const known = new Map();  // the ids of words seen before

  function encodeWord(word) {
    let ids = known.get(word);
    if (!ids) {
      const spelled = Array.from(new TextEncoder().encode(word), (byte) => letters[byte]);
      const whole = json.model.ignore_merges ? vocab.get(spelled.join("")) : undefined;
      ids = whole === undefined
        ? merge(spelled, ranks).map((token) => vocab.get(token))
        : [whole];
      known.set(word, ids);
    }
    return ids;
  }

  return (text) => (text.match(WORDS) ?? []).flatMap(encodeWord);
}

// Joins the pair that was learned first, until no pair is known.
function merge(tokens, ranks) {
  tokens = [...tokens];
  for (;;) {
    let best = Infinity;
    let at = -1;
    for (let i = 0; i + 1 < tokens.length; i++) {
      const rank = ranks.get(tokens[i] + " " + tokens[i + 1]);
      if (rank < best) {
        [best, at] = [rank, i];
      }
    }
    if (at < 0) {
      return tokens;
    }
    tokens.splice(at, 2, tokens[at] + tokens[at + 1]);
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
  const plain = new Map(added.map(([content, id]) => [id, content]));
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
