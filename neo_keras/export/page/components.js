"use strict";
// What a tokenizer.json puts before and behind its model, as Hugging Face's library does it: tables
// from the type of a component to a function of its options. export/web.py has their names, and
// refuses a tokenizer with any other.

// Functions that return a function from text to text.
const NORMALIZERS = {
  NFC: () => (text) => text.normalize("NFC"),
  NFD: () => (text) => text.normalize("NFD"),
  NFKC: () => (text) => text.normalize("NFKC"),
  NFKD: () => (text) => text.normalize("NFKD"),
  Prepend: ({ prepend }) => (text) => text && prepend + text,
  Replace: ({ pattern, content }) => {
    const regex = regexOf(pattern);
    return (text) => text.replace(regex, () => content);
  },
};

// Functions that return a function from a piece of text, and whether the text begins with it, to
// pieces.
const PRE_TOKENIZERS = {
  Digits: ({ individual_digits: individual }) => {
    const pattern = individual ? /\p{N}/gu : /\p{N}+/gu;
    return (piece) => split(piece, pattern, "Isolated");
  },
  Split: ({ pattern, behavior }) => {
    const regex = regexOf(pattern);
    return (piece) => split(piece, regex, behavior);
  },
  ByteLevel: ({ add_prefix_space: addsSpace, use_regex: cuts = true }) => {
    const words = regexOf({ Regex: GPT2_WORDS });
    return (piece) => {
      const text = addsSpace && !piece.startsWith(" ") ? ` ${piece}` : piece;
      return (cuts ? split(text, words, "Isolated") : [text]).map(spellBytes);
    };
  },
  Metaspace: ({ replacement, prepend_scheme: scheme, split: cuts = true }) => {
    const pattern = regexOf({ String: replacement });
    return (piece, isFirst) => {
      const text = piece.replaceAll(" ", replacement);
      const prepends = scheme === "always" || (scheme === "first" && isFirst);
      const whole = prepends && !text.startsWith(replacement) ? replacement + text : text;
      return cuts ? split(whole, pattern, "MergedWithNext") : [whole];
    };
  },
};

// Functions that return a function from the text of a token to what it is within a text. What bytes
// are is decided before.
const DECODERS = {
  ByteLevel: () => (token) => token,
  ByteFallback: () => (token) => token,
  Fuse: () => (token) => token,
  Strip: () => (token) => token,  // of the beginning of a text, which a continuation is not
  Replace: NORMALIZERS.Replace,
  Metaspace: ({ replacement }) => (token) => token.replaceAll(replacement, " "),
};

// The functions of a component of tokenizer.json, which may be null or a Sequence.
function stepsOf(component, table) {
  const { type, normalizers, pretokenizers, decoders } = component ?? { normalizers: [] };
  const parts = normalizers ?? pretokenizers ?? decoders;
  if (parts) {
    return parts.flatMap((part) => stepsOf(part, table));
  }
  if (!Object.hasOwn(table, type)) {
    throw new Error(`the page reads tokenizers with ${Object.keys(table).join(", ")}; ` +
                    `this one has ${type}`);
  }
  return [table[type](component)];
}

// Cuts a text at the matches of a pattern; which pieces a match is joined to is its behavior.
function split(text, pattern, behavior) {
  const pieces = [];
  let end = 0;
  for (const { 0: match, index } of text.matchAll(pattern)) {
    pieces.push({ text: text.slice(end, index) }, { text: match, isMatch: true });
    end = index + match.length;
  }
  pieces.push({ text: text.slice(end) });
  const parts = pieces.filter((piece) => piece.text !== "");
  const joined = (piece, other) => piece?.isMatch && other && !other.isMatch;
  if (behavior === "Removed") {
    return parts.filter((piece) => !piece.isMatch).map((piece) => piece.text);
  }
  if (behavior === "MergedWithPrevious") {
    return parts.flatMap((piece, i) => joined(piece, parts[i - 1]) ? [] :
      joined(parts[i + 1], piece) ? [piece.text + parts[i + 1].text] : [piece.text]);
  }
  if (behavior === "MergedWithNext") {
    return parts.flatMap((piece, i) => joined(piece, parts[i + 1]) ? [] :
      joined(parts[i - 1], piece) ? [parts[i - 1].text + piece.text] : [piece.text]);
  }
  return parts.map((piece) => piece.text);
}

// GPT-2's words: contractions, letters, digits, the rest, each with the space before it.
const GPT2_WORDS =
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

// What a pattern for Oniguruma consists of, as far as JavaScript can have it.
const SYNTAX = /\\[pP]\{\w+\}|\\[^]|\[\^?|\(\?(?:i:|[:=!]|<[=!])|[^]/gu;
const ESCAPES = { s: "\\p{White_Space}", S: "\\P{White_Space}", d: "\\p{Nd}" };
// Of letters that differ in case alone, those that are not a pair.
const FOLDED = { s: "\u017f", k: "\u212a" };

// A regular expression of {Regex} or {String}, as tokenizer.json has it.
function regexOf({ Regex: pattern, String: literal }) {
  if (literal !== undefined) {
    return new RegExp(literal.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&"), "gu");
  }
  const groups = [];  // whether case matters in those that are open
  let isClass = false;
  const parts = Array.from(pattern.matchAll(SYNTAX), ([part]) => {
    if (isClass ? part === "]" : part[0] === "[") {
      isClass = !isClass;
    } else if (!isClass && part[0] === "(") {
      groups.push(groups.at(-1) || part === "(?i:");
    } else if (!isClass && part === ")") {
      groups.pop();
    } else if (part[0] === "\\") {
      return escapeOf(part, isClass);
    } else if (part === "." && !isClass) {
      return "[^\\n]";
    } else if (groups.at(-1) && /\p{L}/u.test(part)) {
      const small = part.toLowerCase(), all = small + part.toUpperCase() + (FOLDED[small] ?? "");
      return isClass ? all : `[${all}]`;
    }
    return part === "(?i:" ? "(?:" : part;
  });
  return new RegExp(parts.join(""), "gu");
}

function escapeOf(part, isClass) {
  if (/^\\[pP]\{\w{3,}\}$/.test(part)) {
    return part.replace("{", "{Script=");
  }
  // Only what means something else without it may be escaped.
  const needs = isClass ? "\\]^-[" : "^$\\.*+?()[]{}|/";
  const isPlain = !/\w/.test(part[1]) && !needs.includes(part[1]);
  return ESCAPES[part.slice(1)] ?? (isPlain ? part[1] : part);
}

// Byte-level BPE spells each byte as a visible letter: printable Latin-1 as itself, the other
// bytes, in order, as the letters from U+0100 on.
const BYTE_LETTERS = (() => {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const visible = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
    return String.fromCodePoint(visible ? byte : next++);
  });
})();

function spellBytes(text) {
  return Array.from(new TextEncoder().encode(text), (byte) => BYTE_LETTERS[byte]).join("");
}
