"use strict";
// Byte-pair encoding of one word of a text.

/**
 * @param {object} model of tokenizer.json.
 * @param {Map} vocab ids by tokens.
 * @returns {function} of a word, that returns its token ids.
 */
function bpeEncoder(model, vocab) {
  const merges = readMerges(model.merges, vocab);
  const known = new Map();  // the ids of words seen before

  return (word) => {
    if (!known.has(word)) {
      const whole = model.ignore_merges ? vocab.get(word) : undefined;
      const ids = whole === undefined ? merge(symbolsOf(word, model, vocab), merges) : [whole];
      known.set(word, ids);
    }
    return known.get(word);
  };
}

// The ids of single characters, before any merge: of bytes or of the unknown token, where need be.
function symbolsOf(word, model, vocab) {
  const ids = [], unkId = vocab.get(model.unk_token);
  let held = 0;  // unknown tokens that come before the next one that is known
  for (const character of word) {
    const id = vocab.get(character);
    const bytes = id === undefined && model.byte_fallback ? byteTokens(character, vocab) : null;
    if (bytes) {
      ids.push(...bytes);  // before what is held: so does the library
    } else if (id !== undefined) {
      ids.push(...Array(held).fill(unkId), id);
      held = 0;
    } else if (unkId !== undefined) {
      held = model.fuse_unk ? 1 : held + 1;
      if (held === 2) {
        ids.push(unkId);
        held = 1;
      }
    }
  }
  return Int32Array.from([...ids, ...Array(held).fill(unkId)]);
}

// The ids of a character's bytes, or null where the vocabulary lacks one.
function byteTokens(character, vocab) {
  const ids = Array.from(new TextEncoder().encode(character), (byte) =>
    vocab.get(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`));
  return ids.includes(undefined) ? null : ids;
}

// Returns { rankOf, results }: the rank of a pair of ids, or -1, and the id that each rank makes.
function readMerges(merges, vocab) {
  const ranks = new Map();  // of the left id: a map of the right one
  const results = merges.map((merge, rank) => {
    // Older files have "a b" for ["a", "b"]; there no token holds a space.
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
