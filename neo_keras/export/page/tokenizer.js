"use strict";
// Text <-> token ids, from a tokenizer.json of the two kinds that neo_keras writes and reads:
// characters (WordLevel) and byte-level BPE.

/**
 * Reads a parsed tokenizer.json.
 *
 * @param {object} json
 * @returns {{encode, stream, unknownIn, unkId, startId, size}}
 *   encode(text): array of token ids.
 *   stream(): a function of the next token id that returns the text that can now be shown.
 *   unknownIn(text): the characters that the model has never seen.
 *   unkId: of the unknown token, or null.
 *   startId: the token to begin from where there is no prompt.
 *   size: number of tokens.
 * @throws {Error} if it is of another kind.
 */
function makeTokenizer(json) {
  const vocab = new Map(Object.entries(json.model.vocab));
  const added = (json.added_tokens ?? []).map((token) => [token.content, token.id]);
  const contents = new Map([...vocab, ...added].map(([content, id]) => [id, content]));
  const unkToken = json.model.unk_token ?? null;
  const unkId = unkToken === null ? null : vocab.get(unkToken);
  const kind = kindOf(json);
  const [encodePlain, stream] = kind === "characters"
    ? [characterEncoder(vocab, unkId), () => (id) => contents.get(id)]
    : [bpeEncoder(json, vocab, unkId), () => byteStream(contents, added)];

  function encode(text) {
    // Half a surrogate pair is no character: what Python does with it too.
    const wellFormed = text.replace(/\p{Surrogate}/gu, "\ufffd");
    return splitAround(wellFormed, added).flatMap((part) =>
      typeof part === "number" ? [part] : encodePlain(part));
  }

  function unknownIn(text) {
    return [...new Set(text)].filter((c) => unkId !== null && encode(c).includes(unkId)).sort();
  }

  const lineBreak = encode("\n").at(-1);
  const startId = lineBreak === undefined || lineBreak === unkId ? 0 : lineBreak;
  return { encode, stream, unknownIn, unkId, startId, size: contents.size };
}

function kindOf({ model, normalizer, pre_tokenizer: cut, decoder }) {
  const types = [model.type, normalizer, cut?.type, decoder?.type].join(" ");
  if (types === "WordLevel  Split Fuse" && cut.pattern.Regex === "[\\s\\S]" &&
      cut.behavior === "Isolated") {
    return "characters";
  }
  if (types === "BPE  ByteLevel ByteLevel" &&
      !(model.dropout || model.continuing_subword_prefix || model.end_of_word_suffix)) {
    return "bytes";
  }
  throw new Error("the page reads tokenizers of characters and of byte-level BPE; this is another");
}

function characterEncoder(vocab, unkId) {
  return (text) => Array.from(text, (c) => vocab.get(c) ?? unkId).filter((id) => id !== null);
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

function bpeEncoder(json, vocab, unkId) {
  const ranks = new Map(json.model.merges.map((merge, rank) =>
    // Older files have "a b" for ["a", "b"]; no token holds a space.
    [Array.isArray(merge) ? merge.join(" ") : merge, rank]));
  const { add_prefix_space: addSpace, use_regex: useRegex = true } = json.pre_tokenizer;
  const letters = byteLetters();
  const known = new Map();  // the ids of words seen before

  function encodeWord(word) {
    let ids = known.get(word);
    if (!ids) {
      const spelled = Array.from(new TextEncoder().encode(word), (byte) => letters[byte])
        .filter((letter) => unkId !== null || vocab.has(letter));
      const whole = json.model.ignore_merges ? vocab.get(spelled.join("")) : undefined;
      ids = whole === undefined ? lookUp(merge(spelled, ranks)) : [whole];
      known.set(word, ids);
    }
    return ids;
  }

  function lookUp(tokens) {
    const ids = tokens.map((token) => vocab.get(token) ?? unkId).filter((id) => id !== null);
    return json.model.fuse_unk ? ids.filter((id, i) => id !== unkId || id !== ids[i - 1]) : ids;
  }

  return (text) => {
    const spaced = addSpace && !text.startsWith(" ") ? " " + text : text;
    const words = useRegex ? spaced.match(WORDS) ?? [] : [spaced];
    return words.flatMap(encodeWord);
  };
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
    if (plain.has(id)) {
      return decoder.decode() + plain.get(id);
    }
    // A character may take several tokens: the decoder holds its first bytes back.
    const spelled = Uint8Array.from(contents.get(id), (letter) => bytes.get(letter));
    return decoder.decode(spelled, { stream: true });
  };
}
